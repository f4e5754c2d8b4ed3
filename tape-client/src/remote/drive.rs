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
use tonic::{Status, Streaming};

/// Most commands that wait to be sent.
const WAITING_MAX: usize = 1024;

type Answer = oneshot::Sender<Result<v1::Reply, JournalError>>;

#[derive(Debug)]
pub(super) struct Drive {
    commands: mpsc::Sender<Asked>,
}

#[derive(Debug)]
struct Asked {
    request: Box<v1::DriveRequest>,
    answer: Answer,
}

impl Drive {
    /// Starts the task that keeps the stream. It ends with the last clone of the client. Each stream that breaks is counted in `lost`.
    pub(super) fn new(link: Link, lost: Arc<watch::Sender<u64>>) -> Self {
        let (commands, asked) = mpsc::channel(WAITING_MAX);
        tokio::spawn(keep(link, asked, lost));
        Self { commands }
    }

    pub(super) async fn ask(&self, request: Box<v1::DriveRequest>) -> Result<v1::Reply, JournalError> {
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
        let opened = tokio::select! {
            // A connection that was given up is not used, also where it opens at last.
            biased;
            _ = changes.changed() => Err(failed(given_up())),
            opened = open(&link, number, connection.outgoing()) => opened,
        };
        let answers = match opened {
            Ok(answers) => answers,
            Err(failure) => {
                tracing::debug!(error = %failure, "the server does not open a stream");
                connection.refuse(failure);
                continue;
            }
        };
        let Some(status) = connection.work(answers, &mut asked, &mut changes).await else {
            return;
        };
        tracing::debug!(%status, "the connection to the server was lost");
        leave_draining(&link, number, &status);
        link.agree_anew(number);
        connection.break_off(&status);
        lost.send_modify(|n| *n += 1);
    }
}

async fn open(
    link: &Link,
    number: u64,
    commands: UnboundedReceiverStream<v1::DriveRequest>,
) -> Result<Streaming<v1::DriveResponse>, JournalError> {
    let mut runs = runs(link.channel().await?);
    let opened = runs.drive(commands).await;
    let opened = opened.inspect_err(|status| leave_draining(link, number, status));
    Ok(opened.map_err(failed)?.into_inner())
}

/// Gives up the connection to a server that is shutting down: it leads to no other server.
fn leave_draining(link: &Link, number: u64, status: &Status) {
    if matches!(Wire::from(status), Wire::Draining) {
        link.give_up(number);
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

    fn ask(&mut self, Asked { mut request, answer }: Asked) {
        // The caller no longer waits. It may repeat the request by its id.
        if answer.is_closed() {
            return;
        }
        self.calls += 1;
        self.waiting.insert(self.calls, answer);
        // If the stream is gone, its answers end next, and that fails the waiting calls.
        request.call = self.calls;
        let _ = self.send.send(*request);
    }

    /// Works until the stream breaks, and returns its status; or until the client is gone.
    async fn work(
        &mut self,
        mut answers: Streaming<v1::DriveResponse>,
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

    /// Tells the first call, which waits alone, why the stream was not opened.
    fn refuse(mut self, failure: JournalError) {
        if let Some((_, answer)) = self.waiting.pop_first() {
            let _ = answer.send(Err(failure));
        }
    }

    /// Tells the waiting calls that the stream is gone. Its status says nothing about their commands, so they try again.
    fn break_off(&mut self, status: &Status) {
        for answer in std::mem::take(&mut self.waiting).into_values() {
            let failure = JournalError::Unavailable(Wire::from(status).into());
            let _ = answer.send(Err(failure));
        }
    }
}
