//! The Drive stream: the commands of all runs that one client drives.

use super::Context;
use super::frames::{End, Frame, Frames};
use crate::drivers::{Closed, Driven, LeaseEffect, Seen};
use crate::failure::of_journal;
use crate::port::Caller;
use crate::shutdown::Call;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::convert::Infallible;
use std::future::ready;
use std::task::Poll;
use std::time::Duration;
use tape_core::command::{Command, ExternalCommand, RunCommand};
use tape_core::id::RunId;
use tape_core::reply::Reply;
use tape_proto::convert::{InvalidField, RunRequest};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tape_proto::v1::run_service_server::RunServiceServer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic_prost::ProstEncoder;

/// The path of the stream's method.
pub(crate) const PATH: &str = "/tape.v1.RunService/Drive";
/// Answers that wait for a slow reader; then its commands wait too.
const ANSWERS_WAITING_MAX: usize = 256;
/// Leases that are released at the same time once a stream was closed.
const LETTING_GO_MAX: usize = 64;
/// Once no answer can be delivered any more, the transport reports why within this long.
const ENDING_PATIENCE: Duration = Duration::from_secs(1);

/// The service of runs. Its Drive stream is read message by message, so that an invalid one does not affect the others; all other calls
/// are the generated server's.
#[derive(Clone)]
pub(crate) struct Runs {
    context: Context,
    others: RunServiceServer<Context>,
}

impl Runs {
    pub(super) const fn new(context: Context, others: RunServiceServer<Context>) -> Self {
        Self { context, others }
    }
}

impl NamedService for Runs {
    const NAME: &'static str = <RunServiceServer<Context> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Runs {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == PATH {
            let response = serve(&self.context, request).unwrap_or_else(|status| status.into_http());
            return Box::pin(ready(Ok(response)));
        }
        self.others.call(request)
    }
}

/// Serves a stream until it ends.
fn serve(context: &Context, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    let call = context.0.gate.enter()?;
    let caller = request.extensions().get::<Caller>().cloned();
    let room = context.0.calls.of(caller.as_ref());
    let peer = caller.map(|caller| caller.peer);
    let (answers, messages) = mpsc::channel(ANSWERS_WAITING_MAX);
    let stream = DriveStream {
        context: context.clone(),
        answers,
        driven: context.0.drivers.stream(),
    };
    tokio::spawn(stream.run(call, Frames::new(request.into_body(), peer, room)));
    let body = EncodeBody::new_server(
        ProstEncoder::<v1::DriveResponse>::default(),
        ReceiverStream::new(messages),
        None,
        SingleMessageCompressionOverride::default(),
        None,
    );
    let mut response = http::Response::new(Body::new(body));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    Ok(response)
}

type Answers = mpsc::Sender<Result<v1::DriveResponse, Status>>;

struct DriveStream {
    context: Context,
    answers: Answers,
    driven: Driven,
}

/// A command that was executed or refused.
struct Done {
    call: u64,
    /// Its run, and its effect on the run's lease; none where the command could not be read.
    about: Option<(RunId, LeaseEffect)>,
    outcome: Result<Reply, Failure>,
}

impl DriveStream {
    async fn run(self, call: Call, mut frames: Frames) {
        let mut under_way = FuturesUnordered::new();
        let max = usize::try_from(self.context.0.max_commands).unwrap_or(usize::MAX);
        let end = loop {
            tokio::select! {
                // Answers take precedence over new commands.
                biased;
                Some(done) = under_way.next() => {
                    if self.answer(done).await.is_err() {
                        let ended = tokio::time::timeout(ENDING_PATIENCE, frames.ended()).await;
                        break ended.unwrap_or(End::Broken);
                    }
                }
                () = call.closing() => break End::Broken,
                frame = frames.next(), if under_way.len() < max => match frame {
                    Ok(frame) => under_way.push(carry_out(self.context.clone(), frame)),
                    Err(end) => break end,
                },
            }
        };
        // An accepted command may be decided already, so it is completed, also because of leases that it takes.
        while let Some(done) = under_way.next().await {
            // Once the reader is gone, only the answer's effect on leases counts.
            let _ = self.answer(done).await;
        }
        if call.is_closing() {
            let _ = self.answers.send(Err(Failure::Draining.into())).await;
        } else if end == End::Closed {
            let closed = self.driven.closed();
            if !closed.is_empty() {
                tokio::spawn(let_go(self.context, closed));
            }
        }
    }

    async fn answer(
        &self,
        done: Done,
    ) -> Result<(), mpsc::error::SendError<Result<v1::DriveResponse, Status>>> {
        if let Some((run, effect)) = &done.about {
            match &done.outcome {
                Ok(reply) => self.driven.note(run, *effect, reply),
                Err(Failure::Rejected(rejection)) => self.driven.note_refusal(run, *effect, rejection),
                Err(_) => {}
            }
        }
        let outcome = match done.outcome {
            Ok(reply) => Outcome::Reply(reply.into()),
            Err(failure) => Outcome::Error(failure.error(self.context.retry_after(&failure))),
        };
        self.answers
            .send(Ok(v1::DriveResponse {
                call: done.call,
                outcome: Some(outcome),
            }))
            .await
    }
}

async fn carry_out(context: Context, frame: Frame) -> Done {
    let refused = |call, problem: InvalidField| Done {
        call,
        about: None,
        outcome: Err(problem.into()),
    };
    let (request, _held) = match frame {
        Frame::Command(request, held) => (request, held),
        Frame::Bad { call, problem } => return refused(call, problem),
    };
    let call = request.call;
    match request.try_into() {
        Ok(RunRequest { run, command }) => {
            let effect = LeaseEffect::of(&command.body);
            let outcome = context.engine().run(&run, command).await.map_err(of_journal);
            Done {
                call,
                about: Some((run, effect)),
                outcome,
            }
        }
        Err(invalid) => refused(call, invalid),
    }
}

/// Releases the leases of a client that closed its stream and has not reconnected within the grace period.
async fn let_go(context: Context, closed: Closed) {
    tokio::time::sleep(Duration::from_millis(context.0.lease_grace_ms)).await;
    let gone = closed
        .gone()
        .into_iter()
        .map(|(run, seen)| release(&context, run, seen));
    futures::stream::iter(gone)
        .buffer_unordered(LETTING_GO_MAX)
        .collect::<()>()
        .await;
}

/// Releases one lease, unless its driver has written an entry that this server did not see.
async fn release(context: &Context, run: RunId, Seen { epoch, seq }: Seen) {
    let vanished = RunCommand::External(ExternalCommand::DriverVanished {
        epoch,
        seen: seq,
        grace_ms: 0,
    });
    let command = Command::new(context.engine().request_id(), vanished);
    if let Err(error) = context.engine().run(&run, command).await {
        // The lease then ends by time.
        tracing::debug!(run = %tape_core::id::StreamId::Run(run), %error, "the lease of a vanished driver stays");
    }
}
