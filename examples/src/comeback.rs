//! Recovery, as a play uses it: a run whose agent was killed is taken by Tape's recovery reactor and handed to the play,
//! which starts its agent again. The reactor runs in the play's own process, or in others that post their re-drives to it.

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
use tape_reactors::{Driver, Options, Recovery, Redrive, RedriveError, Redriver};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long recovery holds a run at a time; it renews its hold until an agent has adopted the run.
const HOLD: Duration = Duration::from_secs(2);

/// A run that recovery took. While this is kept, recovery waits for the drive to end.
#[derive(Debug)]
pub struct Handover {
    /// The epoch at which an agent adopts the run.
    pub epoch: u64,
    _driven: oneshot::Sender<()>,
}

/// Where recovery hands runs to.
#[derive(Debug, Default)]
struct Stagehand {
    runs: Mutex<HashMap<RunId, UnboundedSender<Handover>>>,
}

/// Where recovery announces the runs that wait for their agents, until it is dropped.
#[derive(Debug)]
pub struct Comeback {
    stagehand: Arc<Stagehand>,
    _stop: DropGuard,
}

impl Comeback {
    /// Listens for re-drives of recovery in other processes: itself, and the URL that they post them to.
    ///
    /// # Errors
    /// Where no port is free.
    pub async fn served() -> Result<(Self, String)> {
        let stagehand = Arc::new(Stagehand::default());
        let listener = TcpListener::bind(ANYWHERE).await?;
        let url = format!("http://{}/redrive", listener.local_addr()?);
        let router = Router::new()
            .route("/redrive", post(redrive))
            .with_state(Arc::clone(&stagehand));
        let stop = CancellationToken::new();
        let serving = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                () = serving.cancelled() => {}
            }
        });
        let comeback = Self {
            stagehand,
            _stop: stop.drop_guard(),
        };
        Ok((comeback, url))
    }

    /// Starts recovery in this process over a journal, for at most `agents` runs at a time.
    ///
    /// # Errors
    /// Never, unless names change their form.
    pub fn start(journal: Arc<dyn Journal>, agents: usize) -> Result<Self> {
        let stagehand = Arc::new(Stagehand::default());
        let stop = CancellationToken::new();
        let recovery = Recovery::new(journal.clone(), stagehand.clone(), Holder::new("recovery")?, HOLD);
        let options = Options {
            concurrency: agents + 1,
            sweep: Duration::from_secs(1),
            ..Options::default()
        };
        tokio::spawn(Driver::new(journal, Arc::new(recovery), options).run(stop.clone()));
        Ok(Self {
            stagehand,
            _stop: stop.drop_guard(),
        })
    }

    /// Where recovery announces that a run waits for its agent. To be asked for before the run begins.
    #[must_use]
    pub fn of_run(&self, run: RunId) -> UnboundedReceiver<Handover> {
        let (tell, handovers) = unbounded_channel();
        self.stagehand
            .runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(run, tell);
        handovers
    }
}

#[async_trait]
impl Redriver for Stagehand {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let app = redrive.run.app.clone();
        let driven = self.hand_over(&redrive.run, redrive.epoch);
        driven.ok_or(RedriveError::UnknownApp { app })?.await;
        Ok(())
    }
}

impl Stagehand {
    /// Hands a run to who waits for it: what ends with the drive, whichever way; none where nobody waits.
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

async fn redrive(State(stagehand): State<Arc<Stagehand>>, Json(posted): Json<Posted>) -> StatusCode {
    match stagehand.hand_over(&posted.run, posted.epoch) {
        Some(driven) => {
            driven.await;
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}
