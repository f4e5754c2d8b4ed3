//! Kills processes in the middle of calls that the airline holds.

use super::{Signal, Supervisor};
use crate::airline::Airline;
use anyhow::{Context as _, Result, bail};
use std::sync::Arc;
use tape_examples::non_idempotent_upstream::{HOLDS, Held};
use tape_examples::stops::{Stop, Victim};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The channel for the references of calls to release.
type Go = UnboundedSender<String>;

impl Supervisor {
    /// Listens to the airline while it runs, and does what is planned for each held call.
    pub(super) async fn hear_airline(self: Arc<Self>, mut airline: Airline) -> Result<()> {
        let (go, mut going) = unbounded_channel();
        let mut directions = JoinSet::new();
        loop {
            tokio::select! {
                report = airline.report() => self.heard(&report?, &go, &mut directions)?,
                Some(reference) = going.recv() => airline.let_go(&reference).await?,
                Some(done) = directions.join_next() => done??,
            }
        }
    }

    fn heard(self: &Arc<Self>, report: &str, go: &Go, directions: &mut JoinSet<Result<()>>) -> Result<()> {
        match report.split_once(' ') {
            // An agent calls by itself.
            Some(("held", reference)) => self.signal(run_of(reference), Signal::Held),
            Some((HOLDS, held)) => {
                let held: Held = serde_json::from_str(held)?;
                directions.spawn(Arc::clone(self).direct(held, go.clone()));
                Ok(())
            }
            _ => bail!("the airline says '{report}'"),
        }
    }

    /// Kills the victim that a call is held for. A call whose worker is still alive is then released.
    async fn direct(self: Arc<Self>, held: Held, go: Go) -> Result<()> {
        let (hold, journals) = (held.hold, self.backing.journals()?);
        let let_go = || {
            let told = go.send(hold.reference.clone());
            told.context("no task listens to the airline")
        };
        match hold.victim {
            Victim::Reactor => journals.reactors()?.kill(held.worker).await?,
            Victim::Server(server) => journals.servers()?.kill(server, async { let_go() }).await?,
            Victim::Agent => {
                let (tell, died) = oneshot::channel();
                self.signal(run_of(&hold.reference), Signal::Die(tell))?;
                died.await.context("a run ended before its agent was killed")?;
                let_go()?;
            }
            Victim::Answer => bail!("no lost answers are planned"),
        }
        self.count(Stop {
            step: hold.reference,
            point: hold.point,
            victim: hold.victim,
        });
        Ok(())
    }
}

/// The run of an act.
fn run_of(reference: &str) -> &str {
    reference.split('/').next().unwrap_or_default()
}
