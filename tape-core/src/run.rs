//! A run: the state folded from its journal, and the rules for its next commands.
//!
//! Each family of commands has its file below. `phase` has what a run accepts in each phase, `dispatch` passes commands to their families,
//! and `fold` passes entries to them.

mod attempt;
mod budget;
pub(crate) mod check;
mod claimable;
mod close;
mod decision;
mod dispatch;
mod effect;
mod erase;
mod fold;
mod gate;
mod lease;
mod obligation;
mod observe;
mod phase;
mod release;
mod retire;
mod sample;
mod suspend;
mod timer;
mod verdict;

pub use budget::Budget;
pub use effect::Effect;
pub use erase::ARGUMENTS_ERASED;
pub use gate::Gate;
pub use lease::{Driver, Lease};
pub use obligation::{Obligation, ObligationStatus};
pub use phase::Phase;
pub use timer::Timer;

use crate::agenda::{Agenda, Item, Queue};
use crate::command::{Command, RunCommand};
use crate::decider::{Decider, ReplayError};
use crate::effect::Status;
use crate::entry::obligation::ObligationId;
use crate::entry::run::RunOutcome;
use crate::entry::{Entry, EntryBody};
use crate::erasure::{ErasureCommand, Erasures};
use crate::id::{
    BudgetName, EffectId, Epoch, GateName, Key, Position, RunId, Scope, Seq, StreamId, TimerName,
};
use crate::replies::Replies;
use crate::reply::{Decided, Rejection, ReplyResult};
use crate::reply::{already, decided};
use crate::status::{RunStatus, Summary};
use crate::time::{Now, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The folded state of a run. Its size follows what is open now, not the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    seq: Seq,
    begun: Option<Identity>,
    phase: Phase,
    changed_at: Timestamp,
    cancel: Option<String>,
    stuck: Option<String>,
    /// The entry since which it is stuck.
    stuck_at: Seq,
    /// The last entry that may wake a waiting driver.
    event: Seq,
    lease: Lease,
    epoch: Epoch,
    /// The last entry that a driver wrote: the driver was alive then.
    driver_wrote: Seq,
    /// Re-drives since the last progress, which back off, and how many of them an agent had, which are bounded.
    redrives: u32,
    driven: u32,
    /// Whether the last re-drive has reached no agent yet.
    handing_over: bool,
    scopes: BTreeMap<Scope, decision::ScopeState>,
    effects: BTreeMap<EffectId, Effect>,
    obligations: Vec<Obligation>,
    gates: BTreeMap<GateName, Gate>,
    timers: BTreeMap<TimerName, Timer>,
    budgets: BTreeMap<BudgetName, Budget>,
    reservations: BTreeMap<Position, Vec<crate::budget::Spend>>,
    replies: Replies,
    ending_said: erase::EndingSaid,
    erasures: Erasures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired: Option<retire::RetiredIn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    run: RunId,
    labels: BTreeMap<Key, String>,
    at: Timestamp,
}

impl Run {
    /// The run, once it has begun.
    #[must_use]
    pub fn id(&self) -> Option<&RunId> {
        self.begun.as_ref().map(|identity| &identity.run)
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why a cancellation was requested, while it waits for the driver.
    #[must_use]
    pub fn cancel_requested(&self) -> Option<&str> {
        self.cancel.as_deref()
    }

    /// Why it waits for a person, where it does.
    #[must_use]
    pub fn stuck(&self) -> Option<&str> {
        let obligation = || self.obligations.iter().find_map(Obligation::stuck);
        let effect = || self.effects.values().find_map(|effect| effect.stuck.as_deref());
        self.stuck.as_deref().or_else(obligation).or_else(effect)
    }

    /// The entry since which the run itself waits for a person, if it does.
    #[must_use]
    pub const fn stuck_at(&self) -> Option<Seq> {
        if self.stuck.is_some() {
            Some(self.stuck_at)
        } else {
            None
        }
    }

    /// Its lease.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Effects that are not settled, and settled ones of the newest decision of each scope.
    #[must_use]
    pub const fn effects(&self) -> &BTreeMap<EffectId, Effect> {
        &self.effects
    }

    /// What is left to undo. The last one is undone first.
    #[must_use]
    pub fn obligations(&self) -> &[Obligation] {
        &self.obligations
    }

    /// The gates.
    #[must_use]
    pub const fn gates(&self) -> &BTreeMap<GateName, Gate> {
        &self.gates
    }

    /// The timers.
    #[must_use]
    pub const fn timers(&self) -> &BTreeMap<TimerName, Timer> {
        &self.timers
    }

    /// The budgets.
    #[must_use]
    pub const fn budgets(&self) -> &BTreeMap<BudgetName, Budget> {
        &self.budgets
    }

    /// Where the run stands, in one word.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        match &self.phase {
            Phase::Ended {
                ending: RunOutcome::Completed,
            } => RunStatus::Completed,
            Phase::Ended {
                ending: RunOutcome::Failed { .. },
            } => RunStatus::Failed,
            Phase::Ended {
                ending: RunOutcome::Cancelled { .. },
            } => RunStatus::Cancelled,
            _ if self.stuck().is_some() => RunStatus::Stuck,
            Phase::Compensating { .. } => RunStatus::Compensating,
            Phase::Suspended { .. } => RunStatus::Suspended,
            Phase::New | Phase::Running => RunStatus::Running,
        }
    }

    fn append(&self, body: impl Into<EntryBody>) -> Result<Decided, Rejection> {
        Ok(decided(self.seq, vec![body.into()]))
    }

    const fn already(&self, result: ReplyResult) -> Decided {
        already(self.seq, result)
    }

    /// The reply for what an entry has recorded already, if that entry is known.
    fn already_in(&self, entry: Option<Seq>, result: ReplyResult) -> Decided {
        already(entry.unwrap_or(self.seq), result)
    }

    fn recovery_due(&self) -> Option<Timestamp> {
        if self.stuck.is_some() {
            return None;
        }
        match &self.phase {
            Phase::Running => self.lease.redrive_at().or(Some(self.changed_at)),
            Phase::Suspended { resume_at, woken_at } => [*resume_at, *woken_at].into_iter().flatten().min(),
            Phase::New | Phase::Compensating { .. } | Phase::Ended { .. } => None,
        }
    }
}

