//! One agent, and what its outcomes mean for its runs.

use crate::error::Error;
use crate::run::{Run, RunResult};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tape_core::causes::Causes;
use tape_core::id::StreamId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;

type Function = dyn Fn(Run) -> BoxFuture<'static, Result<RunResult, Error>> + Send + Sync;

/// The agent of an app.
#[derive(Clone)]
pub(super) struct Agent {
    function: Arc<Function>,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("places", &self.places.available_permits())
            .finish_non_exhaustive()
    }
}

impl Agent {
    pub(super) fn new<F, D>(function: F, places: usize) -> Self
    where
        F: Fn(Run) -> D + Send + Sync + 'static,
        D: Future<Output = Result<RunResult, Error>> + Send + 'static,
    {
        Self {
            function: Arc::new(move |run| function(run).boxed()),
            places: semaphore(places),
        }
    }

    /// Gives it so many places for runs that are driven again.
    pub(super) fn bound(&mut self, places: usize) {
        self.places = semaphore(places);
    }

    /// A place for another run; none where all are taken.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Drives a run, and lets it go where it has not ended and does not wait.
    pub(super) async fn drive(&self, run: Run) -> Result<RunResult, Error> {
        let span = tracing::info_span!("run", run = %name(&run));
        let handed = self.call(run.clone()).instrument(span).await;
        let driven = run.handed_up(handed).await;
        let_go(&run).await;
        driven
    }

    async fn call(&self, run: Run) -> Result<RunResult, Error> {
        let id = run.id().clone();
        // The function itself may panic before it returns a future.
        let called = async { (self.function)(run).await };
        AssertUnwindSafe(called).catch_unwind().await.unwrap_or_else(|panic| {
            let problem = message(panic.as_ref());
            tracing::error!(run = %StreamId::Run(id.clone()), problem, "the agent panicked; the run is let go");
            Err(Error::Panicked { run: id, problem })
        })
    }
}

/// Lets a run go that this driver still holds, so that another need not wait for the end of its lease.
pub(super) async fn let_go(run: &Run) {
    if run.check().is_err() {
        return;
    }
    if let Err(error) = run.release(Duration::ZERO).await {
        let run = name(run);
        tracing::debug!(%run, error = %Causes(&error), "the run is let go when its lease runs out");
    }
}

fn semaphore(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)))
}

fn name(run: &Run) -> StreamId {
    StreamId::Run(run.id().clone())
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it says nothing that is text").to_owned()
}
