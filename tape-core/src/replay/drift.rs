//! Drift: a re-drive that asks something else than the journal recorded.

use crate::id::{BudgetName, EffectId, GateName, Key, Position, SampleName, Scope, TimerName};
use std::fmt;

/// The agent asked something else than the journal recorded at the same place. It must stop: what it would do now does
/// not follow from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent drifted from its journal at {at}: {difference}")]
pub struct Drift {
    /// Where.
    pub at: Place,
    /// What differs, in words for a person.
    pub difference: String,
}

impl Drift {
    pub(super) fn new(at: Place, difference: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            at,
            difference: difference.into(),
        })
    }

    pub(super) fn unasked(at: Place) -> Box<Self> {
        Self::new(at, "the journal has it, the agent went on without asking for it")
    }
}

/// A place of a journal that a re-drive comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A decision.
    Decision(Position),
    /// An effect.
    Effect(EffectId),
    /// A sample.
    Sample {
        /// Its scope.
        scope: Scope,
        /// Its number.
        n: u32,
        /// Its name, as recorded.
        name: SampleName,
    },
    /// A gate.
    Gate(GateName),
    /// A timer.
    Timer(TimerName),
    /// A budget.
    Budget(BudgetName),
    /// A checkpoint.
    Checkpoint(Key),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decision(position) => write!(f, "decision {position}"),
            Self::Effect(effect) => write!(f, "effect {effect}"),
            Self::Sample { scope, n, name } => write!(f, "sample {scope}#{n} ({name})"),
            Self::Gate(gate) => write!(f, "gate '{gate}'"),
            Self::Timer(timer) => write!(f, "timer '{timer}'"),
            Self::Budget(budget) => write!(f, "budget '{budget}'"),
            Self::Checkpoint(label) => write!(f, "checkpoint '{label}'"),
        }
    }
}
