//! Serving until told to stop, then draining.

use super::Host;
use super::queue::Queue;
use crate::error::Error;
use std::pin::pin;

impl Host {
    /// Drives runs of its apps again, as they become due, until `stop` completes; then takes up no more, and returns once those
    /// under way are done, or after the time that [`Host::drain`] allows.
    ///
    /// A journal that is out of reach is waited for: the log says so.
    ///
    /// # Cancellation
    /// Dropped, its agents are dropped where they are, as where the process dies.
    ///
    /// # Errors
    /// [`Error::Invalid`] where an agent could not be registered.
    pub async fn serve_until(&self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        self.check()?;
        let mut queue = Queue::new(self);
        let mut stop = pin!(stop);
        tokio::select! {
            biased;
            () = &mut stop => {}
            never = queue.work() => match never {},
        }
        tracing::info!("stopping");
        queue.drain(self.drain).await;
        Ok(())
    }

    /// As [`Host::serve_until`], until the process gets SIGTERM or SIGINT (ctrl-c).
    ///
    /// # Errors
    /// As [`Host::serve_until`]; [`Error::Unavailable`] where signals cannot be listened for.
    #[cfg(feature = "signal")]
    pub async fn serve(&self) -> Result<(), Error> {
        let stop = signalled().map_err(|error| Error::Unavailable { source: error.into() })?;
        self.serve_until(stop).await
    }
}

/// Completes at a signal to stop; signals are listened for from this call on.
#[cfg(all(feature = "signal", unix))]
fn signalled() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(all(feature = "signal", not(unix)))]
fn signalled() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    })
}
