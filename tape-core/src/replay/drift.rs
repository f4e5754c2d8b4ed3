//! Drift: a re-drive whose requests differ from the journal.

use crate::id::{AgentVersion, BudgetName, EffectId, GateName, Key, Position, SampleName, Scope, TimerName};
use crate::payload::Payload;
use std::fmt;

/// The agent's request differs from the one that the journal recorded at the same place. The agent must stop: its next acts would not
/// follow from the recorded ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent drifted from its journal at {at}: {difference}{}", told(.versions.as_deref()))]
pub struct Drift {
    /// Where.
    pub at: Place,
    /// What differs, in words for a person.
    pub difference: String,
    /// Whether the drift is only that the agent has not asked for a recorded item so far. A parallel branch may still ask for it.
    pub skipped: bool,
    /// Which versions of the agent differ, where one is known.
    pub versions: Option<Box<Versions>>,
}

/// The versions of two agents, where they have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of the agent that began the run.
    pub begun: Option<AgentVersion>,
    /// Of the agent that drifted.
    pub driving: Option<AgentVersion>,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |version: &Option<AgentVersion>| match version {
            Some(version) => format!("version {version}"),
            None => "no version".to_owned(),
        };
        let (begun, driving) = (text(&self.begun), text(&self.driving));
        write!(f, "the run was begun by {begun} of the agent, this is {driving}")
    }
}

fn told(versions: Option<&Versions>) -> String {
    versions.map_or_else(String::new, |versions| format!(" ({versions})"))
}

impl Drift {
    /// The same between two versions of the agent, where either has one.
    #[must_use]
    pub fn between(self, begun: Option<AgentVersion>, driving: Option<AgentVersion>) -> Self {
        let known = begun.is_some() || driving.is_some();
        let versions = known.then(|| Versions { begun, driving }.into());
        Self { versions, ..self }
    }

    pub(super) fn new(at: Place, difference: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            at,
            difference: difference.into(),
            skipped: false,
            versions: None,
        })
    }

    /// The run is to end, and the journal has more items.
    pub(super) fn unasked(at: Place) -> Box<Self> {
        let difference = "the journal has it, the agent went on without asking for it";
        Box::new(Self {
            skipped: true,
            ..*Self::new(at, difference)
        })
    }

    /// A new item is asked for, and the journal has another one first.
    pub(super) fn skipped(at: Place, asked: &Place) -> Box<Self> {
        let difference = format!("the journal has it next, the agent asked for {asked} instead");
        Box::new(Self {
            skipped: true,
            ..*Self::new(at, difference)
        })
    }
}

/// Collects what differs, in lines that show both sides.
#[derive(Debug, Default)]
pub(super) struct Differences(Vec<String>);

impl Differences {
    pub(super) fn compare<T: PartialEq>(
        &mut self,
        name: &str,
        recorded: &T,
        asked: &T,
        text: impl Fn(&T) -> String,
    ) {
        if recorded != asked {
            self.0.push(format!(
                "{name}: recorded {}, asked {}",
                text(recorded),
                text(asked)
            ));
        }
    }

    /// Compares content types and digests; the bytes need not be there.
    pub(super) fn compare_payloads(&mut self, name: &str, recorded: &Payload, asked: &Payload) {
        let what = |payload: &Payload| {
            let content_type = payload.content_type().to_owned();
            (content_type, payload.len(), payload.digest())
        };
        self.compare(
            name,
            &what(recorded),
            &what(asked),
            |(content_type, len, digest)| format!("{len} bytes of {content_type} with digest {digest}"),
        );
    }

    /// # Errors
    /// The drift at `at`, where there are differences.
    pub(super) fn at(self, at: impl FnOnce() -> Place) -> Result<(), Box<Drift>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Drift::new(at(), self.0.join("; ")))
        }
    }
}

/// A place in a journal that a re-drive passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// The input and labels of the run.
    Beginning,
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
    /// The cancelling of a timer.
    CancelledTimer(TimerName),
    /// A budget.
    Budget(BudgetName),
    /// A checkpoint.
    Checkpoint(Key),
    /// The first thing that a scope within the run asks for.
    Scope(Scope),
    /// The end of the run.
    End,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("its beginning"),
            Self::Decision(position) => write!(f, "decision {position}"),
            Self::Effect(effect) => write!(f, "effect {effect}"),
            Self::Sample { scope, n, name } => write!(f, "sample {scope}#{n} ({name})"),
            Self::Gate(gate) => write!(f, "gate '{gate}'"),
            Self::Timer(timer) => write!(f, "timer '{timer}'"),
            Self::CancelledTimer(timer) => write!(f, "the cancelling of timer '{timer}'"),
            Self::Budget(budget) => write!(f, "budget '{budget}'"),
            Self::Checkpoint(label) => write!(f, "checkpoint '{label}'"),
            Self::Scope(scope) => write!(f, "scope '{scope}'"),
            Self::End => f.write_str("its end"),
        }
    }
}
