//! The example of a sink of one's own passes the conformance suite.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, unreachable_pub, reason = "it is a program")]
#[path = "../examples/own_sink.rs"]
mod own_sink;

use async_trait::async_trait;
use own_sink::LineQueue;
use std::sync::{Arc, Mutex};
use tape_relay::conformance::{Fault, Fixture, Received};
use tape_relay::sink::Sink;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Queue {
    taken: Vec<Received>,
    fault: Fault,
}

impl Queue {
    fn answer(&mut self, line: &str) -> &'static str {
        let one = Received::from_json(line.as_bytes());
        match &self.fault {
            Fault::Down => return "no\n",
            Fault::FailsAt(id) if *id == one.id => return "no\n",
            Fault::Refuses(id) if *id == one.id => return "never\n",
            _ => self.taken.push(one),
        }
        "ok\n"
    }
}

#[derive(Debug)]
struct Server {
    queue: Arc<Mutex<Queue>>,
    sink: Arc<LineQueue>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = Arc::new(LineQueue::new(listener.local_addr().unwrap().to_string()));
        let queue = Arc::new(Mutex::new(Queue::default()));
        let shared = Arc::clone(&queue);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&shared)));
            }
        });
        Self { queue, sink, task }
    }
}

async fn serve(connection: TcpStream, queue: Arc<Mutex<Queue>>) {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    // A sink whose call was abandoned closes the connection within the line.
    if connection.read_line(&mut line).await.is_ok() && line.ends_with('\n') {
        let answer = queue.lock().unwrap().answer(&line);
        drop(connection.write_all(answer.as_bytes()).await);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Fixture for Server {
    fn sink(&self) -> Arc<dyn Sink> {
        Arc::clone(&self.sink) as _
    }
    async fn received(&self) -> Option<Vec<Received>> {
        Some(self.queue.lock().unwrap().taken.clone())
    }
    async fn fail(&self, fault: Fault) -> bool {
        // The queue has no word for being gone.
        let can = fault != Fault::Gone;
        self.queue.lock().unwrap().fault = fault;
        can
    }
    async fn reopen(&self) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(LineQueue::clone(&self.sink)))
    }
}

tape_relay::conformance!(|| async { Server::start().await });
