//! Serving until told to stop, then draining.

use super::Host;
#[cfg(feature = "serve")]
use super::queue::Adopted;
use super::queue::Queue;
use crate::error::Error;
use std::pin::pin;
use tokio::sync::{mpsc, watch};

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
    /// [`Error::Invalid`] where an agent could not be registered or another setting makes no sense; [`Error::Unavailable`] where its endpoint
    /// cannot listen.
    pub async fn serve_until(&self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        self.check()?;
        let stopping = watch::Sender::new(false);
        let (adopt, adopted) = mpsc::unbounded_channel();
        let mut queue = Queue::new(self, adopted);
        // It answers until it is dropped, at the end of the drain.
        #[cfg(feature = "serve")]
        let _answering = self.answering(adopt, stopping.subscribe())?;
        #[cfg(not(feature = "serve"))]
        drop(adopt);
        let mut stop = pin!(stop);
        tokio::select! {
            biased;
            () = &mut stop => {}
            never = queue.work() => match never {},
        }
        tracing::info!("stopping");
        stopping.send_replace(true);
        queue.drain(self.drain).await;
        Ok(())
    }

    /// Answers re-drives that are posted, where there is an endpoint, until what it returns is dropped.
    #[cfg(feature = "serve")]
    fn answering(
        &self,
        adopt: mpsc::UnboundedSender<Adopted>,
        stopping: watch::Receiver<bool>,
    ) -> Result<tokio::task::JoinSet<()>, Error> {
        let mut answering = tokio::task::JoinSet::new();
        if let Some(endpoint) = &self.endpoint {
            answering.spawn(endpoint.serve(self.clone(), adopt, stopping)?);
        }
        Ok(answering)
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
