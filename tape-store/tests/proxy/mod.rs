//! A TCP proxy between a store and its database that loses, cuts and delays traffic.

#![allow(dead_code, reason = "each test file needs some of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    /// The port that new connections lead to.
    upstream: AtomicU16,
    /// Connections up to this number are cut.
    cut: watch::Sender<u64>,
    /// Requests of connections up to this number are held.
    held: watch::Sender<u64>,
    connections: AtomicU64,
    /// Requests that are held, or were released and have no result yet.
    pending: watch::Sender<usize>,
    /// How many of a thousand requests fail.
    havoc: AtomicUsize,
    dice: AtomicUsize,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            upstream: AtomicU16::new(upstream),
            cut: watch::Sender::new(0),
            held: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            pending: watch::Sender::new(0),
            havoc: AtomicUsize::new(0),
            dice: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self {
            port,
            state,
            accepting,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections, and lets new ones lead to another port.
    pub(crate) fn lead_to(&self, upstream: u16) {
        self.state.upstream.store(upstream, Ordering::SeqCst);
        self.state
            .cut
            .send_replace(self.state.connections.load(Ordering::SeqCst));
    }

    /// Holds up what clients send from now on.
    pub(crate) fn hold(&self) {
        self.state.held.send_replace(u64::MAX);
    }

    /// Lets new connections through; existing ones stay held.
    pub(crate) fn pass_new(&self) {
        self.state
            .held
            .send_replace(self.state.connections.load(Ordering::SeqCst));
    }

    /// Releases everything that was held, and waits until the database has answered it or has closed the connection.
    pub(crate) async fn release(&self) {
        self.state.held.send_replace(0);
        let mut pending = self.state.pending.subscribe();
        pending.wait_for(|pending| *pending == 0).await.unwrap();
    }

    /// Disturbs about `faults` of a thousand requests: they or their answers are lost or late, connections cut or half
    /// closed.
    pub(crate) fn havoc(&self, faults: usize) {
        self.state.havoc.store(faults, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let upstream = state.upstream.load(Ordering::SeqCst);
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else {
            continue;
        };
        let number = state.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let answered = watch::Sender::new(());
        let closed = answered.subscribe();
        let answers = tokio::spawn(answers(from_server, to_client, answered));
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let mut cut = state.cut.subscribe();
            let end = tokio::select! {
                end = requests(from_client, to_server, closed, &state, number) => end,
                _ = cut.wait_for(|cut| *cut >= number) => End::Cut,
            };
            if let End::Cut = end {
                answers.abort();
            }
        });
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy)]
enum Fault {
    RequestLost,
    AnswerLost,
    AnswerLostLater,
    HalfClosed,
    Late,
}

/// How late a request is.
const LATE: Duration = Duration::from_millis(30);

impl State {
    /// What goes wrong with the next request: the kinds of faults take turns, at even distances.
    fn fault(&self) -> Option<Fault> {
        const FAULTS: [Fault; 5] = [
            Fault::RequestLost,
            Fault::AnswerLost,
            Fault::Late,
            Fault::AnswerLostLater,
            Fault::HalfClosed,
        ];
        let faults = self.havoc.load(Ordering::SeqCst);
        let n = self.dice.fetch_add(1, Ordering::SeqCst);
        let nth = |n: usize| n * faults / 1_000;
        (nth(n + 1) > nth(n)).then(|| FAULTS[nth(n) % FAULTS.len()])
    }
}

enum End {
    /// Both directions end.
    Cut,
    /// The answers still arrive.
    HalfClosed,
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut answered: watch::Receiver<()>,
    state: &State,
    number: u64,
) -> End {
    let mut chunk = vec![0; 64 * 1024];
    let mut held = state.held.subscribe();
    loop {
        let Ok(len @ 1..) = from.read(&mut chunk).await else {
            return End::HalfClosed;
        };
        let holds = *held.borrow() >= number;
        if holds {
            state.pending.send_modify(|pending| *pending += 1);
            held.wait_for(|held| *held < number)
                .await
                .expect("the proxy is there");
        }
        let fault = state.fault();
        match fault {
            Some(Fault::RequestLost) => return End::Cut,
            Some(Fault::Late) => tokio::time::sleep(LATE).await,
            _ => {}
        }
        answered.mark_unchanged();
        let sent = to.write_all(&chunk[..len]).await;
        if holds {
            if sent.is_ok() {
                // An error says that the connection is closed.
                let _ = answered.changed().await;
            }
            state.pending.send_modify(|pending| *pending -= 1);
        }
        match (sent, fault) {
            // The answer is lost, perhaps after the database has begun to work.
            (Err(_), _) | (_, Some(Fault::AnswerLost)) => return End::Cut,
            (_, Some(Fault::AnswerLostLater)) => {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                return End::Cut;
            }
            (_, Some(Fault::HalfClosed)) => return End::HalfClosed,
            _ => {}
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, answered: watch::Sender<()>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut chunk).await {
        answered.send_replace(());
        if to.write_all(&chunk[..len]).await.is_err() {
            return;
        }
    }
}
