//! How a run begins, and the commands of its driver.

use super::AttemptOutcome;
use crate::budget::{Currency, Spend};
use crate::effect::EffectSpec;
use crate::entry::decision::Usage;
use crate::entry::run::Lineage;
use crate::fingerprint::Fingerprint;
use crate::id::{
    BudgetName, EffectId, Epoch, GateName, Holder, Key, Position, RunId, SampleName, Scope, Seq, TimerName,
};
use crate::payload::Payload;
use crate::time::Deadline;
use serde::Serialize;
use std::collections::BTreeMap;

/// Begins a run, or takes over the existing one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Begin {
    /// The run.
    pub run: RunId,
    /// What to begin it with. Without it, only an existing run is taken over.
    pub create: Option<Create>,
    /// The driver.
    pub holder: Holder,
    /// How long the lease lasts unless renewed, in milliseconds.
    pub lease_ms: u64,
    /// Takes the run from the holder of this epoch, who handed it over. It is refused where the run is at another epoch, or the holder gave
    /// it up: so each epoch is adopted once. It begins no run. Without it, a live lease refuses the caller even if the lease's holder has the
    /// caller's name: two processes may have the same name.
    pub adopt: Option<Epoch>,
    /// Whether the caller is recovery, which takes only runs that are due. That is a re-drive, which counts once an agent has the run.
    pub recovery: bool,
}

/// What a run is begun with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Create {
    /// What the run is found by.
    pub labels: BTreeMap<Key, String>,
    /// What the agent is given.
    pub input: Payload,
    /// The run whose prefix it is to replay. Forks are not built yet, so a command with one is refused.
    pub forked_from: Option<Lineage>,
}

/// What the driver of a run can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum DriverCommand {
    /// Renews the lease for `lease_ms` from now.
    RenewLease {
        /// Milliseconds from now.
        lease_ms: u64,
    },
    /// Releases the run. Recovery may take it after `redrive_in_ms`.
    ReleaseLease {
        /// Milliseconds from now.
        redrive_in_ms: u64,
        /// Whether recovery reached no agent: then the re-drive does not count towards the bound on those without progress.
        undriven: bool,
    },
    /// Records what the model answered.
    RecordDecision(RecordDecision),
    /// Reserves parts of budgets for the decision about to be asked at `position`.
    ReserveForDecision {
        /// The next decision of its scope.
        position: Position,
        /// How much.
        spends: Vec<Spend>,
    },
    /// Releases the reservation of a decision that will not be asked.
    ReleaseReservation {
        /// The decision.
        position: Position,
    },
    /// Makes the intent of an effect durable. Inline, its first attempt starts too.
    BeginEffect {
        /// Which.
        effect: EffectId,
        /// What.
        spec: EffectSpec,
    },
    /// Starts another attempt of an inline effect.
    RestartEffect {
        /// Which.
        effect: EffectId,
    },
    /// Records how an attempt of an inline effect ended.
    FinishEffect {
        /// Which.
        effect: EffectId,
        /// The attempt that ended.
        attempt: u32,
        /// How.
        ending: AttemptOutcome,
    },
    /// Opens a gate.
    OpenGate {
        /// The gate.
        gate: GateName,
        /// The wait ends here without a signal.
        deadline: Option<Deadline>,
    },
    /// Sets a timer.
    SetTimer {
        /// The timer.
        timer: TimerName,
        /// When it is due.
        due: Deadline,
        /// What it carries.
        note: Payload,
    },
    /// Cancels a timer that has not fired.
    CancelTimer {
        /// The timer.
        timer: TimerName,
    },
    /// Opens a budget.
    OpenBudget {
        /// The budget.
        budget: BudgetName,
        /// The budget it is part of.
        parent: Option<BudgetName>,
        /// What it counts.
        currency: Currency,
        /// The most that may be spent.
        limit: u64,
    },
    /// Records a value from outside the rules.
    RecordSample {
        /// The scope.
        scope: Scope,
        /// Which sample of the scope.
        n: u32,
        /// Its name.
        name: SampleName,
        /// The value.
        value: Payload,
    },
    /// Records how far the agent is.
    Checkpoint {
        /// What was reached.
        label: Key,
        /// The agent's own state.
        state: Payload,
    },
    /// Lets the run wait without a driver. The run is woken when the next attempt at an inline effect is due. An attempt that is under way
    /// or already due refuses the command.
    Suspend {
        /// The last entry that the driver has seen. If a gate, timer or effect ended after it, the run is not suspended, since nothing
        /// would wake it.
        seen: Seq,
        /// Wakes it in any case.
        resume: Option<Deadline>,
    },
    /// Completes the run.
    Complete {
        /// What came of it.
        output: Payload,
    },
    /// Ends the run as failed, once its effects are undone.
    Fail {
        /// What went wrong.
        error: String,
    },
    /// Ends the run as cancelled, once its effects are undone.
    AcceptCancel,
    /// A gate, timer, budget or checkpoint of a scope within the run. Without this wrapper, the command is the root scope's.
    Within {
        /// The scope that asks.
        scope: Scope,
        /// What it asks for.
        command: Box<Self>,
    },
}

impl DriverCommand {
    /// The command as `scope` asks for it.
    #[must_use]
    pub fn within(self, scope: &Scope) -> Self {
        if scope.is_root() {
            return self;
        }
        Self::Within {
            scope: scope.clone(),
            command: Box::new(self),
        }
    }
}

/// Records what the model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordDecision {
    /// Where: the next decision of its scope.
    pub position: Position,
    /// What the model was asked.
    pub fingerprint: Fingerprint,
    /// The answer.
    pub response: Payload,
    /// The model.
    pub model: String,
    /// What it used.
    pub usage: Usage,
    /// Why.
    pub rationale: Option<Payload>,
    /// The version of the policy it was made under.
    pub policy_version: String,
    /// What is charged to budgets.
    pub spent: Vec<Spend>,
}
