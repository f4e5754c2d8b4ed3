//! The agenda: the due work that a stream's state implies.
//!
//! It is a function of the state. Appending entries changes it by the difference of two agendas. The stores index that difference without
//! knowing what it means.

use crate::entry::obligation::ObligationId;
use crate::id::{EffectId, GateName, InvalidName, NameProblem, TimerName};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The version of the rules that compute due work and what lists show. A build that computes either differently from the same entries
/// raises it. Indexes that agree with an earlier version are corrected.
pub const VERSION: u32 = 2;

/// A queue of due work. Each kind of worker reads one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// Runs without a driver.
    Recovery,
    /// Effects to dispatch.
    Outbox,
    /// Effects to ask the upstream about.
    Reconcile,
    /// Gates and timers that are due, changes of shared state to merge, and erased payloads to remove.
    Timers,
    /// Obligations to carry out.
    Compensation,
}

impl Queue {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Recovery,
        Self::Outbox,
        Self::Reconcile,
        Self::Timers,
        Self::Compensation,
    ];

    /// Its name as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Outbox => "outbox",
            Self::Reconcile => "reconcile",
            Self::Timers => "timers",
            Self::Compensation => "compensation",
        }
    }

    /// A small number that never changes, for keys of stores.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Recovery => 1,
            Self::Outbox => 2,
            Self::Reconcile => 3,
            Self::Timers => 4,
            Self::Compensation => 5,
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One piece of work of a stream. Its text form is a word, or `word:name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// The run itself.
    Run,
    /// An effect.
    Effect(EffectId),
    /// A gate's deadline.
    Gate(GateName),
    /// A timer.
    Timer(TimerName),
    /// An obligation.
    Obligation(ObligationId),
    /// Shared state changes of a session.
    Merge,
    /// Payloads that were erased and that the store still has.
    Erasure,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Effect(effect) => write!(f, "effect:{effect}"),
            Self::Gate(gate) => write!(f, "gate:{gate}"),
            Self::Timer(timer) => write!(f, "timer:{timer}"),
            Self::Obligation(obligation) => write!(f, "obligation:{}:{}", obligation.copy, obligation.effect),
            Self::Merge => f.write_str("merge"),
            Self::Erasure => f.write_str("erasure"),
        }
    }
}

impl FromStr for Item {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let form = || InvalidName {
            what: "agenda item",
            problem: NameProblem::Form {
                form: "word or word:name",
            },
        };
        let (word, name) = text.split_once(':').unwrap_or((text, ""));
        Ok(match word {
            "run" if name.is_empty() => Self::Run,
            "merge" if name.is_empty() => Self::Merge,
            "erasure" if name.is_empty() => Self::Erasure,
            "effect" => Self::Effect(name.parse()?),
            "gate" => Self::Gate(name.parse()?),
            "timer" => Self::Timer(name.parse()?),
            "obligation" => {
                let (copy, effect) = name.split_once(':').ok_or_else(form)?;
                let copy = copy.parse().map_err(|_| form())?;
                Self::Obligation(ObligationId {
                    effect: effect.parse()?,
                    copy,
                })
            }
            _ => return Err(form()),
        })
    }
}

/// The due work of one stream: each item, its queue and when it is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agenda(BTreeMap<(Queue, Item), Timestamp>);

impl Agenda {
    /// Adds a piece of work, due from a time.
    pub fn add(&mut self, queue: Queue, item: Item, due: Timestamp) {
        self.0.insert((queue, item), due);
    }

    /// When a piece of work is due.
    #[must_use]
    pub fn due(&self, queue: Queue, item: &Item) -> Option<Timestamp> {
        self.0.get(&(queue, item.clone())).copied()
    }

    /// All of it, by queue and item.
    pub fn iter(&self) -> impl Iterator<Item = (Queue, &Item, Timestamp)> {
        self.0.iter().map(|((queue, item), due)| (*queue, item, *due))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes that turn an index of `self` into an index of `next`.
    #[must_use]
    pub fn changes_to(&self, next: &Self) -> Vec<AgendaChange> {
        let gone = self.0.iter().filter(|(key, _)| !next.0.contains_key(*key));
        let gone = gone.map(|((queue, item), due)| AgendaChange {
            queue: *queue,
            item: item.clone(),
            was: Some(*due),
            due: None,
        });
        let new = next.0.iter().filter(|(key, due)| self.0.get(*key) != Some(*due));
        let new = new.map(|((queue, item), due)| AgendaChange {
            queue: *queue,
            item: item.clone(),
            was: self.0.get(&(*queue, item.clone())).copied(),
            due: Some(*due),
        });
        gone.chain(new).collect()
    }
}

/// One change of an index of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgendaChange {
    /// The queue.
    pub queue: Queue,
    /// The item of the stream.
    pub item: Item,
    /// When it was due; none if it was not in the index.
    pub was: Option<Timestamp>,
    /// When it is due now; none where it is done.
    pub due: Option<Timestamp>,
}
