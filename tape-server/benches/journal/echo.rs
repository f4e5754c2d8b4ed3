//! A unary echo over the same gRPC stack: the cost of a call without work.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tape_proto::codec::Codec;
use tape_proto::v1::Payload;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// The service, for this benchmark only.
#[derive(Clone, Copy)]
pub(crate) struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl UnaryService<Payload> for Echo {
    type Response = Payload;
    type Future = std::future::Ready<Result<Response<Payload>, Status>>;
    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            Ok(tonic::server::Grpc::new(Codec::default())
                .unary(Self, request)
                .await)
        })
    }
}

/// Echoes by `callers` callers at once, spread over the channels.
pub(crate) async fn echoes(channels: &[Channel], callers: usize, bytes: usize, span: Duration) -> usize {
    let end = Instant::now() + span;
    let callers: Vec<_> = (0..callers)
        .map(|i| tokio::spawn(caller(channels[i % channels.len()].clone(), bytes, end)))
        .collect();
    let mut count = 0;
    for caller in callers {
        count += caller.await.expect("no caller panics");
    }
    count
}

async fn caller(channel: Channel, bytes: usize, end: Instant) -> usize {
    let message = Payload {
        content_type: String::new(),
        data: vec![1; bytes].into(),
    };
    let mut grpc = tonic::client::Grpc::new(channel);
    let mut count = 0;
    while Instant::now() < end {
        grpc.ready().await.expect("the server is there");
        let path = http::uri::PathAndQuery::from_static("/bench.Echo/Echo");
        let codec = Codec::<Payload, Payload>::default();
        grpc.unary(Request::new(message.clone()), path, codec)
            .await
            .expect("the echo answers");
        count += 1;
    }
    count
}
