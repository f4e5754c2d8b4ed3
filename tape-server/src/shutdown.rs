//! Graceful shutdown: new calls are refused, those under way finish, and streams end where they can be resumed.

use std::time::Duration;
use tape_proto::failure::Failure;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whether the server takes calls, and which are under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    closed: CancellationToken,
    calls: TaskTracker,
}

/// A call under way, until dropped.
#[derive(Debug)]
pub(crate) struct Call {
    closed: CancellationToken,
    _under_way: TaskTrackerToken,
}

impl Gate {
    /// Admits a call.
    pub(crate) fn enter(&self) -> Result<Call, Failure> {
        if self.closed.is_cancelled() {
            return Err(Failure::Draining);
        }
        Ok(Call {
            closed: self.closed.clone(),
            _under_way: self.calls.token(),
        })
    }

    /// Admits no more calls, and waits until those under way have finished, or `timeout` is over.
    pub(crate) async fn drain(&self, timeout: Duration) -> bool {
        self.closed.cancel();
        self.calls.close();
        tokio::time::timeout(timeout, self.calls.wait()).await.is_ok()
    }
}

impl Call {
    /// Whether the call should end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the call should end.
    pub(crate) fn closing(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}

/// Completes at a stop signal: SIGTERM or SIGINT. Signals count from this call on, not from when it is awaited.
///
/// # Errors
/// Where the system does not let the process listen for signals.
pub fn signalled() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is under way"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is under way"),
        }
    })
}
