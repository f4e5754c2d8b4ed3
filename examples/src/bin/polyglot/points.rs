//! The points of a process at which it may be killed.

use anyhow::Result;
use async_trait::async_trait;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tape_client::core::command::{Command, DriverCommand, RunCommand};
use tape_client::core::id::RunId;
use tape_client::core::reply::Reply;
use tape_client::{Journal, JournalError, api::Layer};

/// Counts the points that the process passes, and ends it with SIGKILL at one of them.
#[derive(Debug)]
pub(crate) struct Points {
    passed: AtomicU32,
    kill: u32,
    only: Option<String>,
}

impl Points {
    /// As `TAPE_KILL` says, and `TAPE_KILL_ONLY`, which names the kind of point that counts.
    ///
    /// # Errors
    /// Where `TAPE_KILL` is no number.
    pub(crate) fn from_environment() -> Result<Arc<Self>> {
        let kill = std::env::var("TAPE_KILL").map_or(Ok(0), |number| number.parse())?;
        Ok(Arc::new(Self {
            passed: AtomicU32::new(0),
            kill,
            only: std::env::var("TAPE_KILL_ONLY").ok(),
        }))
    }

    /// The process is at a point: `answered` or `acted`.
    pub(crate) fn pass(&self, point: &str) {
        if self.only.as_deref().is_some_and(|only| only != point) {
            return;
        }
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.kill {
            kill_this_process();
        }
    }

    /// How many there were.
    pub(crate) fn passed(&self) -> u32 {
        self.passed.load(Ordering::SeqCst)
    }
}

/// SIGKILL, by the command of that name: it cannot be caught, and nothing of this process runs any more once it is there.
fn kill_this_process() -> ! {
    let this = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-KILL", &this]).status();
    unreachable!("SIGKILL was sent to this process: {sent:?}")
}

/// A journal whose commands of drivers are points, but for renewals of leases, which depend on the time.
#[derive(Debug)]
pub(crate) struct Counted {
    journal: Arc<dyn Journal>,
    points: Arc<Points>,
}

impl Counted {
    /// Counts the commands to `journal`.
    pub(crate) fn new(journal: Arc<dyn Journal>, points: Arc<Points>) -> Self {
        Self { journal, points }
    }
}

#[async_trait]
impl Layer for Counted {
    fn inner(&self) -> &dyn Journal {
        self.journal.as_ref()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        let counts = match &command.body {
            RunCommand::Begin(_) => true,
            RunCommand::Drive(_, command) => !matches!(command, DriverCommand::RenewLease { .. }),
            RunCommand::Work(_) | RunCommand::External(_) => false,
        };
        let answer = self.journal.run(run, command).await;
        if counts {
            self.points.pass("answered");
        }
        answer
    }
}
