//! Recovery in a scenario: Tape's recovery reactor claims a run whose agent was killed and hands it to the scenario, which starts its agent
//! again. The reactor runs in the scenario's own process, or in others that post their re-drives to it.

use crate::upstream::ANYWHERE;
use anyhow::Result;
use async_trait::async_trait;
use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tape_client::RunId;
use tape_client::core::id::{Epoch, Holder};
use tape_reactors::api::Journal;
use tape_reactors::{Options, Recovery, Redrive, RedriveError, Redriver, Runner};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long recovery holds a run at a time; it renews its lease until an agent has adopted the run.
const HOLD: Duration = Duration::from_secs(2);

/// A run that recovery took. While this is kept, recovery waits for the drive to end.
#[derive(Debug)]
pub struct Handover {
    /// The epoch at which an agent adopts the run.
    pub epoch: u64,
    _driven: oneshot::Sender<()>,
}

/// The receivers of handed-over runs.
#[derive(Debug, Default)]
struct Waiting {
    runs: Mutex<HashMap<RunId, UnboundedSender<Handover>>>,
}

/// Where recovery announces the runs that wait for their agents, until it is dropped.
#[derive(Debug)]
pub struct RecoveredRuns {
    waiting: Arc<Waiting>,
    _stop: DropGuard,
}

impl RecoveredRuns {
    /// Listens for re-drives of recovery in other processes: itself, and the URL that they post them to.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn served() -> Result<(Self, String)> {
        let waiting = Arc::new(Waiting::default());
        let listener = TcpListener::bind(ANYWHERE).await?;
        let url = format!("http://{}/redrive", listener.local_addr()?);
        let router = Router::new()
            .route("/redrive", post(redrive))
            .with_state(Arc::clone(&waiting));
        let stop = CancellationToken::new();
        let serving = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                () = serving.cancelled() => {}
            }
        });
        let recovery = Self {
            waiting,
            _stop: stop.drop_guard(),
        };
        Ok((recovery, url))
    }

    /// Starts recovery in this process over a journal, for at most `agents` runs at a time.
    ///
    /// # Errors
    /// Never, unless names change their form.
    pub fn start(journal: Arc<dyn Journal>, agents: usize) -> Result<Self> {
        let waiting = Arc::new(Waiting::default());
        let stop = CancellationToken::new();
        let recovery = Recovery::new(journal.clone(), waiting.clone(), Holder::new("recovery")?, HOLD);
        let options = Options {
            concurrency: agents + 1,
            sweep: Duration::from_secs(1),
            ..Options::default()
        };
        tokio::spawn(Runner::new(journal, Arc::new(recovery), options).run(stop.clone()));
        Ok(Self {
            waiting,
            _stop: stop.drop_guard(),
        })
    }

    /// Where recovery announces that a run waits for its agent. Must be requested before the run begins.
    #[must_use]
    pub fn of_run(&self, run: RunId) -> UnboundedReceiver<Handover> {
        let (tell, handovers) = unbounded_channel();
        self.waiting
            .runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(run, tell);
        handovers
    }
}

#[async_trait]
impl Redriver for Waiting {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let app = redrive.run.app.clone();
        let driven = self.hand_over(&redrive.run, redrive.epoch);
        driven.ok_or(RedriveError::UnknownApp { app })?.await;
        Ok(())
    }
}

impl Waiting {
    /// Hands a run to the task that waits for it. Returns a future that ends with the drive, however the drive ends; none where no task
    /// waits.
    fn hand_over(&self, run: &RunId, epoch: Epoch) -> Option<impl Future<Output = ()> + use<>> {
        let (driven, ended) = oneshot::channel();
        let handover = Handover {
            epoch: epoch.0,
            _driven: driven,
        };
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(run)?.send(handover).ok()?;
        Some(async {
            // The sender is dropped when the drive has ended.
            let _ = ended.await;
        })
    }
}

/// What recovery posts.
#[derive(Deserialize)]
struct Posted {
    run: RunId,
    epoch: Epoch,
}

async fn redrive(State(waiting): State<Arc<Waiting>>, Json(posted): Json<Posted>) -> StatusCode {
    match waiting.hand_over(&posted.run, posted.epoch) {
        Some(driven) => {
            driven.await;
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}
