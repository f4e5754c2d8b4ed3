//! The journal through a server on loopback, beside an echo through the same stack.

use crate::echo::{Echo, echoes};
use crate::figure::{Figures, p50_ms, rate};
use crate::work::{Caller, RUN_STEPS, StepKind, appends, runs, steps};
use prost::Message as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tape_core::command::{Command, RunCommand};
use tape_core::id::RunId;
use tape_engine::Engine;
use tape_proto::convert::{RunCall, run_call};
use tape_proto::v1;
use tape_proto::v1::drive_response::Outcome;
use tape_proto::v1::run_service_client::RunServiceClient;
use tape_server::config::Config;
use tape_server::server::Server;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;

/// The p50 of a step alone in Restate, measured on a 2-core machine, in milliseconds.
const RESTATE_STEP_P50_MS: f64 = 1.08;
/// Steps a second of Restate there, by runs at once.
const RESTATE_STEPS: [(usize, f64); 3] = [(16, 2_665.0), (64, 3_642.0), (256, 5_549.0)];
/// Steps a second of DBOS there, at best, on PostgreSQL: its TypeScript SDK.
const DBOS_STEPS: f64 = 1_122.0;
/// Entries of a run that is opened.
const OPENED_ENTRIES: u64 = 10_000;

pub(crate) async fn measure(engine: Engine, span: Duration, figures: &mut Figures) {
    let embedded = [Caller::Embedded(engine.clone())];
    let tape = serve(engine);
    beside_the_engine(&tape, &embedded, span, figures).await;
    crate::followers::measure(&tape, span, figures).await;
    let echo = serve_echo();
    for connections in [1, 4] {
        let name = format!("server_appends_64_runs_{connections}_connections");
        if figures.wants(&name) {
            let channels = connect(&echo, connections).await;
            let rate_echo = rate(echoes(&channels, 64, message_bytes(), span).await, span);
            figures.say(
                &format!("echo_{connections}_connections"),
                rate_echo,
                "calls/s",
                rate_echo,
            );
            let done = appends(&callers(&tape, connections).await, 64, span).await;
            figures.say(&name, rate(done.len(), span), "entries/s", rate_echo);
        }
    }
    if figures.wants("server_step_p50_vs_restate_elsewhere") {
        let alone = steps(&callers(&tape, 1).await, 1, span).await;
        figures.say(
            "server_step_p50_vs_restate_elsewhere",
            p50_ms(alone),
            "ms",
            RESTATE_STEP_P50_MS,
        );
    }
    for (runs, restate) in RESTATE_STEPS {
        let name = format!("server_steps_{runs}_runs_vs_restate_elsewhere");
        if figures.wants(&name) {
            let done = steps(&callers(&tape, 1).await, runs, span).await;
            let done = rate(done.len(), span);
            figures.say(&name, done, "steps/s", restate);
            let name = name.replace("restate", "dbos");
            figures.say(&name, done, "steps/s", DBOS_STEPS);
        }
    }
    if figures.wants("open_10000_entries") {
        open(&tape, figures).await;
    }
}

/// The same load on the engine and through the server that serves it.
async fn beside_the_engine(tape: &str, embedded: &[Caller], span: Duration, figures: &mut Figures) {
    for at_once in [64, 256] {
        let name = format!("server_appends_{at_once}_runs_vs_embedded");
        if figures.wants(&name) {
            let engine = rate(appends(embedded, at_once, span).await.len(), span);
            let served = rate(appends(&callers(tape, 1).await, at_once, span).await.len(), span);
            figures.say(&name, served, "entries/s", engine);
        }
    }
    for (kind, word) in [(StepKind::Record, "records"), (StepKind::Effect, "effects")] {
        for at_once in [1, 16, 64, 256] {
            let name = format!("server_runs_of_10_{word}_{at_once}_at_once_vs_embedded");
            if figures.wants(&name) {
                let engine = run_steps(embedded, at_once, kind, span).await;
                let served = run_steps(&callers(tape, 1).await, at_once, kind, span).await;
                figures.say(&name, served, "steps/s", engine);
            }
        }
    }
}

/// Steps a second of whole runs.
async fn run_steps(callers: &[Caller], at_once: usize, kind: StepKind, span: Duration) -> f64 {
    rate(RUN_STEPS * runs(callers, at_once, kind, span).await.len(), span)
}

/// Reads a run of 10,000 entries in one stream, beside a run of 1,000 entries several times.
async fn open(url: &str, figures: &mut Figures) {
    let caller = callers(url, 1).await.remove(0);
    let run = caller.begin().await;
    let appends: Vec<_> = (2..OPENED_ENTRIES)
        .map(|_| {
            let (caller, run) = (caller.clone(), run.clone());
            async move { caller.append(&run).await }
        })
        .collect();
    futures::StreamExt::collect::<()>(futures::StreamExt::buffer_unordered(
        futures::stream::iter(appends),
        256,
    ))
    .await;
    let mut runs = RunServiceClient::new(connect(url, 1).await.remove(0));
    let began = Instant::now();
    let (entries, messages) = read(&mut runs, &run).await;
    assert_eq!(entries.len() as u64, OPENED_ENTRIES, "nothing is missing");
    let read_ms = began.elapsed().as_secs_f64() * 1_000.0;
    let began = Instant::now();
    entries
        .iter()
        .for_each(|entry| drop(tape_core::codec::decode(entry).expect("it is an entry")));
    let decoded = rate(entries.len(), began.elapsed());
    figures.say("open_10000_entries", read_ms, "ms", read_ms);
    figures.say(
        "open_10000_entries_messages",
        f64::from(messages),
        "messages",
        f64::from(messages),
    );
    figures.say("decode_for_replay", decoded, "entries/s", 100_000.0);
}

