//! Recovery over a memory store, in virtual time: the clock of the journal is tokio's own, paused.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod logged;

use async_trait::async_trait;
use logged::Log;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tape_core::command::{Begin, Command, Create, DriverCommand, ExternalCommand, RunCommand};
use tape_core::id::{App, Epoch, Holder, RunId, Seq};
use tape_core::payload::Payload;
use tape_core::reply::{Reply, ReplyResult};
use tape_core::status::RunStatus;
use tape_core::time::{Deadline, Timestamp};
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_reactors::api::Journal;
use tape_reactors::api::recovery::{Handover, Taken};
use tape_reactors::{
    AgentEngineRedriver, HttpRedriver, Options, Recovery, Redrive, RedriveError, Redriver, Registry, Runner,
};
use tape_store::clock::Clock;
use tape_store::memory::MemoryStore;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let micros = self.0.elapsed().as_micros();
        Timestamp::from_micros(1_000_000 + i64::try_from(micros).unwrap())
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

fn engine() -> Engine {
    Engine::new(
        Arc::new(MemoryStore::new()),
        Arc::new(VirtualClock(tokio::time::Instant::now())),
    )
}

fn run_id(app: &str, n: usize) -> RunId {
    RunId::new("acme", app, "ann", "s", &format!("i{n}")).unwrap()
}

async fn begin(engine: &Engine, run: &RunId, adopt: Option<Epoch>, lease_ms: u64) -> Reply {
    let create = Create {
        labels: BTreeMap::new(),
        input: Payload::empty(),
        forked_from: None,
    };
    let holder = Holder::new("agent").unwrap();
    let begin = Begin {
        run: run.clone(),
        create: Some(create),
        holder,
        lease_ms,
        adopt,
        recovery: false,
    };
    engine
        .run(run, Command::new(engine.request_id(), RunCommand::Begin(begin)))
        .await
        .unwrap()
}

fn epoch(reply: &Reply) -> Epoch {
    match reply.result {
        ReplyResult::Leased { epoch, .. } => epoch,
        ref other => panic!("not leased: {other:?}"),
    }
}

async fn complete(engine: &Engine, run: &RunId, epoch: Epoch) {
    let complete = RunCommand::Drive(
        epoch,
        DriverCommand::Complete {
            output: Payload::empty(),
        },
    );
    engine
        .run(run, Command::new(engine.request_id(), complete))
        .await
        .unwrap();
}

/// The driver that began, or adopted, the run sends a command. A wait is since everything that the journal has.
async fn drive(engine: &Engine, run: &RunId, begun: &Reply, mut command: DriverCommand) {
    if let DriverCommand::Suspend { seen, .. } = &mut command {
        *seen = begun.seq;
    }
    let command = RunCommand::Drive(epoch(begun), command);
    engine
        .run(run, Command::new(engine.request_id(), command))
        .await
        .unwrap();
}

async fn status(engine: &Engine, run: &RunId) -> RunStatus {
    engine.run_state(run).await.unwrap().unwrap().status()
}

/// Adopts a run and completes it.
async fn finish(
    engine: Engine,
    redrive: Redrive,
    done: mpsc::UnboundedSender<()>,
) -> Result<(), RedriveError> {
    let adopted = epoch(&begin(&engine, &redrive.run, Some(redrive.epoch), 60_000).await);
    complete(&engine, &redrive.run, adopted).await;
    done.send(()).unwrap();
    Ok(())
}

