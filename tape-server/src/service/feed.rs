//! The feed of entries, and due work.

use super::{Context, Messages, due, tail};
use tape_proto::convert::DueQuery;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::feed_server::Feed;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Feed for Context {
    type TailStream = Messages<v1::TailResponse>;
    type DueStream = Messages<v1::DueResponse>;

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = tail::Request::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| tail::serve(context, request, sink))
    }

    async fn due(&self, request: Request<v1::DueRequest>) -> Result<Response<Self::DueStream>, Status> {
        let query = DueQuery::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| due::serve(context, query, sink))
    }
}
