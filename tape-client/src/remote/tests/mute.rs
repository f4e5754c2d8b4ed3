//! A server that takes connections, answers pings and drivers, and says nothing else.

use super::watch;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use std::convert::Infallible;
use std::future::pending;
use std::marker::PhantomData;
use std::task::Poll;
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tape_proto::v1::entries_server::EntriesServer;
use tape_proto::v1::execute_response::{Leased, Result as Reply};
use tape_proto::v1::feed_server::FeedServer;
use tape_proto::v1::retention_server::RetentionServer;
use tape_proto::v1::runs_server::{Runs, RunsServer};
use tape_proto::v1::sessions_server::SessionsServer;
use tape_proto::v1::values_server::ValuesServer;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::server::{Server, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

/// What becomes of a read of a run's entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reads {
    Unanswered,
    /// It is opened, and no page comes.
    Opened,
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
            .add_service(RunsServer::new(runs))
            .add_service(Hangs::<SessionsServer<()>>(PhantomData))
            .add_service(Hangs::<ValuesServer<()>>(PhantomData))
            .add_service(Hangs::<FeedServer<()>>(PhantomData))
            .add_service(Hangs::<EntriesServer<()>>(PhantomData))
            .add_service(Hangs::<RetentionServer<()>>(PhantomData))
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

/// The service of runs: drivers are given their lease.
struct Drivers {
    reads: Reads,
    asked: watch::Sender<usize>,
}

type Messages<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl Runs for Drivers {
    type DriveStream = Messages<v1::DriveResponse>;
    type ReadStream = Messages<v1::ReadResponse>;

    async fn drive(
        &self,
        commands: Request<Streaming<v1::DriveRequest>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        let answers = commands.into_inner().map(|command| {
            let leased = Leased {
                epoch: 1,
                until_us: 4_000_000_000_000_000,
            };
            let reply = v1::ExecuteResponse {
                seq: 2,
                result: Some(Reply::Leased(leased)),
            };
            Ok(v1::DriveResponse {
                call: command?.call,
                outcome: Some(Outcome::Reply(reply)),
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn read(&self, _: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.asked.send_modify(|asked| *asked += 1);
        match self.reads {
            Reads::Unanswered => pending().await,
            Reads::Opened => Ok(Response::new(futures::stream::pending().boxed())),
        }
    }

    async fn execute(&self, _: Request<v1::ExecuteRequest>) -> Result<Response<v1::ExecuteResponse>, Status> {
        pending().await
    }

    async fn get(&self, _: Request<v1::GetRunRequest>) -> Result<Response<v1::GetRunResponse>, Status> {
        pending().await
    }

    async fn list(&self, _: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        pending().await
    }
}