async fn read(
    runs: &mut RunServiceClient<Channel>,
    run: &RunId,
) -> (Vec<tape_core::codec::StoredEntry>, u32) {
    let request = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        ..Default::default()
    };
    let mut pages = runs
        .read_run(request)
        .await
        .expect("the run is there")
        .into_inner();
    let (mut entries, mut messages) = (Vec::new(), 0);
    while let Some(page) = pages.message().await.expect("the journal is read") {
        messages += 1;
        entries.extend(
            page.entries
                .into_iter()
                .map(|entry| entry.try_into().expect("it is an entry")),
        );
    }
    (entries, messages)
}

fn serve(engine: Engine) -> String {
    let config = Config::new("memory:", "127.0.0.1:0".parse().expect("an address"));
    let server = Server::over(config, engine).expect("the server listens");
    let url = format!("http://{}", server.address());
    tokio::spawn(server.run(std::future::pending()));
    url
}

fn serve_echo() -> String {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("it listens");
    let incoming = incoming.with_nodelay(Some(true));
    let url = format!("http://{}", incoming.local_addr().expect("it has an address"));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(Echo)
            .serve_with_incoming(incoming),
    );
    url
}

async fn connect(url: &str, connections: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..connections {
        let endpoint = Channel::from_shared(url.to_owned())
            .expect("a URL")
            .tcp_nodelay(true);
        channels.push(endpoint.connect().await.expect("the server is there"));
    }
    channels
}

pub(crate) async fn callers(url: &str, connections: usize) -> Vec<Caller> {
    let channels = connect(url, connections).await;
    futures::future::join_all(channels.into_iter().map(Connection::open))
        .await
        .into_iter()
        .map(Caller::Served)
        .collect()
}

/// Bytes of the message that appends an entry.
fn message_bytes() -> usize {
    let run = RunId::new(
        "bench",
        "bench",
        "user",
        "session",
        &uuid::Uuid::nil().to_string(),
    )
    .expect("names");
    let state =
        tape_core::payload::Payload::new("application/octet-stream", vec![3; crate::work::PAYLOAD_BYTES]);
    let body = tape_core::command::DriverCommand::Checkpoint {
        label: "step".parse().expect("a name"),
        state: state.expect("it is small"),
    };
    let command = Command::new(
        tape_core::id::RequestId::from_u128(1),
        RunCommand::Drive(tape_core::id::Epoch(1), body),
    );
    drive_request(run, command).encoded_len()
}

/// The message of a driver's command.
fn drive_request(run: RunId, command: Command<RunCommand>) -> v1::DriveRequest {
    match run_call(run, command) {
        RunCall::Drive(request) => request,
        other => panic!("{other:?} is no driver's"),
    }
}

/// A Drive stream that many runs share.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Shared>);

struct Shared {
    commands: mpsc::Sender<v1::DriveRequest>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Outcome>>,
}

impl Connection {
    async fn open(channel: Channel) -> Self {
        let (commands, receiver) = mpsc::channel(1_024);
        let shared = Arc::new(Shared {
            commands,
            waiting: Mutex::default(),
        });
        let answers = RunServiceClient::new(channel)
            .drive(ReceiverStream::new(receiver))
            .await;
        let mut answers = answers.expect("the stream opens").into_inner();
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Ok(Some(answer)) = answers.message().await {
                let Some(shared) = weak.upgrade() else { return };
                let waiting = shared
                    .waiting
                    .lock()
                    .expect("no task panics")
                    .answers
                    .remove(&answer.call);
                // A caller that no longer waits was cut off at the end of the measurement.
                let _ = waiting
                    .expect("an answer to a command")
                    .send(answer.outcome.expect("an outcome"));
            }
        });
        Self(shared)
    }

    pub(crate) async fn ask(&self, run: &RunId, command: Command<RunCommand>) {
        let (answer, answered) = oneshot::channel();
        let call = {
            let mut waiting = self.0.waiting.lock().expect("no task panics");
            waiting.last += 1;
            let call = waiting.last;
            waiting.answers.insert(call, answer);
            call
        };
        let request = v1::DriveRequest {
            call,
            ..drive_request(run.clone(), command)
        };
        self.0.commands.send(request).await.expect("the stream is open");
        match answered.await.expect("an answer comes") {
            Outcome::Reply(_) => {}
            Outcome::Error(error) => panic!("{error:?}"),
        }
    }
}