impl Decider for Run {
    type Command = RunCommand;
    const SNAPSHOT_VERSION: u32 = 7;

    fn accepts(stream: &StreamId) -> bool {
        matches!(stream, StreamId::Run(_))
    }

    fn begins(command: &RunCommand) -> bool {
        matches!(command, RunCommand::Begin(begin) if begin.create.is_some())
    }

    fn decide(&self, command: &Command<RunCommand>, now: impl Into<Now>) -> Result<Decided, Rejection> {
        let now = now.into();
        if let Some(first) = self.replies.recall(command, now.at())? {
            return Ok(first);
        }
        let decided = match &command.body {
            RunCommand::Begin(begin) => self.begin(begin, now),
            RunCommand::Drive(epoch, driver) => self.drive(*epoch, driver, now),
            RunCommand::Work(worker) => self.work(worker, now),
            RunCommand::External(outside) => self.tell(command, outside, now),
        }?;
        self.finish_unwinding(decided, now.at())
    }

    fn decide_erasure(
        &self,
        command: &Command<ErasureCommand>,
        now: impl Into<Now>,
    ) -> Result<Decided, Rejection> {
        match self.replies.recall(command, now.into().at())? {
            Some(first) => Ok(first),
            None => self.decide_erasing(command),
        }
    }

    fn erasures(&self) -> Option<&Erasures> {
        Some(&self.erasures)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        if entry.seq != self.seq.next() && !self.is_stood_for(entry) {
            return Err(ReplayError::OutOfOrder {
                after: self.seq,
                found: entry.seq,
            });
        }
        let impossible = |problem| ReplayError::Impossible {
            seq: entry.seq,
            kind: entry.body.kind(),
            problem,
        };
        self.fold(entry).map_err(impossible)?;
        self.replies.note(entry);
        Ok(())
    }

    fn agenda(&self) -> Agenda {
        let mut agenda = Agenda::default();
        if let Some(due) = self.recovery_due() {
            agenda.add(Queue::Recovery, Item::Run, due);
        }
        let closing = self.open().is_err();
        for (id, effect) in &self.effects {
            // Once a cancellation is requested, an effect that was not sent yet is not sent any more.
            if let Some((queue, due)) = effect
                .due()
                .filter(|_| !(closing && effect.status == Status::Pending))
            {
                agenda.add(queue, Item::Effect(id.clone()), due);
            }
        }
        if let Some((id, due)) = self.next_obligation().and_then(|o| Some((&o.id, o.due()?))) {
            agenda.add(
                Queue::Compensation,
                Item::Obligation(ObligationId::clone(id)),
                due,
            );
        }
        if self.counts().is_ok() {
            let gates = self
                .gates
                .iter()
                .filter_map(|(name, gate)| Some((name, gate.deadline()?)));
            gates.for_each(|(name, due)| agenda.add(Queue::Timers, Item::Gate(name.clone()), due));
            let timers = self
                .timers
                .iter()
                .filter_map(|(name, timer)| Some((name, timer.due()?)));
            timers.for_each(|(name, due)| agenda.add(Queue::Timers, Item::Timer(name.clone()), due));
        }
        self.erasures.add_to(&mut agenda);
        agenda
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn seq(&self) -> Seq {
        self.seq
    }

    fn named(&self) -> Option<StreamId> {
        self.id().cloned().map(StreamId::Run)
    }

    fn summary(&self) -> Option<Summary> {
        let identity = self.begun.as_ref()?;
        Some(Summary {
            status: self.status(),
            labels: identity.labels.clone(),
            begun_at: identity.at,
            changed_at: self.changed_at,
        })
    }
}
