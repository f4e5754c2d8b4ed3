//! The one stream on which a client drives all its runs.
//!
//! Answers come in any order and are matched by number. When the stream breaks, everybody who waits is told to try again;
//! they send the same request by its id, on the next stream.

use crate::backend::Failure;
use std::collections::HashMap;
use tape_proto::failure::Failure as Wire;
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tape_proto::v1::runs_client::RunsClient;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

/// Most commands that wait to be sent.
const WAITING_MAX: usize = 1024;

type Answer = oneshot::Sender<Result<v1::ExecuteResponse, Failure>>;

#[derive(Debug)]
pub(super) struct Drive {
    commands: mpsc::Sender<Asked>,
    lost: watch::Receiver<u64>,
}

#[derive(Debug)]
struct Asked {
    request: v1::ExecuteRequest,
    answer: Answer,
}

impl Drive {
    /// Starts the task that keeps the stream. It ends with the last clone of the client.
    pub(super) fn new(runs: RunsClient<Channel>) -> Self {
        let (commands, asked) = mpsc::channel(WAITING_MAX);
        let (losing, lost) = watch::channel(0);
        tokio::spawn(keep(runs, asked, losing));
        Self { commands, lost }
    }

    pub(super) async fn ask(&self, request: v1::ExecuteRequest) -> Result<v1::ExecuteResponse, Failure> {
        let (answer, answered) = oneshot::channel();
        let gone = || Failure::Retryable("the connection was lost before the answer".into());
        self.commands
            .send(Asked { request, answer })
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    pub(super) fn lost_connections(&self) -> watch::Receiver<u64> {
        self.lost.clone()
    }
}

async fn keep(mut runs: RunsClient<Channel>, mut asked: mpsc::Receiver<Asked>, lost: watch::Sender<u64>) {
    while let Some(first) = asked.recv().await {
        let mut connection = Connection::new(first);
        let (outgoing, failure) = match runs.drive(connection.outgoing()).await {
            Ok(answers) => (true, connection.work(answers.into_inner(), &mut asked).await),
            Err(status) => (false, Some(status)),
        };
        let Some(status) = failure else { return };
        tracing::debug!(%status, "the connection to the server was lost");
        connection.fail(&status);
        if outgoing {
            lost.send_modify(|n| *n += 1);
        }
    }
}

/// One life of the stream.
struct Connection {
    send: mpsc::UnboundedSender<v1::DriveRequest>,
    /// Bounded by those who wait: each has one command under way.
    sent: Option<mpsc::UnboundedReceiver<v1::DriveRequest>>,
    waiting: HashMap<u64, Answer>,
    calls: u64,
}

impl Connection {
    fn new(first: Asked) -> Self {
        let (send, sent) = mpsc::unbounded_channel();
        let mut connection = Self {
            send,
            sent: Some(sent),
            waiting: HashMap::new(),
            calls: 0,
        };
        connection.ask(first);
        connection
    }

    fn outgoing(&mut self) -> UnboundedReceiverStream<v1::DriveRequest> {
        UnboundedReceiverStream::new(self.sent.take().expect("a connection is opened once"))
    }

    fn ask(&mut self, Asked { request, answer }: Asked) {
        // Who no longer waits tries again by the request's id.
        if answer.is_closed() {
            return;
        }
        self.calls += 1;
        self.waiting.insert(self.calls, answer);
        // Where the stream is gone, the answers' end is told next, and fails those who wait.
        let _ = self.send.send(v1::DriveRequest {
            call: self.calls,
            request: Some(request),
        });
    }

    /// Until the stream breaks, with its status, or until the client is gone.
    async fn work(
        &mut self,
        mut answers: tonic::Streaming<v1::DriveResponse>,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Option<tonic::Status> {
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answer(answer),
                    Ok(None) => return Some(tonic::Status::unavailable("the server ended the stream")),
                    Err(status) => return Some(status),
                },
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
            Some(Outcome::Error(error)) => Err(Wire::from(error).into()),
            None => Err(Failure::Fatal("the server's answer has no outcome".into())),
        };
        // Who no longer waits has no use for it.
        let _ = answer.send(outcome);
    }

    fn fail(&mut self, status: &tonic::Status) {
        for (_, answer) in self.waiting.drain() {
            let _ = answer.send(Err(status.clone().into()));
        }
    }
}
