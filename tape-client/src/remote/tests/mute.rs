//! A server that takes connections, answers pings and drivers, and says nothing else.

use super::watch;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use std::convert::Infallible;
use std::future::pending;
use std::marker::PhantomData;
use std::task::Poll;
use tape_proto::codec::Codec;
use tape_proto::convert::{Program, Side};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tape_proto::v1::feed_service_server::FeedServiceServer;
use tape_proto::v1::reply::{Leased, Result as Replied};
use tape_proto::v1::retention_service_server::RetentionServiceServer;
use tape_proto::v1::run_service_server::RunServiceServer;
use tape_proto::v1::server_service_server::{ServerService, ServerServiceServer};
use tape_proto::v1::session_service_server::SessionServiceServer;
use tape_proto::v1::stream_service_server::StreamServiceServer;
use tape_proto::v1::value_service_server::ValueServiceServer;
use tape_proto::v1::work_service_server::WorkServiceServer;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService, StreamingService};
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

/// What becomes of a read of a run's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Unanswered,
    /// It is opened, and no page comes.
    Opened,
    /// The server has no version in common with any client.
    Refused,
}

pub(super) struct Mute {
    pub(super) address: String,
    reads: watch::Sender<usize>,
    serving: JoinHandle<()>,
}

impl Mute {
    pub(super) async fn start(reads: Reads) -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap().to_string();
        let asked = watch::Sender::new(0);
        let runs = Drivers {
            reads,
            asked: asked.clone(),
        };
        let serving = Server::builder()
            .add_service(ServerServiceServer::new(Agrees {
                with_all: reads != Reads::Refused,
            }))
            .add_service(runs)
            .add_service(Hangs::<WorkServiceServer<()>>(PhantomData))
            .add_service(Hangs::<SessionServiceServer<()>>(PhantomData))
            .add_service(Hangs::<ValueServiceServer<()>>(PhantomData))
            .add_service(Hangs::<FeedServiceServer<()>>(PhantomData))
            .add_service(Hangs::<StreamServiceServer<()>>(PhantomData))
            .add_service(Hangs::<RetentionServiceServer<()>>(PhantomData))
            .serve_with_incoming(incoming);
        Self {
            address,
            reads: asked,
            serving: tokio::spawn(async { serving.await.unwrap() }),
        }
    }

    /// How many reads of a run's entries the server was asked for.
    pub(super) fn reads(&self) -> usize {
        *self.reads.borrow()
    }

    /// Waits until it was asked for more than `before`.
    pub(super) async fn reads_beyond(&self, before: usize) {
        let mut reads = self.reads.subscribe();
        reads.wait_for(|reads| *reads > before).await.unwrap();
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A service that answers nothing.
struct Hangs<S>(PhantomData<fn() -> S>);

impl<S> Clone for Hangs<S> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<S: NamedService> NamedService for Hangs<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Hangs<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        Box::pin(pending())
    }
}

/// It agrees on versions, as every server does first; or is of a build with none in common.
struct Agrees {
    with_all: bool,
}

#[tonic::async_trait]
impl ServerService for Agrees {
    async fn negotiate(
        &self,
        request: Request<v1::NegotiateRequest>,
    ) -> Result<Response<v1::NegotiateResponse>, Status> {
        if !self.with_all {
            let mismatch = Failure::VersionMismatch {
                what: "contract".to_owned(),
                client: request.into_inner().client,
                server: "tape-server/9.0.0".to_owned(),
                client_versions: "1-1".to_owned(),
                server_versions: "7-9".to_owned(),
                upgrade: Side::Client,
            };
            return Err(mismatch.into());
        }
        Ok(Response::new(Program::of_this_build("mute").into()))
    }

    async fn who_am_i(&self, _: Request<v1::WhoAmIRequest>) -> Result<Response<v1::WhoAmIResponse>, Status> {
        pending().await
    }
}

/// The service of runs: drivers are given their lease, and readers are counted.
#[derive(Clone)]
struct Drivers {
    reads: Reads,
    asked: watch::Sender<usize>,
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;
type Answered<T> = BoxFuture<'static, Result<Response<Messages<T>>, Status>>;

impl NamedService for Drivers {
    const NAME: &'static str = RunServiceServer::<()>::NAME;
}

impl Service<http::Request<Body>> for Drivers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        match request.uri().path().rsplit('/').next() {
            Some("Drive") => Box::pin(async move {
                let mut grpc = Grpc::new(Codec::<v1::DriveResponse, v1::DriveRequest>::default());
                Ok(grpc.streaming(service, request).await)
            }),
            Some("ReadRun") => Box::pin(async move {
                let mut grpc = Grpc::new(Codec::<v1::ReadRunResponse, v1::ReadRunRequest>::default());
                Ok(grpc.server_streaming(service, request).await)
            }),
            _ => Box::pin(pending()),
        }
    }
}

impl StreamingService<v1::DriveRequest> for Drivers {
    type Response = v1::DriveResponse;
    type ResponseStream = Messages<v1::DriveResponse>;
    type Future = Answered<v1::DriveResponse>;

    fn call(&mut self, commands: Request<Streaming<v1::DriveRequest>>) -> Self::Future {
        let answers = commands.into_inner().map(|command| {
            let leased = Leased {
                epoch: 1,
                until_us: 4_000_000_000_000_000,
            };
            let reply = v1::Reply {
                seq: 2,
                result: Some(Replied::Leased(leased)),
            };
            Ok(v1::DriveResponse {
                call: command?.call,
                outcome: Some(Outcome::Reply(reply)),
            })
        });
        Box::pin(async { Ok(Response::new(answers.boxed())) })
    }
}

impl ServerStreamingService<v1::ReadRunRequest> for Drivers {
    type Response = v1::ReadRunResponse;
    type ResponseStream = Messages<v1::ReadRunResponse>;
    type Future = Answered<v1::ReadRunResponse>;

    fn call(&mut self, _: Request<v1::ReadRunRequest>) -> Self::Future {
        self.asked.send_modify(|asked| *asked += 1);
        let reads = self.reads;
        Box::pin(async move {
            match reads {
                Reads::Unanswered | Reads::Refused => pending().await,
                Reads::Opened => Ok(Response::new(futures::stream::pending().boxed())),
            }
        })
    }
}
