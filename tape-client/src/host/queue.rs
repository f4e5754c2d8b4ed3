//! The recovery queue: finds runs that are due, takes them, and has them driven.

use super::Host;
use super::agent::{Agent, let_go};
use crate::error::Error;
use crate::run::{Begun, Run};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tape_api::due::DueWork;
use tape_api::recovery::{Handover, Taken};
use tape_api::{Journal, JournalError};
use tape_core::agenda;
use tape_core::causes::Causes;
use tape_core::id::{RunId, StreamId};
use tape_core::outage::Outage;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// The queue is looked at this often even where nothing wakes the host: the safety net under lost wake-ups.
const SWEEP: Duration = Duration::from_secs(10);
/// Pieces of work read at a time.
const PAGE: u32 = 256;
/// Looks are this far apart at least, and so many times as far apart as one takes, up to a bound.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_LOOKS: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// The first wait before a run is looked at again that could not be taken, and the longest.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Runs that are remembered as not to be had; beyond that they are tried early.
const HELD_OFF_MAX: usize = 10_000;
/// While the journal cannot be read, the log says so this often.
const UNREAD_AGAIN: Duration = Duration::from_secs(60);
/// Runs of agents that were cut off are let go within this time.
const CUT_OFF: Duration = Duration::from_secs(1);

/// A run that this host has adopted, and its place.
pub(super) struct Adopted {
    pub(super) run: Run,
    pub(super) place: OwnedSemaphorePermit,
}

/// What came of a run that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Its agent had it; the run itself says when it is due again.
    Driven,
    /// It could not be taken: the hint was stale, another was faster, or the journal failed.
    NotTaken,
}

/// The work of one host.
pub(super) struct Queue {
    host: Host,
    journal: Arc<dyn Journal>,
    handover: Handover,
    unread: Outage,
    tasks: JoinSet<Outcome>,
    runs: HashMap<Id, RunId>,
    under_way: HashSet<RunId>,
    held_off: HashMap<RunId, HeldOff>,
    /// Runs that were adopted on request.
    adopted: UnboundedReceiver<Adopted>,
    /// Tells agents that are under way to stop where they are.
    cut_off: watch::Sender<bool>,
}

/// A run that could not be taken.
struct HeldOff {
    until: Instant,
    waits: Backoff,
}

impl Queue {
    /// The work of `host`, and of what it adopts on request.
    pub(super) fn new(host: &Host, adopted: UnboundedReceiver<Adopted>) -> Self {
        let (journal, settings) = (Arc::clone(&host.tape.journal), &host.tape.settings);
        Self {
            handover: Handover::new(Arc::clone(&journal), host.tape.holder.clone(), settings.lease),
            host: host.clone(),
            journal,
            unread: Outage::new(UNREAD_AGAIN),
            tasks: JoinSet::new(),
            runs: HashMap::new(),
            under_way: HashSet::new(),
            held_off: HashMap::new(),
            adopted,
            cut_off: watch::Sender::new(false),
        }
    }

