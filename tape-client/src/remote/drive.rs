//! A stream on which a client drives its runs.
//!
//! Answers come in any order and are matched by number. When the stream breaks, every waiting call is told to try again. It sends the same
//! request, by its id, on the next stream.

use super::failure::failed;
use super::link::Link;
use super::runs;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_api::JournalError;
use tape_proto::failure::Failure as Wire;
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

/// Most commands that wait to be sent.
const WAITING_MAX: usize = 1024;

type Answer = oneshot::Sender<Result<v1::ExecuteResponse, JournalError>>;

#[derive(Debug)]
pub(super) struct Drive {
    commands: mpsc::Sender<Asked>,
}

#[derive(Debug)]
struct Asked {
    request: v1::ExecuteRequest,
    answer: Answer,
}

impl Drive {
    /// Starts the task that keeps the stream. It ends with the last clone of the client. Each stream that breaks is counted in `lost`.
    pub(super) fn new(link: Link, lost: Arc<watch::Sender<u64>>) -> Self {
        let (commands, asked) = mpsc::channel(WAITING_MAX);
        tokio::spawn(keep(link, asked, lost));
        Self { commands }
    }

    pub(super) async fn ask(&self, request: v1::ExecuteRequest) -> Result<v1::ExecuteResponse, JournalError> {
        let (answer, answered) = oneshot::channel();
        let gone = || JournalError::Unavailable("the connection was lost before the answer".into());
        self.commands
            .send(Asked { request, answer })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn keep(link: Link, mut asked: mpsc::Receiver<Asked>, lost: Arc<watch::Sender<u64>>) {
    while let Some(first) = asked.recv().await {
        let mut changes = link.changes();
        let number = *changes.borrow_and_update();
        let mut connection = Connection::new(first);
        let mut runs = runs(link.channel());
        let opened = tokio::select! {
            // A connection that was given up is not used, also where it opens at last.
            biased;
            _ = changes.changed() => Err(given_up()),
            opened = runs.drive(connection.outgoing()) => opened,
        };
        let (open, failure) = match opened {
            Ok(answers) => (
                true,
                connection
                    .work(answers.into_inner(), &mut asked, &mut changes)
                    .await,
            ),
            Err(status) => (false, Some(status)),
        };
        let Some(status) = failure else { return };
        tracing::debug!(%status, "the connection to the server was lost");
        if matches!(Wire::from(&status), Wire::Draining) {
            // The server is shutting down. This connection leads to no other server.
            link.give_up(number);
        }
        connection.fail(&status, open);
        if open {
            lost.send_modify(|n| *n += 1);
        }
    }
}

fn given_up() -> Status {
    Status::unavailable("the connection was given up for another")
}

/// One life of the stream.
struct Connection {
    send: mpsc::UnboundedSender<v1::DriveRequest>,
    /// Bounded by the waiting calls: each has one command under way.
    sent: Option<mpsc::UnboundedReceiver<v1::DriveRequest>>,
    waiting: BTreeMap<u64, Answer>,
    calls: u64,
}

impl Connection {
    fn new(first: Asked) -> Self {
        let (send, sent) = mpsc::unbounded_channel();
        let mut connection = Self {
            send,
            sent: Some(sent),
            waiting: BTreeMap::new(),
            calls: 0,
        };
        connection.ask(first);
        connection
    }

    fn outgoing(&mut self) -> UnboundedReceiverStream<v1::DriveRequest> {
        UnboundedReceiverStream::new(self.sent.take().expect("a connection is opened once"))
    }

    fn ask(&mut self, Asked { request, answer }: Asked) {
        // The caller no longer waits. It may repeat the request by its id.
        if answer.is_closed() {
            return;
        }
        self.calls += 1;
        self.waiting.insert(self.calls, answer);
        // If the stream is gone, its answers end next, and that fails the waiting calls.
        let _ = self.send.send(v1::DriveRequest {
            call: self.calls,
            request: Some(request),
        });
    }

    /// Works until the stream breaks, and returns its status; or until the client is gone.
    async fn work(
        &mut self,
        mut answers: tonic::Streaming<v1::DriveResponse>,
        asked: &mut mpsc::Receiver<Asked>,
        changes: &mut watch::Receiver<u64>,
    ) -> Option<Status> {
        loop {
            tokio::select! {
                // Answers that are there count, also where the connection is given up. There are never more than commands that wait.
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answer(answer),
                    Ok(None) => return Some(Status::unavailable("the server ended the stream")),
                    Err(status) => return Some(status),
                },
                _ = changes.changed() => return Some(given_up()),
                command = asked.recv() => self.ask(command?),
            }
        }
    }

    fn answer(&mut self, response: v1::DriveResponse) {
        let Some(answer) = self.waiting.remove(&response.call) else {
            return;
        };
        let outcome = match response.outcome {
            Some(Outcome::Reply(reply)) => Ok(reply),
            Some(Outcome::Error(error)) => Err(failed(error)),
            None => Err(JournalError::Damaged("the server's answer has no outcome".into())),
        };
        // The caller may no longer wait.
        let _ = answer.send(outcome);
    }

    /// Tells the waiting calls that the stream is gone. If it was open, its status says nothing about their commands, so they try again.
    fn fail(&mut self, status: &Status, open: bool) {
        for answer in std::mem::take(&mut self.waiting).into_values() {
            let failure = match open {
                true => JournalError::Unavailable(Wire::from(status).into()),
                false => failed(status.clone()),
            };
            let _ = answer.send(Err(failure));
        }
    }
}
