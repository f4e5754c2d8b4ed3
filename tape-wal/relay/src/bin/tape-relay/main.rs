//! `tape-relay`: relays as a process.

mod carried;
mod file;
mod flags;
mod health;
mod parts;
mod redeliver;

use carried::Carried;
use clap::{CommandFactory as _, FromArgMatches as _};
use file::{File, Misconfigured};
use flags::{Command, Flags, HolderName, Run};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tape_client::{Error, Journal, StoreUrl};
use tape_core::causes::Causes;
use tape_core::id::Holder;
use tape_environment::{Environment, machine};
use tape_program::{start_log, without_empty_variables};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code for an invalid configuration, the same as for invalid flags.
const MISCONFIGURED: u8 = 2;
/// How long the lease of an embedded journal's own drivers would be; a relay drives no run.
const LEASE: Duration = Duration::from_secs(30);

/// Why the program ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    #[error("the journal cannot be opened")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    NotSent(#[from] redeliver::NotSent),
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let matches = without_empty_variables(Flags::command()).get_matches();
    let flags = Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let started = start_log(&flags.log).map_err(|problem| Failure::from(Misconfigured::Log(problem)));
    let ended = match started {
        Ok(()) => run(flags, machine()).await,
        Err(failure) => Err(failure),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("tape-relay: {}", Causes(&failure));
        match failure {
            Failure::Misconfigured(_) => ExitCode::from(MISCONFIGURED),
            Failure::Journal(_) | Failure::NotSent(_) | Failure::Io { .. } => ExitCode::FAILURE,
        }
    })
}

async fn run(flags: Flags, environment: Arc<dyn Environment>) -> Result<ExitCode, Failure> {
    let file = flags.config.as_deref().map(File::read).transpose()?;
    match &flags.command {
        None => carry(&flags, file.as_ref(), environment)
            .await
            .map(|()| ExitCode::SUCCESS),
        Some(Command::Redeliver(asked)) => {
            let journal = open(&flags.store, Arc::clone(&environment)).await?;
            let holder = own_name(None, environment.as_ref());
            let relays = match redeliver::reaction(asked, &journal, &holder).await? {
                Some(relay) => vec![relay],
                None => {
                    let file = file.ok_or(Misconfigured::NoRelay)?;
                    parts::relays(&file, std::slice::from_ref(&asked.relay), &environment)?
                }
            };
            let mut all = true;
            for relay in &relays {
                all &= redeliver::run(asked, relay, &journal).await?;
            }
            Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// Carries relays until a signal says to stop.
async fn carry(flags: &Flags, file: Option<&File>, environment: Arc<dyn Environment>) -> Result<(), Failure> {
    let io = |doing| move |source| Failure::Io { doing, source };
    let relays = match file {
        Some(file) => parts::relays(file, &flags.run.only, &environment)?,
        None if flags.run.reactions.is_empty() => return Err(Misconfigured::NoRelay.into()),
        None => Vec::new(),
    };
    let holder = own_name(flags.run.holder.as_ref(), environment.as_ref());
    // Listened for before anything is announced: a signal that follows the announcement is not lost.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt()).map_err(io("listen for signals"))?,
        signal(SignalKind::terminate()).map_err(io("listen for signals"))?,
    );
    let journal = open(&flags.store, environment).await?;
    let stop = CancellationToken::new();
    let carried = Arc::new(Carried::start(&flags.run, relays, &journal, &holder, &stop));
    announce(&flags.run, &journal, &carried, &stop).await?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    let drain = Duration::from_millis(flags.run.drain_ms);
    if tokio::time::timeout(drain, carried.drain()).await.is_err() {
        tracing::warn!(
            "not every call of a sink ended in time; its events are delivered again by another process"
        );
    }
    Ok(())
}

async fn open(url: &str, environment: Arc<dyn Environment>) -> Result<Arc<dyn Journal>, Failure> {
    if url.is_empty() {
        return Err(Misconfigured::NoStore.into());
    }
    let url = url.parse::<StoreUrl>().map_err(Misconfigured::Address)?;
    let journal = Box::pin(tape_client::open_existing(&url, LEASE, environment)).await;
    journal.map_err(|error| match error {
        error @ Error::Invalid { .. } => Misconfigured::Address(error).into(),
        error => Failure::Journal(error.into()),
    })
}

/// A name that no other process has: copies that are given the same one would take parts from each other.
fn own_name(given: Option<&HolderName>, environment: &dyn Environment) -> Holder {
    let process = environment.process().to_string();
    let name = given.map_or(process.as_str(), HolderName::as_str);
    let name = format!("relay-{name}-{}", environment.uuid().simple());
    Holder::new(name).expect("it is a name with a prefix and a suffix, and short enough")
}

#[expect(clippy::print_stdout, reason = "the line says that the program is ready")]
async fn announce(
    run: &Run,
    journal: &Arc<dyn Journal>,
    carried: &Arc<Carried>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let io = |doing| move |source| Failure::Io { doing, source };
    let Some(address) = run.address() else {
        println!("tape-relay ready");
        return Ok(());
    };
    let listener = TcpListener::bind(address).await.map_err(io("listen"))?;
    let address = listener.local_addr().map_err(io("listen"))?;
    let health = health::serve(listener, Arc::clone(journal), Arc::clone(carried), stop.clone());
    tokio::spawn(health);
    println!("tape-relay ready on {address}");
    Ok(())
}
