//! One drive of an agent from the start to the end of its run, over as many processes as it takes.

use super::clock::SeededClock;
use super::course::Course;
use super::disturbance::{Disturbance, Moments};
use super::journal::Mortal;
use super::outcome::Outcome;
use super::samples::Samples;
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
use tape_api::due::DueWork;
use tape_api::query::Until;
use tape_api::{Journal, JournalError};
use tape_core::agenda::{Item, Queue};
use tape_core::codec::decode;
use tape_core::entry::EntryBody;
use tape_core::id::{EffectId, Holder, RunId, Seq, SignalId};
use tape_engine::Engine;
use tape_store::memory::MemoryStore;

/// How long a process holds the run without renewing it.
const LEASE: Duration = Duration::from_secs(10);
/// Between two processes, at least.
const PAUSE: Duration = Duration::from_secs(1);
/// After so many processes, the kit gives up on a run that has not ended.
const PROCESSES_MAX: u32 = 100;
/// Work that is due within this time is looked for: a hundred years.
const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Pieces of due work that are looked at: one run has few.
const PAGE: u32 = 100;

/// One drive from the start.
pub(super) struct Trial<'a, A> {
    agent: &'a A,
    script: &'a Script,
    samples: Arc<Samples>,
    course: Arc<Course>,
    engine: Engine,
    upstream: Upstream,
    run: RunId,
}

/// Its outcome.
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    /// What its processes did.
    pub(super) moments: Moments,
    /// Whether the disturbance happened.
    pub(super) fired: bool,
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
    pub(super) fn of(
        agent: &'a A,
        script: &'a Script,
        samples: &Arc<Samples>,
        disturbance: Disturbance,
    ) -> Self {
        let course = Arc::new(Course::new(disturbance));
        Self {
            agent,
            script,
            samples: Arc::clone(samples),
            course: Arc::clone(&course),
            engine: Engine::new(Arc::new(MemoryStore::new()), Arc::new(SeededClock::new())),
            upstream: Upstream::new(course),
            run: RunId::new("kit", "agent", "user", "session", "run").expect("these are names"),
        }
    }

    pub(super) async fn run(self) -> Result<Tried, Violation> {
        let mut last = String::new();
        for process in 1..=PROCESSES_MAX {
            let journal = Mortal::new(self.engine.clone(), Arc::clone(&self.course));
            let life = self.live(&journal, process).await?;
            // Remaining tasks of the process write nothing more.
            journal.die();
            match life {
                Life::Ended(result) => return self.tried(result).await,
                Life::Again(why) => last = why,
            }
            self.until_due(&last).await?;
        }
        Err(self.violated(format!(
            "the run has not ended after {PROCESSES_MAX} processes; the last one: {last}"
        )))
    }

    async fn tried(&self, result: RunResult) -> Result<Tried, Violation> {
        Ok(Tried {
            outcome: Outcome::of(result, &self.entries().await?, &self.upstream),
            moments: self.course.moments(),
            fired: self.course.has_fired(),
        })
    }

    /// One process.
    async fn live(&self, journal: &Mortal, process: u32) -> Result<Life, Violation> {
        let process = Process {
            work: Box::pin(self.drive(journal, process)),
            course: &self.course,
        };
        let worked = tokio::select! {
            // A kill comes before whatever the process would have done next.
            biased;
            () = journal.died() => None,
            worked = process => worked,
        };
        match worked {
            None => Ok(Life::Again("it was killed".to_owned())),
            Some(Ok(result)) => Ok(Life::Ended(result)),
            Some(Err(error)) if is_the_agents(&error) => {
                Err(self.violated(format!("{error}: {}", error.next())))
            }
            Some(Err(error)) => Ok(Life::Again(error.to_string())),
        }
    }

    async fn drive(&self, journal: &Mortal, process: u32) -> Result<RunResult, Error> {
        let tape = Tape::over(journal.clone())
            .holder(Holder::new(format!("process-{process}"))?)
            .lease(LEASE)
            .samples(Arc::clone(&self.samples))
            .connect()
            .await?;
        let begin = tape.run(self.run.clone()).input(self.script.input.clone());
        match begin.begin().await? {
            Begun::Ended(result) => Ok(result),
            Begun::Driving(run) => {
                self.answer().await?;
                let handed = (self.agent)(run.clone(), self.upstream.clone()).await;
                run.handed_up(handed).await
            }
        }
    }

    /// Waits until the run is due to be driven again, however long that is: time is virtual.
    async fn until_due(&self, last: &str) -> Result<(), Violation> {
        if let Some(Item::Effect(effect)) = self.due(Queue::Outbox).await?.map(|work| work.item) {
            return Err(self.without_a_worker(&effect).await);
        }
        let due_in = match self.due(Queue::Recovery).await? {
            Some(work) => work.due_in,
            None if self.is_suspended().await? => {
                let problem = format!(
                    "the run waits for what never comes, such as a signal that the kit was not given; the last process: {last}"
                );
                return Err(self.violated(problem));
            }
            // It has not begun, or has ended: the next process sees to it.
            None => Duration::ZERO,
        };
        tokio::time::sleep(due_in.max(PAUSE)).await;
        Ok(())
    }

    async fn is_suspended(&self) -> Result<bool, Violation> {
        let entries = self.entries().await?;
        Ok(matches!(entries.last(), Some(EntryBody::RunSuspended(_))))
    }

    /// The first piece of work of a queue.
    async fn due(&self, queue: Queue) -> Result<Option<DueWork>, Violation> {
        let due = Journal::due(&self.engine, queue, EVER, None, PAGE).await;
        let work = due.map_err(|error| self.unread(&error))?.work;
        Ok(work.into_iter().min_by_key(|work| work.due_in))
    }

    async fn without_a_worker(&self, effect: &EffectId) -> Violation {
        let connector = match self.engine.due_effect(&self.run, effect).await {
            Ok(Some(due)) => format!(" of connector '{}'", due.connector),
            _ => String::new(),
        };
        self.violated(format!(
            "effect {effect}{connector} is for the outbox: the kit has no worker that dispatches it. Check the agent without it, or with the \
             effect run by the agent"
        ))
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
            let page = page.map_err(|error| self.unread(&error))?;
            for stored in &page {
                let entry = decode(stored).map_err(|error| self.violated(error.to_string()))?;
                bodies.push(entry.body);
            }
        }
        Ok(bodies)
    }

    fn unread(&self, error: &JournalError) -> Violation {
        self.violated(error.to_string())
    }

    fn violated(&self, problem: String) -> Violation {
        Violation {
            disturbance: self.course.disturbance(),
            problem,
        }
    }
}

/// Whether an error is a mistake of the agent, which driving it again does not mend.
const fn is_the_agents(error: &Error) -> bool {
    matches!(
        error,
        Error::Drift(_) | Error::Damaged { .. } | Error::Invalid { .. } | Error::Astray { .. }
    )
}

/// A process at work, which may be killed where it waits.
struct Process<'a, F> {
    work: Pin<Box<F>>,
    course: &'a Course,
}

impl<T, F: Future<Output = T>> Future for Process<'_, F> {
    /// Its result; none where it was killed.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = self.work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        match self.course.wait() {
            Disturbance::KilledAtAwait(_) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}
