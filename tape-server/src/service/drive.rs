//! The Drive stream: the commands of all runs that one client drives.

use super::{Context, Messages};
use crate::drivers::{Driven, Grip, Seen};
use crate::failure::of_journal;
use crate::shutdown::Call;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tape_core::command::{Command, OutsideCommand, RunCommand};
use tape_core::id::RunId;
use tape_core::reply::Reply;
use tape_proto::convert::{ExecuteCommand, InvalidField};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

/// Answers that wait for a slow reader; then its commands wait too.
const ANSWERS_WAITING_MAX: usize = 256;
/// Leases that are let go at the same time once a stream has ended.
const LETTING_GO_MAX: usize = 64;

/// Serves a stream until it ends.
pub(super) fn serve(
    context: &Context,
    commands: Streaming<v1::DriveRequest>,
) -> Result<Response<Messages<v1::DriveResponse>>, Status> {
    let call = context.0.gate.enter()?;
    let (answers, messages) = mpsc::channel(ANSWERS_WAITING_MAX);
    let stream = DriveStream {
        context: context.clone(),
        answers,
        driven: context.0.drivers.stream(),
    };
    tokio::spawn(stream.run(call, commands));
    Ok(Response::new(ReceiverStream::new(messages)))
}

struct DriveStream {
    context: Context,
    answers: mpsc::Sender<Result<v1::DriveResponse, Status>>,
    driven: Driven,
}

/// A command that was carried out, or not.
struct Done {
    call: u64,
    /// Whose run it was, and what it said about that; none where it could not be read.
    about: Option<(RunId, Grip)>,
    outcome: Result<Reply, Failure>,
}

impl DriveStream {
    async fn run(mut self, call: Call, mut commands: Streaming<v1::DriveRequest>) {
        let mut under_way = FuturesUnordered::new();
        let max = usize::try_from(self.context.0.max_commands).unwrap_or(usize::MAX);
        loop {
            tokio::select! {
                // Answers come first: a client that waits is worth more than one that asks.
                biased;
                Some(done) = under_way.next() => {
                    if self.answer(done).await.is_err() {
                        break;
                    }
                }
                () = call.closing() => break,
                command = commands.message(), if under_way.len() < max => match command {
                    Ok(Some(command)) => under_way.push(carry_out(self.context.clone(), command)),
                    // The client has closed its side, or is gone.
                    Ok(None) | Err(_) => break,
                },
            }
        }
        // What was taken may be decided already, so it is seen to its end, also for the sake of leases that it takes.
        while let Some(done) = under_way.next().await {
            // Where nobody reads any more, only what the answer says of leases counts.
            let _ = self.answer(done).await;
        }
        if call.is_closing() {
            let _ = self.answers.send(Err(Failure::Draining.into())).await;
        } else {
            let_go(&self.context, self.driven.closed().gone()).await;
        }
    }

    async fn answer(
        &mut self,
        done: Done,
    ) -> Result<(), mpsc::error::SendError<Result<v1::DriveResponse, Status>>> {
        if let Some((run, grip)) = &done.about {
            match &done.outcome {
                Ok(reply) => self.driven.note(run, *grip, reply),
                Err(Failure::Rejected(rejection)) => self.driven.note_refusal(run, *grip, rejection),
                Err(_) => {}
            }
        }
        let outcome = match done.outcome {
            Ok(reply) => Outcome::Reply(reply.into()),
            Err(failure) => Outcome::Error((&failure).into()),
        };
        self.answers
            .send(Ok(v1::DriveResponse {
                call: done.call,
                outcome: Some(outcome),
            }))
            .await
    }
}

async fn carry_out(context: Context, wire: v1::DriveRequest) -> Done {
    let call = wire.call;
    match read(wire.request) {
        Ok(ExecuteCommand { run, command }) => {
            let grip = Grip::of(&command.body);
            let outcome = context.engine().run(&run, command).await.map_err(of_journal);
            Done {
                call,
                about: Some((run, grip)),
                outcome,
            }
        }
        Err(invalid) => Done {
            call,
            about: None,
            outcome: Err(invalid.into()),
        },
    }
}

fn read(request: Option<v1::ExecuteRequest>) -> Result<ExecuteCommand, InvalidField> {
    let request = request.ok_or_else(|| InvalidField::missing("request"))?;
    ExecuteCommand::try_from(request).map_err(|error| error.within("request"))
}

/// Lets go of the leases of a driver that vanished.
async fn let_go(context: &Context, runs: Vec<(RunId, Seen)>) {
    let gone = runs.into_iter().map(|(run, seen)| async move {
        let grace_ms = context.0.lease_grace_ms;
        let vanished = RunCommand::Tell(OutsideCommand::DriverVanished {
            epoch: seen.epoch,
            seen: seen.seq,
            grace_ms,
        });
        let command = Command::new(context.engine().request_id(), vanished);
        if let Err(error) = context.engine().run(&run, command).await {
            // The lease ends by time then.
            tracing::debug!(run = %tape_core::id::StreamId::Run(run), %error, "the lease of a vanished driver stays");
        }
    });
    futures::stream::iter(gone)
        .buffer_unordered(LETTING_GO_MAX)
        .collect::<()>()
        .await;
}
