//! A sink of one's own: a queue that is spoken to in lines over TCP.
//!
//! For each event the sink writes a line of JSON, and the queue answers with a line: `ok` once it has the event on disk, `never` where it
//! will not take it, anything else where it cannot now. `cargo run -p tape-relay --features testing --example own_sink -- ADDRESS` sends one
//! event. `tests/own_sink.rs` holds the sink to the tests that every sink has to pass.

use async_trait::async_trait;
use std::io;
use std::time::Duration;
use tape_relay::by_stream::by_stream;
use tape_relay::event::Event;
use tape_relay::sink::{Sink, SinkError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the queue may take for an event.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Streams whose events are sent at once, each over a connection of its own.
const CONCURRENCY: usize = 4;
/// The longest line that the queue answers, in bytes.
const ANSWER_BYTES_MAX: u64 = 1_024;

/// A queue at an address.
#[derive(Clone, Debug)]
pub struct LineQueue {
    address: String,
}

impl LineQueue {
    /// The queue at `HOST:PORT`.
    pub fn new(address: impl Into<String>) -> Self {
        let address = address.into();
        Self { address }
    }

    /// Sends an event and returns the queue's answer.
    async fn send(&self, event: &Event) -> io::Result<String> {
        let mut line = event.to_json();
        line.push(b'\n');
        let mut connection = TcpStream::connect(&self.address).await?;
        connection.write_all(&line).await?;
        let mut answer = String::new();
        let limited = connection.take(ANSWER_BYTES_MAX);
        BufReader::new(limited).read_line(&mut answer).await?;
        Ok(answer)
    }
}

#[async_trait]
impl Sink for LineQueue {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        by_stream(events, CONCURRENCY, |event| async move {
            match timeout(TIME_LIMIT, self.send(event)).await {
                Ok(Ok(answer)) if answer == "ok\n" => Ok(()),
                Ok(Ok(answer)) if answer == "never\n" => Err(SinkError::refused("the queue says never")),
                Ok(Ok(answer)) => Err(SinkError::unavailable(format!(
                    "the queue says '{}'",
                    answer.trim()
                ))),
                Ok(Err(error)) => Err(SinkError::unavailable(error)),
                Err(_) => Err(SinkError::unavailable("the queue does not answer")),
            }
        })
        .await
    }
}

#[tokio::main]
async fn main() {
    let address = std::env::args()
        .nth(1)
        .expect("the address of the queue is the argument");
    let event = tape_relay::conformance::pen::Pen::new("acme/value/rate").event(&serde_json::json!(1.25));
    let answers = LineQueue::new(address)
        .deliver(std::slice::from_ref(&event))
        .await;
    eprintln!("{}: {:?}", event.id(), answers[0]);
}
