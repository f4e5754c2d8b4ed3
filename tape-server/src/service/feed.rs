//! The feed of entries.

use super::{Context, Messages, tail};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::feed_service_server::FeedService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl FeedService for Context {
    type TailStream = Messages<v1::TailResponse>;

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = tail::Request::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| tail::serve(context, request, sink))
    }
}
