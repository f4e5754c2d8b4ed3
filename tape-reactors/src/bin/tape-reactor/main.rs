//! `tape-reactor`: the reactors as a process.

mod agents;
mod config;
mod google;
mod health;
mod parts;
mod published;
mod timing;
mod waking;

use config::{File, Flags, Kind, Misconfigured};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tape_client::{Error, Journal, StoreUrl};
use tape_core::causes::Causes;
use tape_core::id::Holder;
use tape_environment::{Environment, machine};
use tape_program::start_log;
use tape_reactors::{
    Compensation, Options, Outbox, PushEndpoint, Reactor, Reconciler, Recovery, Runner, Timers, Watched,
    Worker,
};
use timing::Timing;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code for an invalid configuration, the same as for invalid flags.
const MISCONFIGURED: u8 = 2;

/// Why the program ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    #[error("a reactor ended by itself")]
    Died(#[source] JoinError),
    #[error("the journal cannot be opened")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::of_arguments();
    let started =
        start_log(&flags.log).map_err(|problem| Failure::Misconfigured(Misconfigured::Log(problem)));
    let ended = match started {
        Ok(()) => run(flags, machine()).await,
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tape-reactor: {}", Causes(&failure));
            match failure {
                Failure::Misconfigured(_) => ExitCode::from(MISCONFIGURED),
                Failure::Died(_) | Failure::Journal(_) | Failure::Io { .. } => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(flags: Flags, environment: Arc<dyn Environment>) -> Result<(), Failure> {
    let io = |doing| move |source| Failure::Io { doing, source };
    let file = flags
        .config
        .as_deref()
        .map(File::read)
        .transpose()?
        .unwrap_or_default();
    let holder = flags.holder.clone();
    let holder = holder.unwrap_or_else(|| own_name(environment.as_ref()));
    let connectors = parts::connectors(&file, &environment).await?;
    let agents = Arc::new(agents::agents(&file, &environment)?);
    let stop = CancellationToken::new();
    let listens = flags.address().is_some();
    let waking = flags.waking.waking(listens, &environment, &stop).await?;
    let timing = Timing::of(&flags, &file).await?;
    // Listened for before anything is announced: a signal that follows the announcement is not lost.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).map_err(io("listen for signals"))?,
        signal(SignalKind::terminate()).map_err(io("listen for signals"))?,
    );
    let journal = open(&flags.store, file.lease(), environment).await?;
    let journal = Watched::from(match waking.wake() {
        Some(wake) => wake.journal(journal),
        None => journal,
    });
    let usual = file.options();
    let usual = Options {
        sweep: flags.waking.sweep().unwrap_or(usual.sweep),
        ..usual
    };
    let mut reactors = Vec::new();
    let worker = Worker::new(journal.clone(), connectors, holder.clone(), file.terms());
    for kind in flags.kinds() {
        let reactor: Arc<dyn Reactor> = match kind {
            Kind::Recovery => {
                let (journal, agents) = (Arc::new(journal.clone()), Arc::clone(&agents));
                Arc::new(Recovery::new(journal, agents, holder.clone(), file.lease()))
            }
            Kind::Outbox => Arc::new(Outbox::new(worker.clone())),
            Kind::Reconciler => Arc::new(Reconciler::new(worker.clone())),
            Kind::Timers => Arc::new(Timers::new(Arc::new(journal.clone()))),
            Kind::Compensation => Arc::new(Compensation::new(worker.clone())),
        };
        reactors.push((reactor, timing.options(*kind, usual)));
    }
    let mut tasks = start(&journal, reactors, &stop);
    #[cfg(feature = "cloud-tasks")]
    timing.start(&journal, &waking, &mut tasks, &stop);
    let endpoint = waking.start(&mut tasks, &stop);
    announce(&flags, &journal, endpoint, &stop).await?;
    let told = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        // A runner ends only when it is stopped, or by a panic; so does what wakes it.
        Some(ended) = tasks.join_next() => ended,
    };
    let drained = drain(&mut tasks, &stop, Duration::from_millis(flags.drain_ms)).await;
    told.and(drained).map_err(Failure::Died)
}

fn start(
    journal: &Watched,
    reactors: Vec<(Arc<dyn Reactor>, Options)>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (reactor, options) in reactors {
        let runner = Runner::new(journal.clone(), reactor, options);
        tasks.spawn(runner.run(stop.clone()));
    }
    tasks
}

async fn open(
    url: &str,
    lease: Duration,
    environment: Arc<dyn Environment>,
) -> Result<Arc<dyn Journal>, Failure> {
    let url = url.parse::<StoreUrl>().map_err(Misconfigured::Address)?;
    let journal = Box::pin(tape_client::open_existing(&url, lease, environment)).await;
    journal.map_err(|error| match error {
        error @ Error::Invalid { .. } => Misconfigured::Address(error).into(),
        error => Failure::Journal(error.into()),
    })
}

/// A name that no other process has.
fn own_name(environment: &dyn Environment) -> Holder {
    let name = format!(
        "reactor-{}-{}",
        environment.process(),
        environment.uuid().simple()
    );
    Holder::new(name).expect("letters, digits and hyphens are a name")
}

#[expect(clippy::print_stdout, reason = "the line says that the program is ready")]
async fn announce(
    flags: &Flags,
    journal: &Watched,
    endpoint: Option<PushEndpoint>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let io = |doing| move |source| Failure::Io { doing, source };
    let Some(address) = flags.address() else {
        println!("tape-reactor ready");
        return Ok(());
    };
    let listener = TcpListener::bind(address).await.map_err(io("listen"))?;
    let address = listener.local_addr().map_err(io("listen"))?;
    tokio::spawn(health::serve(listener, journal.clone(), endpoint, stop.clone()));
    println!("tape-reactor ready on {address}");
    Ok(())
}

/// Takes up no new work, and waits for work under way up to the drain time.
///
/// # Errors
/// A runner panicked on its way out.
async fn drain(
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
    timeout: Duration,
) -> Result<(), JoinError> {
    info!("stopping");
    stop.cancel();
    let all = async {
        let mut drained = Ok(());
        while let Some(ended) = tasks.join_next().await {
            drained = drained.and(ended);
        }
        drained
    };
    tokio::time::timeout(timeout, all).await.unwrap_or_else(|_| {
        warn!("not everything under way was done in time; others take it up once its claims lapse");
        Ok(())
    })
}
