//! Serving until told to stop, then draining.

use super::Host;
#[cfg(feature = "serve")]
use super::queue::Adopted;
use super::queue::Queue;
#[cfg(feature = "signal")]
use super::signals::Signals;
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
        self.serve_and_drain(stop, std::future::pending()).await
    }

    /// Serves until `stop` completes, then drains, and no longer than until `hurry` completes.
    async fn serve_and_drain(
        &self,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), Error> {
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
        queue.drain(self.drain, hurry).await;
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

    /// As [`Host::serve_until`], until the process gets SIGTERM or SIGINT (ctrl-c). A second signal cuts the drain short: agents that are not
    /// done are dropped at once, and their runs are released.
    ///
    /// From then on, and once this has returned or is dropped, both signals end the process, as they do by default. Where a program handles them
    /// itself, it uses [`Host::serve_until`].
    ///
    /// # Errors
    /// As [`Host::serve_until`]; [`Error::Unavailable`] where signals cannot be listened for.
    #[cfg(feature = "signal")]
    pub async fn serve(&self) -> Result<(), Error> {
        let signals = Signals::listen().map_err(|error| Error::Unavailable { source: error.into() })?;
        let signals = tokio::sync::Mutex::new(signals);
        let stop = async { signals.lock().await.next().await };
        let hurry = async {
            let mut signals = signals.lock().await;
            signals.next().await;
            signals.let_go();
        };
        self.serve_and_drain(stop, hurry).await
    }
}
