//! Ends a scenario cleanly on a signal, so that no process stays behind.

use anyhow::{Result, bail};
use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `scenario` to its end, or drops it, and with it the processes it started, on `SIGINT` or `SIGTERM`.
///
/// # Errors
/// Those of the scenario; and where it was interrupted.
pub async fn or_interrupted<T>(scenario: impl Future<Output = Result<T>>) -> Result<T> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        outcome = scenario => outcome,
        _ = int.recv() => bail!("interrupted"),
        _ = term.recv() => bail!("asked to end"),
    }
}