    /// Takes up what is due, for ever.
    pub(super) async fn work(&mut self) -> Infallible {
        loop {
            // Asked for before looking, so that what is written in between is not missed.
            let changed = self.changed();
            let looked = Instant::now();
            let next = self.look(looked).await;
            let pause = (looked.elapsed() * PAUSE_LOOKS).clamp(PAUSE, PAUSE_MAX);
            tokio::time::sleep_until(looked + pause).await;
            tokio::select! {
                // A run that has ended frees its place before another is taken.
                biased;
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                Some(adopted) = self.adopted.recv() => self.drive(adopted),
                () = changed => {}
                () = tokio::time::sleep_until(next) => {}
            }
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                self.ended(ended);
            }
        }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        if self.host.watches {
            self.journal.changed(agenda::Queue::Recovery)
        } else {
            std::future::pending().boxed()
        }
    }

    /// Waits for what is under way, and cuts off what is not done within `drain`, or once `hurry` completes.
    pub(super) async fn drain(mut self, drain: Duration, hurry: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.all_ended() => return,
            () = hurry => {}
            () = tokio::time::sleep(drain) => {}
        }
        tracing::warn!(
            runs = self.tasks.len(),
            "not every agent was done in time; the runs are let go"
        );
        self.cut_off.send_replace(true);
        // Where the journal is out of reach, their leases run out by themselves.
        let _ = tokio::time::timeout(CUT_OFF, self.all_ended()).await;
    }

    async fn all_ended(&mut self) {
        loop {
            while let Ok(adopted) = self.adopted.try_recv() {
                self.drive(adopted);
            }
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.ended(ended),
                None => return,
            }
        }
    }

    /// Looks at the queue, and takes up what is due and has a place. When to look again at the latest.
    async fn look(&mut self, now: Instant) -> Instant {
        if !self.host.watches {
            return now + SWEEP;
        }
        self.held_off.retain(|_, held| held.until + SWEEP > now);
        let (mut next, mut page) = (now + SWEEP, None);
        loop {
            let due = self
                .journal
                .due(agenda::Queue::Recovery, SWEEP, page.as_deref(), PAGE);
            let due = match due.await {
                Ok(due) => due,
                Err(error) => return now + self.unread(&error),
            };
            self.unread.back(now.into_std());
            for work in from_anywhere(due.work, self.host.tape.environment.random_u64()) {
                if let Some(due) = self.take_up(&work, now) {
                    next = next.min(due);
                }
            }
            page = due.next;
            if page.is_none() {
                return next;
            }
        }
    }

    /// Takes up a run of an app with an agent here, if it is due and there is a place for it. Where it is due later, when.
    fn take_up(&mut self, work: &DueWork, now: Instant) -> Option<Instant> {
        let run = work.stream.as_run()?;
        let agent = self.host.agents.get(&run.app)?;
        if self.under_way.contains(run) {
            return None;
        }
        let held = self.held_off.get(run).map_or(now, |held| held.until);
        let due = (now + work.due_in).max(held);
        if due > now {
            return Some(due);
        }
        // A place that becomes free is reason for another look.
        let place = agent.place()?;
        let redriving = self.redriving(run.clone(), agent.clone());
        self.spawn(run.clone(), place, redriving.take_and_drive());
        None
    }

    /// Drives a run that was adopted on request.
    fn drive(&mut self, Adopted { run, place }: Adopted) {
        let Some(agent) = self.host.agents.get(&run.id().app) else {
            return;
        };
        let id = run.id().clone();
        let mut redriving = self.redriving(id.clone(), agent.clone());
        self.spawn(id, place, async move {
            redriving.drive(run).await;
            Outcome::Driven
        });
    }

    fn redriving(&self, run: RunId, agent: Agent) -> Redriving {
        Redriving {
            host: self.host.clone(),
            handover: self.handover.clone(),
            agent,
            run,
            cut_off: self.cut_off.subscribe(),
        }
    }

    fn spawn(
        &mut self,
        run: RunId,
        place: OwnedSemaphorePermit,
        driving: impl Future<Output = Outcome> + Send + 'static,
    ) {
        self.under_way.insert(run.clone());
        let task = self.tasks.spawn(async move {
            let outcome = driving.await;
            drop(place);
            outcome
        });
        self.runs.insert(task.id(), run);
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = ended.unwrap_or_else(|broken_off| (broken_off.id(), Outcome::NotTaken));
        let Some(run) = self.runs.remove(&id) else { return };
        self.under_way.remove(&run);
        match outcome {
            Outcome::Driven => drop(self.held_off.remove(&run)),
            Outcome::NotTaken => self.hold_off(run),
        }
    }

    /// Leaves a run alone for a while, longer each time: looking at a stale hint again at once would be a busy loop.
    fn hold_off(&mut self, run: RunId) {
        let (now, chance) = (Instant::now(), self.host.tape.environment.chance());
        if self.held_off.len() >= HELD_OFF_MAX && !self.held_off.contains_key(&run) {
            return;
        }
        let held = self.held_off.entry(run).or_insert_with(|| HeldOff {
            until: now,
            waits: Backoff::new(AGAIN, AGAIN_MAX),
        });
        held.until = now + held.waits.next(chance);
    }

    /// The queue cannot be read. How long to wait before the next look.
    fn unread(&mut self, error: &JournalError) -> Duration {
        let error = Causes(error).to_string();
        if let Some(spell) = self.unread.lost(Instant::now().into_std(), &error) {
            tracing::warn!(error, %spell, "the recovery queue cannot be read; trying again");
        }
        AGAIN
    }
}

/// The pieces in their order, from a place by chance on, so that several hosts do not all go for the same.
fn from_anywhere(mut work: Vec<DueWork>, bits: u64) -> Vec<DueWork> {
    if !work.is_empty() {
        let first = bits % u64::try_from(work.len()).unwrap_or(1);
        work.rotate_left(usize::try_from(first).unwrap_or(0));
    }
    work
}

/// One run on its way to its agent.
struct Redriving {
    host: Host,
    handover: Handover,
    agent: Agent,
    run: RunId,
    cut_off: watch::Receiver<bool>,
}

impl Redriving {
    async fn take_and_drive(mut self) -> Outcome {
        let run = StreamId::Run(self.run.clone());
        let taken = self.take().await.unwrap_or_else(|error| {
            tracing::debug!(%run, error = %Causes(&error), "the run could not be taken");
            Taken::Nothing
        });
        let epoch = match taken {
            Taken::Held(epoch) => epoch,
            Taken::Stuck(reason) => {
                tracing::warn!(%run, reason, "the run waits for a person");
                return Outcome::NotTaken;
            }
            Taken::Nothing => return Outcome::NotTaken,
        };
        let adopt = self.host.tape.run(self.run.clone()).existing().adopt(epoch);
        match adopt.begin().await {
            Ok(Begun::Driving(driving)) => self.drive(driving).await,
            Ok(Begun::Ended(_)) => {}
            Err(error) => {
                tracing::warn!(%run, error = %Causes(&error), "the run could not be adopted");
                // Where it cannot be let go either, its lease runs out.
                let _ = self.handover.release(&self.run, epoch).await;
            }
        }
        Outcome::Driven
    }

    async fn take(&self) -> Result<Taken, JournalError> {
        if self.host.takes(&self.run).await? {
            self.handover.take(&self.run).await
        } else {
            Ok(Taken::Nothing)
        }
    }

    async fn drive(&mut self, run: Run) {
        let name = StreamId::Run(self.run.clone());
        tracing::debug!(run = %name, epoch = %run.epoch(), "driving again");
        let cut_off = async { drop(self.cut_off.wait_for(|cut_off| *cut_off).await) };
        let driven = tokio::select! {
            biased;
            driven = self.agent.drive(run.clone()) => driven,
            () = cut_off => return let_go(&run).await,
        };
        match driven {
            Ok(_) => tracing::info!(run = %name, "driven to its end"),
            Err(Error::Suspended) => tracing::debug!(run = %name, "it waits"),
            Err(error @ (Error::LostLease { .. } | Error::Ended(_))) => {
                tracing::info!(run = %name, %error, "left to others");
            }
            // It was logged where it was caught.
            Err(Error::Panicked { run: panicked, .. }) if panicked == self.run => {}
            Err(error) => {
                tracing::warn!(run = %name, error = %Causes(&error), next = error.next(), "the agent ended in an error");
            }
        }
    }
}
