//! One drive of an agent from the start to the end of its run, over as many processes as it takes.

use super::clock::SeededClock;
use super::disturbance::{Disturbance, Moments};
use super::journal::Mortal;
use super::outcome::Outcome;
use super::upstream::Upstream;
use super::{Script, Violation};
use crate::client::Tape;
use crate::error::Error;
use crate::run::{Begun, Run, RunResult};
use futures::StreamExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tape_api::Journal;
use tape_api::query::Until;
use tape_core::codec::decode;
use tape_core::entry::EntryBody;
use tape_core::id::{Holder, RunId, Seq, SignalId};
use tape_engine::Engine;
use tape_store::memory::MemoryStore;

/// How long a process holds the run without renewing it.
const LEASE: Duration = Duration::from_secs(10);
/// Between two processes, or two looks at a run that waits.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many drives, the kit gives up on a run that has not ended.
const DRIVES_MAX: u32 = 100;

/// One drive from the start.
pub(super) struct Trial<'a, A> {
    agent: &'a A,
    script: &'a Script,
    disturbance: Disturbance,
    engine: Engine,
    upstream: Upstream,
    run: RunId,
}

/// Its outcome.
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    /// What the first process did.
    pub(super) moments: Moments,
}

/// How one process ended.
enum Life {
    Ended(RunResult),
    /// It was killed, or the run continues later.
    Again(String),
}

impl<'a, A, F> Trial<'a, A>
where
    A: Fn(Run, Upstream) -> F,
    F: Future<Output = Result<RunResult, Error>>,
{
    pub(super) fn of(agent: &'a A, script: &'a Script, disturbance: Disturbance) -> Self {
        Self {
            agent,
            script,
            disturbance,
            engine: Engine::new(Arc::new(MemoryStore::new()), Arc::new(SeededClock::new())),
            upstream: Upstream::new(disturbance),
            run: RunId::new("kit", "agent", "user", "session", "run").expect("these are names"),
        }
    }

    pub(super) async fn run(self) -> Result<Tried, Violation> {
        let mut moments = Moments::default();
        let mut last = String::new();
        for drive in 1..=DRIVES_MAX {
            // One process is disturbed, the first.
            let disturbance = if drive == 1 {
                self.disturbance
            } else {
                Disturbance::None
            };
            let journal = Mortal::new(self.engine.clone(), disturbance);
            let (life, awaits) = self.live(&journal, disturbance, drive).await?;
            if drive == 1 {
                moments.awaits = awaits;
            }
            moments.writes = moments.writes.max(journal.writes());
            // Remaining tasks of the process write nothing more.
            journal.die();
            match life {
                Life::Ended(result) => {
                    moments.calls = self.upstream.calls();
                    let outcome = Outcome::of(result, &self.entries().await?, &self.upstream);
                    return Ok(Tried { outcome, moments });
                }
                Life::Again(why) => last = why,
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.violated(format!(
            "the run has not ended after {DRIVES_MAX} drives; the last one: {last}"
        )))
    }

    /// One process.
    async fn live(
        &self,
        journal: &Mortal,
        disturbance: Disturbance,
        drive: u32,
    ) -> Result<(Life, u32), Violation> {
        let process = Process {
            work: Box::pin(self.drive(journal, drive)),
            kill_at: match disturbance {
                Disturbance::KilledAtAwait(n) => Some(n),
                _ => None,
            },
            journal,
            awaits: 0,
        };
        let (worked, awaits) = tokio::select! {
            // A kill comes before whatever the process would have done next.
            biased;
            () = journal.died() => return Ok((Life::Again("it was killed".to_owned()), 0)),
            worked = process => worked,
        };
        let life = match worked {
            None => Life::Again("it was killed".to_owned()),
            Some(Ok(result)) => Life::Ended(result),
            Some(Err(error @ (Error::Drift(_) | Error::Damaged { .. } | Error::Invalid { .. }))) => {
                return Err(self.violated(format!("{error}: {}", error.next())));
            }
            Some(Err(error)) => Life::Again(error.to_string()),
        };
        Ok((life, awaits))
    }

    async fn drive(&self, journal: &Mortal, drive: u32) -> Result<RunResult, Error> {
        let tape = Tape::over(journal.clone())
            .holder(Holder::new(format!("process-{drive}"))?)
            .lease(LEASE)
            .connect()
            .await?;
        let begin = tape.run(self.run.clone()).input(self.script.input.clone());
        match begin.begin().await? {
            Begun::Ended(result) => Ok(result),
            Begun::Driving(run) => {
                self.answer().await?;
                (self.agent)(run, self.upstream.clone()).await
            }
        }
    }

    /// Sends the signals of the script. Each counts once.
    async fn answer(&self) -> Result<(), Error> {
        let person = Tape::over(self.engine.clone()).connect().await?;
        for (gate, answer) in &self.script.answers {
            let id = SignalId::new("kit")?;
            person.signal(&self.run, gate.clone(), id, answer.clone()).await?;
        }
        Ok(())
    }

    /// The entries of the run.
    async fn entries(&self) -> Result<Vec<EntryBody>, Violation> {
        let mut pages = Journal::entries(&self.engine, &self.run, Seq::ZERO, Until::End);
        let mut bodies = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.violated(error.to_string()))?;
            for stored in &page {
                let entry = decode(stored).map_err(|error| self.violated(error.to_string()))?;
                bodies.push(entry.body);
            }
        }
        Ok(bodies)
    }

    const fn violated(&self, problem: String) -> Violation {
        Violation {
            disturbance: self.disturbance,
            problem,
        }
    }
}

/// A process at work, which counts how often it waits, and may be killed there.
struct Process<'a, F> {
    work: Pin<Box<F>>,
    kill_at: Option<u32>,
    journal: &'a Mortal,
    awaits: u32,
}

impl<T, F: Future<Output = T>> Future for Process<'_, F> {
    /// Its result, none where it was killed; and how often it waited.
    type Output = (Option<T>, u32);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(done) = this.work.as_mut().poll(context) {
            return Poll::Ready((Some(done), this.awaits));
        }
        this.awaits += 1;
        if this.kill_at == Some(this.awaits) {
            this.journal.die();
            return Poll::Ready((None, this.awaits));
        }
        Poll::Pending
    }
}