/// Recovery workers over one engine.
struct Workers {
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Workers {
    fn start(n: usize, engine: &Engine, redriver: &Arc<dyn Redriver>, options: Options) -> Self {
        let stop = CancellationToken::new();
        let worker = |i| {
            let journal: Arc<dyn Journal> = Arc::new(engine.clone());
            let holder = Holder::new(format!("recovery-{i}")).unwrap();
            let recovery = Recovery::new(
                Arc::clone(&journal),
                Arc::clone(redriver),
                holder,
                Duration::from_secs(10),
            );
            tokio::spawn(Runner::new(journal, Arc::new(recovery), options).run(stop.clone()))
        };
        Self {
            tasks: (0..n).map(worker).collect(),
            stop,
        }
    }

    async fn drain(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Adopts each run and completes it; counts re-drives and how many ran at once.
struct Finisher {
    engine: Engine,
    redrives: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
    done: mpsc::UnboundedSender<RunId>,
}

#[async_trait]
impl Redriver for Finisher {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        self.redrives.fetch_add(1, Ordering::SeqCst);
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(at_once, Ordering::SeqCst);
        let adopted = epoch(&begin(&self.engine, &redrive.run, Some(redrive.epoch), 60_000).await);
        assert_eq!(adopted, redrive.epoch.next());
        tokio::time::sleep(Duration::from_secs(1)).await;
        complete(&self.engine, &redrive.run, adopted).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.done.send(redrive.run.clone()).unwrap();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn runs_whose_drivers_died_are_each_redriven_once_with_bounded_parallelism() {
    const RUNS: usize = 1_000;
    const WORKERS: usize = 8;
    let engine = engine();
    for n in 0..RUNS {
        begin(&engine, &run_id("treasury", n), None, 5_000).await;
    }
    let (done, mut finished) = mpsc::unbounded_channel();
    let finisher = Arc::new(Finisher {
        engine: engine.clone(),
        redrives: AtomicUsize::new(0),
        at_once: AtomicUsize::new(0),
        at_once_max: AtomicUsize::new(0),
        done,
    });
    let redriver: Arc<dyn Redriver> = Arc::<Finisher>::clone(&finisher);
    let options = Options {
        concurrency: 4,
        ..Options::default()
    };
    let workers = Workers::start(WORKERS, &engine, &redriver, options);
    for _ in 0..RUNS {
        finished.recv().await.unwrap();
    }
    workers.drain().await;
    assert_eq!(finisher.redrives.load(Ordering::SeqCst), RUNS);
    assert!(finisher.at_once_max.load(Ordering::SeqCst) <= 4 * WORKERS);
    for n in 0..RUNS {
        assert_eq!(
            status(&engine, &run_id("treasury", n)).await,
            RunStatus::Completed
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_whose_driver_is_gone_ends_without_its_agent() {
    let engine = engine();
    let (cancelled, other) = (run_id("treasury", 0), run_id("treasury", 1));
    for run in [&cancelled, &other] {
        begin(&engine, run, None, 30_000).await;
    }
    let cancel = RunCommand::External(ExternalCommand::Cancel {
        reason: "it is late".to_owned(),
    });
    engine
        .run(&cancelled, Command::new(engine.request_id(), cancel))
        .await
        .unwrap();
    assert_eq!(status(&engine, &cancelled).await, RunStatus::Running);
    // No agent of any app.
    let redriver: Arc<dyn Redriver> = Arc::new(Registry::new());
    let workers = Workers::start(1, &engine, &redriver, Options::default());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(status(&engine, &cancelled).await, RunStatus::Cancelled);
    assert_eq!(status(&engine, &other).await, RunStatus::Running);
    workers.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_redriven_backs_off_and_gets_stuck_without_holding_up_others() {
    let engine = engine();
    begin(&engine, &run_id("poisoned", 0), None, 1_000).await;
    let (stuck, mut attempts) = mpsc::unbounded_channel();
    let (done, mut finished) = mpsc::unbounded_channel();
    let (healthy, poisoned) = (engine.clone(), engine.clone());
    let registry = Registry::new()
        .agent(App::new("poisoned").unwrap(), 1, move |redrive: Redrive| {
            stuck.send(tokio::time::Instant::now()).unwrap();
            let engine = poisoned.clone();
            async move {
                // With a very short lease: its process is gone.
                begin(&engine, &redrive.run, Some(redrive.epoch), 100).await;
                Err(RedriveError::Refused { status: 500 })
            }
        })
        .agent(App::new("healthy").unwrap(), 1, move |redrive: Redrive| {
            let (engine, done) = (healthy.clone(), done.clone());
            finish(engine, redrive, done)
        });
    let redriver: Arc<dyn Redriver> = Arc::new(registry);
    // Room for one at a time: a poisoned run that kept the place would stop everything.
    let options = Options {
        concurrency: 1,
        ..Options::default()
    };
    let workers = Workers::start(1, &engine, &redriver, options);
    let mut times = Vec::new();
    for n in 0..5 {
        begin(&engine, &run_id("healthy", n), None, 1_000).await;
        finished.recv().await.unwrap();
    }
    // The wait before each attempt is longer than the one before, until the rules stop them.
    while status(&engine, &run_id("poisoned", 0)).await != RunStatus::Stuck {
        while let Ok(at) = attempts.try_recv() {
            times.push(at);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(
        u32::try_from(times.len()).unwrap(),
        tape_core::limits::REDRIVES_WITHOUT_PROGRESS_MAX
    );
    let waits: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= Duration::from_secs(1), "{waits:?}");
    assert!(waits[6] >= 16 * waits[0], "{waits:?}");
    workers.drain().await;
}

#[tokio::test(start_paused = true)]
async fn no_answer_gets_a_run_stuck_that_nobody_adopted() {
    for answer in [
        || Err(RedriveError::Unreached("no process listens".into())),
        // A proxy that takes connections for an unreachable agent, and closes them.
        || Err(RedriveError::Agent("the connection was closed".into())),
        || Err(RedriveError::Refused { status: 404 }),
        || Err(RedriveError::Refused { status: 405 }),
        || Err(RedriveError::Refused { status: 500 }),
        || Err(RedriveError::Refused { status: 520 }),
        // A placeholder page instead of the agent.
        || Ok(()),
    ] {
        an_outage_gets_no_run_stuck(answer).await;
    }
}

async fn an_outage_gets_no_run_stuck(answer: fn() -> Result<(), RedriveError>) {
    let engine = engine();
    let run = run_id("treasury", 0);
    begin(&engine, &run, None, 1_000).await;
    let (done, mut finished) = mpsc::unbounded_channel();
    let asked = Arc::new(AtomicU32::new(0));
    let (agent, count) = (engine.clone(), Arc::clone(&asked));
    let outage = 2 * tape_core::limits::REDRIVES_WITHOUT_PROGRESS_MAX;
    let registry = Registry::new().agent(App::new("treasury").unwrap(), 1, move |redrive: Redrive| {
        let (engine, done) = (agent.clone(), done.clone());
        let asked = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            if asked <= outage {
                return answer();
            }
            finish(engine, redrive, done).await
        }
    });
    let redriver: Arc<dyn Redriver> = Arc::new(registry);
    let began = tokio::time::Instant::now();
    let workers = Workers::start(2, &engine, &redriver, Options::default());
    while status(&engine, &run).await != RunStatus::Completed {
        assert_ne!(status(&engine, &run).await, RunStatus::Stuck);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    finished.recv().await.unwrap();
    workers.drain().await;
    assert_eq!(status(&engine, &run).await, RunStatus::Completed);
    assert_eq!(asked.load(Ordering::SeqCst), outage + 1);
    // Five minutes apart in the end.
    assert!(began.elapsed() >= Duration::from_secs(300) * (outage - 10));
}

/// Workers crash on their start, or lose the answer to their command: no agent is asked even once.
#[tokio::test(start_paused = true)]
async fn no_run_gets_stuck_because_workers_die_with_it() {
    let engine = engine();
    let run = run_id("treasury", 0);
    begin(&engine, &run, None, 1_000).await;
    let handover = Handover::new(
        Arc::new(engine.clone()),
        Holder::new("dying").unwrap(),
        Duration::from_secs(10),
    );
    let began = tokio::time::Instant::now();
    let mut taken = 0;
    while taken < 2 * tape_core::limits::REDRIVES_WITHOUT_PROGRESS_MAX {
        match handover.take(&run).await.unwrap() {
            Taken::Held(_) => taken += 1,
            Taken::Nothing => tokio::time::sleep(Duration::from_secs(1)).await,
            Taken::Stuck(reason) => panic!("after {taken} takes: {reason}"),
        }
    }
    assert!(
        began.elapsed() >= Duration::from_secs(300) * (taken - 10),
        "it waits between them"
    );
    let (done, mut finished) = mpsc::unbounded_channel();
    let agent = engine.clone();
    let registry = Registry::new().agent(App::new("treasury").unwrap(), 1, move |redrive: Redrive| {
        finish(agent.clone(), redrive, done.clone())
    });
    let redriver: Arc<dyn Redriver> = Arc::new(registry);
    let workers = Workers::start(1, &engine, &redriver, Options::default());
    finished.recv().await.unwrap();
    workers.drain().await;
    assert_eq!(status(&engine, &run).await, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_is_told_of_rarely_and_with_the_cause() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let engine = engine();
    for n in 0..200 {
        begin(&engine, &run_id("treasury", n), None, 1_000).await;
    }
    let (done, mut finished) = mpsc::unbounded_channel();
    let (agent, away) = (engine.clone(), Arc::new(AtomicBool::new(true)));
    let is_away = Arc::clone(&away);
    let registry = Registry::new().agent(App::new("treasury").unwrap(), 20, move |redrive: Redrive| {
        let (engine, done, away) = (agent.clone(), done.clone(), is_away.load(Ordering::SeqCst));
        async move {
            if away {
                return Err(RedriveError::Unreached("connection refused".into()));
            }
            finish(engine, redrive, done).await
        }
    });
    let redriver: Arc<dyn Redriver> = Arc::new(registry);
    let workers = Workers::start(1, &engine, &redriver, Options::default());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    away.store(false, Ordering::SeqCst);
    for _ in 0..200 {
        finished.recv().await.unwrap();
    }
    workers.drain().await;
    let told = log.take();
    let told: Vec<_> = told
        .iter()
        .filter(|line| !line.contains("driven again"))
        .collect();
    // One each five minutes, and one in the end.
    assert!((10..=14).contains(&told.len()), "{told:?}");
    let (back, lost) = told.split_last().unwrap();
    assert!(
        back.starts_with("INFO message=the agent is there again name=treasury"),
        "{back}"
    );
    for line in lost {
        let begin =
            "WARN message=the agent adopts no run: its runs wait, and no re-drive counts name=treasury";
        assert!(
            line.starts_with(begin) && line.contains("connection refused"),
            "{line}"
        );
    }
}

/// An agent may end with an error although it did its part: because its run waits, or because its answer was lost after the end.
#[tokio::test(start_paused = true)]
async fn an_agent_that_adopted_its_run_is_not_told_to_have_left_it() {
    for (last, told) in [
        (
            None,
            "WARN message=the agent adopted the run, and the re-drive failed then",
        ),
        (
            Some(DriverCommand::Suspend {
                seen: Seq::ZERO,
                resume: Some(Deadline::InMs(3_600_000)),
            }),
            "INFO message=driven again",
        ),
        (
            Some(DriverCommand::Complete {
                output: Payload::empty(),
            }),
            "INFO message=driven again",
        ),
    ] {
        let log = Log::default();
        let _guard = tracing::subscriber::set_default(log.clone());
        let engine = engine();
        begin(&engine, &run_id("treasury", 0), None, 1_000).await;
        let (ended, mut ends) = mpsc::unbounded_channel();
        let agent = engine.clone();
        let registry = Registry::new().agent(App::new("treasury").unwrap(), 1, move |redrive: Redrive| {
            let (engine, last, ended) = (agent.clone(), last.clone(), ended.clone());
            async move {
                let adopted = begin(&engine, &redrive.run, Some(redrive.epoch), 60_000).await;
                if let Some(last) = last {
                    drive(&engine, &redrive.run, &adopted, last).await;
                }
                ended.send(()).unwrap();
                Err(RedriveError::Agent("it ended with exit status: 3".into()))
            }
        });
        let redriver: Arc<dyn Redriver> = Arc::new(registry);
        let workers = Workers::start(1, &engine, &redriver, Options::default());
        ends.recv().await.unwrap();
        workers.drain().await;
        let [line] = log.take().try_into().unwrap();
        assert!(line.starts_with(told), "{line}");
        let failed = "the agent failed, or its answer was lost: it ended with exit status: 3";
        assert_eq!(line.contains(failed), told.starts_with("WARN"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_has_its_own_places_and_not_for_ever() {
    let engine = engine();
    for n in 0..20 {
        begin(&engine, &run_id("hanging", n), None, 1_000).await;
    }
    let (hung, mut hangs) = mpsc::unbounded_channel();
    let (done, mut finished) = mpsc::unbounded_channel();
    let healthy = engine.clone();
    let registry = Registry::new()
        .agent(App::new("hanging").unwrap(), 2, move |redrive: Redrive| {
            hung.send((redrive.run, tokio::time::Instant::now())).unwrap();
            std::future::pending()
        })
        .agent(App::new("healthy").unwrap(), 2, move |redrive: Redrive| {
            let (engine, done) = (healthy.clone(), done.clone());
            finish(engine, redrive, done)
        });
    let redriver: Arc<dyn Redriver> = Arc::new(registry);
    let options = Options {
        concurrency: 4,
        ..Options::default()
    };
    let workers = Workers::start(1, &engine, &redriver, options);
    let (_, first) = hangs.recv().await.unwrap();
    hangs.recv().await.unwrap();
    begin(&engine, &run_id("healthy", 0), None, 1_000).await;
    finished.recv().await.unwrap();
    // The third waits until recovery gives up one of the two, after four leases.
    assert!(hangs.is_empty(), "no more of them at once than its bound");
    let (_, third) = hangs.recv().await.unwrap();
    assert!(third - first >= Duration::from_secs(40), "{:?}", third - first);
    workers.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_outlasts_the_lease_is_not_doubled() {
    let engine = engine();
    let run = run_id("slow", 0);
    begin(&engine, &run, None, 1_000).await;
    let (done, mut finished) = mpsc::unbounded_channel();
    let redrives = Arc::new(AtomicU32::new(0));
    let (agent, count) = (engine.clone(), Arc::clone(&redrives));
    let registry = Registry::new().agent(App::new("slow").unwrap(), 1, move |redrive: Redrive| {
        let (engine, count, done) = (agent.clone(), Arc::clone(&count), done.clone());
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            // The agent takes longer to start than recovery's own lease.
            tokio::time::sleep(Duration::from_secs(35)).await;
            let adopted = epoch(&begin(&engine, &redrive.run, Some(redrive.epoch), 60_000).await);
            complete(&engine, &redrive.run, adopted).await;
            done.send(()).unwrap();
            Ok(())
        }
    });
    let redriver: Arc<dyn Redriver> = Arc::new(registry);
    let workers = Workers::start(3, &engine, &redriver, Options::default());
    finished.recv().await.unwrap();
    workers.drain().await;
    assert_eq!(redrives.load(Ordering::SeqCst), 1);
    assert_eq!(status(&engine, &run).await, RunStatus::Completed);
}

#[tokio::test]
async fn an_agent_is_redriven_through_its_http_endpoint() {
    let (seen, mut redrives) = mpsc::unbounded_channel();
    let endpoint = move |axum::Json(body): axum::Json<serde_json::Value>| {
        let seen = seen.clone();
        async move { seen.send(body).unwrap() }
    };
    let fails = async || axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    let app = axum::Router::new()
        .route("/redrive", axum::routing::post(endpoint))
        .route("/fails", axum::routing::post(fails));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let redriver = HttpRedriver::new(format!("http://{address}/redrive"), Duration::from_secs(30)).unwrap();
    let redrive = Redrive::new(run_id("treasury", 7), Epoch(3));
    redriver.redrive(&redrive).await.unwrap();
    let body = redrives.recv().await.unwrap();
    assert_eq!(body["epoch"], 3);
    assert_eq!(body["run"]["invocation"], "i7");

    let missing = HttpRedriver::new(format!("http://{address}/nothing"), Duration::from_secs(30)).unwrap();
    let failed = async |redriver: &HttpRedriver| redriver.redrive(&redrive).await.unwrap_err();
    assert!(matches!(
        failed(&missing).await,
        RedriveError::Refused { status: 404 }
    ));
    let failing = HttpRedriver::new(format!("http://{address}/fails"), Duration::from_secs(30)).unwrap();
    assert!(matches!(
        failed(&failing).await,
        RedriveError::Refused { status: 500 }
    ));
    server.abort();
    let _ = server.await;
    assert!(
        matches!(failed(&redriver).await, RedriveError::Unreached(_)),
        "no server is there"
    );
}

#[tokio::test]
async fn an_agent_is_redriven_through_agent_engine() {
    use axum::http::{HeaderMap, StatusCode};
    let (seen, mut redrives) = mpsc::unbounded_channel();
    let tokens = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tokens);
    let token = move |headers: HeaderMap| {
        assert_eq!(headers["metadata-flavor"], "Google");
        counted.fetch_add(1, Ordering::SeqCst);
        async { axum::Json(serde_json::json!({"access_token": "t0ken", "expires_in": 3600})) }
    };
    let query = move |headers: HeaderMap, axum::Json(body): axum::Json<serde_json::Value>| {
        let seen = seen.clone();
        async move {
            if headers["authorization"] != "Bearer t0ken" {
                return StatusCode::UNAUTHORIZED;
            }
            seen.send(body).unwrap();
            StatusCode::OK
        }
    };
    let app = axum::Router::new()
        .route("/token", axum::routing::get(token))
        .route("/v1/engines/7:streamQuery", axum::routing::post(query));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let engine = |id| {
        let url = format!("http://{address}/v1/engines/{id}");
        AgentEngineRedriver::new(url, Duration::from_secs(30))
            .unwrap()
            .method("redrive")
            .tokens(format!("http://{address}/token"))
    };
    let redrive = Redrive::new(run_id("treasury", 7), Epoch(3));
    let there = engine(7);
    for _ in 0..2 {
        there.redrive(&redrive).await.unwrap();
        let body = redrives.recv().await.unwrap();
        assert_eq!(body["classMethod"], "redrive");
        assert_eq!(body["input"]["epoch"], 3);
        assert_eq!(body["input"]["run"]["invocation"], "i7");
    }
    assert_eq!(tokens.load(Ordering::SeqCst), 1, "a token is kept while it lives");
    assert!(engine(8).redrive(&redrive).await.is_err());
    let outside = engine(7).tokens(format!("http://{address}/no-token"));
    let error = outside.redrive(&redrive).await.unwrap_err();
    assert!(
        matches!(error, RedriveError::Unreached(_)),
        "it was not let in: {error:?}"
    );
}
