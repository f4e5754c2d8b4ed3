//! Recovery, as a play uses it: a run whose agent was killed is taken by Tape's recovery reactor and handed to the play,
//! which starts its agent again.

use anyhow::Result;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tape_client::RunId;
use tape_client::core::id::{App, Holder};
use tape_reactors::{Access, Driver, Options, Recovery, Redrive, RedriveError, Redriver};
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

/// Recovery at work, until it is dropped.
#[derive(Debug)]
pub struct Comeback {
    stagehand: Arc<Stagehand>,
    _stop: DropGuard,
}

impl Comeback {
    /// Starts recovery over a journal, for at most `agents` runs at a time.
    ///
    /// # Errors
    /// Never, unless names change their form.
    pub fn start(access: Arc<dyn Access>, agents: usize) -> Result<Self> {
        let stagehand = Arc::new(Stagehand::default());
        let stop = CancellationToken::new();
        let recovery = Recovery::new(access.clone(), stagehand.clone(), Holder::new("recovery")?, HOLD);
        let options = Options {
            concurrency: agents + 1,
            sweep: Duration::from_secs(1),
            ..Options::default()
        };
        tokio::spawn(Driver::new(access, Arc::new(recovery), options).run(stop.clone()));
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
        let unknown = |app: &App| RedriveError::UnknownApp { app: app.clone() };
        let (driven, ended) = oneshot::channel();
        let handover = Handover {
            epoch: redrive.epoch.0,
            _driven: driven,
        };
        let told = {
            let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.get(&redrive.run)
                .is_some_and(|tell| tell.send(handover).is_ok())
        };
        if !told {
            return Err(unknown(&redrive.run.app));
        }
        // The sender is dropped when the drive has ended, whichever way.
        let _ = ended.await;
        Ok(())
    }
}
