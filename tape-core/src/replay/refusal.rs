//! Refusals that an agent was told and may have continued from.
//!
//! The rules write nothing when they refuse a command. But an agent may catch a refusal and do something else. A re-drive that asks again
//! might not be refused then, or might ask for a new item where the journal has another. So the driver records a sample, in a scope and
//! under a name of its own, before it tells the agent.
//!
//! If a driver recorded nothing after a refusal, in the same scope, a scope around it or a scope within it, then no agent continued from
//! it, and the next driver asks anew. A refusal whose request is not repeated is not drift, since it had no consequences.

use super::Place;
use crate::effect::Status;
use crate::entry::EntryBody;
use crate::entry::sample::Recorded;
use crate::id::{BudgetName, ConnectorName, EffectId, RunId, SampleName, Scope, Seq};
use crate::payload::{ContentDigest, Payload};
use crate::reply::Rejection;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The scope and the name of samples that record refusals.
const NAME: &str = "tape.refused";

/// Why a request was refused that may be granted at another time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Refusal {
    /// As [`Rejection::BudgetExhausted`].
    BudgetExhausted {
        /// The budget.
        budget: BudgetName,
        /// What was left.
        left: u64,
        /// What was asked.
        asked: u64,
    },
    /// As [`Rejection::BusinessKeyTaken`].
    BusinessKeyTaken {
        /// The connector.
        connector: ConnectorName,
        /// The key.
        key: String,
        /// The run that owns it.
        run: RunId,
        /// The effect that owns it.
        effect: EffectId,
        /// The status of that effect, if it was known.
        status: Option<Status>,
        /// The entry that settled it, if it was settled.
        settled: Option<Seq>,
    },
}

impl Refusal {
    /// The refusal to record for a rejection; none where the same request will always be refused.
    #[must_use]
    pub fn of(rejection: &Rejection) -> Option<Self> {
        match rejection {
            Rejection::BudgetExhausted { budget, left, asked } => Some(Self::BudgetExhausted {
                budget: budget.clone(),
                left: *left,
                asked: *asked,
            }),
            Rejection::BusinessKeyTaken {
                connector,
                key,
                run,
                effect,
                status,
                settled,
            } => Some(Self::BusinessKeyTaken {
                connector: connector.clone(),
                key: key.clone(),
                run: run.clone(),
                effect: effect.clone(),
                status: *status,
                settled: *settled,
            }),
            _ => None,
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BudgetExhausted { budget, left, asked } => Self::BudgetExhausted { budget, left, asked },
            Refusal::BusinessKeyTaken {
                connector,
                key,
                run,
                effect,
                status,
                settled,
            } => Self::BusinessKeyTaken {
                connector,
                key,
                run,
                effect,
                status,
                settled,
            },
        }
    }
}

/// What was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The scope that asked.
    scope: Scope,
    /// The place in the run, as [`Place`] is written.
    at: String,
    /// What was asked for there.
    of: ContentDigest,
    refusal: Refusal,
}

impl Refused {
    /// The refusal of what a scope asked for at a place.
    #[must_use]
    pub fn new(scope: &Scope, at: &Place, of: ContentDigest, refusal: Refusal) -> Self {
        Self {
            scope: scope.clone(),
            at: at.to_string(),
            of,
            refusal,
        }
    }

    /// The sample that records it as refusal `n` of its run.
    ///
    /// # Panics
    /// Never: a refusal has a JSON form, and it is small.
    #[must_use]
    pub fn sample(&self, n: u32) -> Recorded {
        let value = serde_json::to_value(self).expect("a refusal has a JSON form");
        Recorded {
            scope: Scope::root().child(NAME).expect("it is a name"),
            n,
            name: SampleName::new(NAME).expect("it is a name"),
            value: Payload::json(&value),
        }
    }
}

/// The refusals of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    /// Refusals that the journal has and that the agent was not told in this drive. A refusal whose bytes are erased cannot be told any
    /// more.
    untold: BTreeMap<u32, Untold>,
    next: u32,
    /// Refusals that this driver recorded and whose entries were not folded yet.
    own: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
struct Untold {
    refused: Refused,
    /// Whether its driver recorded something after it.
    went_on: bool,
}

impl Refusals {
    pub(super) fn is_one(sample: &Recorded) -> bool {
        sample.scope.as_str() == NAME && sample.name.as_str() == NAME
    }

    pub(super) fn fold(&mut self, sample: &Recorded) {
        self.next = self.next.max(sample.n.saturating_add(1));
        let bytes = sample.value.bytes();
        let refused = bytes.and_then(|bytes| serde_json::from_slice::<Refused>(bytes).ok());
        // What was refused was asked for after all refusals before it.
        if let Some(refused) = &refused {
            self.go_on(&refused.scope);
        }
        if self.own.remove(&sample.n) {
            return;
        }
        if let Some(refused) = refused {
            let went_on = false;
            self.untold.insert(sample.n, Untold { refused, went_on });
        }
    }

    /// The driver recorded something that a scope asked for.
    pub(super) fn go_on(&mut self, scope: &Scope) {
        for untold in self.untold.values_mut() {
            let of = &untold.refused.scope;
            untold.went_on |= is_around(of, scope) || is_around(scope, of);
        }
    }

    /// Another driver takes the run.
    pub(super) fn drive_again(&mut self) {
        self.untold.retain(|_, untold| untold.went_on);
    }

    /// The number of the next one.
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// The driver recorded a refusal itself, and tells the agent.
    pub(super) fn recorded(&mut self, n: u32) {
        self.next = self.next.max(n.saturating_add(1));
        if self.untold.remove(&n).is_none() {
            self.own.insert(n);
        }
    }

    /// The first refusal of this request that the agent was not told in this drive.
    pub(super) fn tell(&mut self, at: &Place, of: ContentDigest) -> Option<Refusal> {
        if self.untold.is_empty() {
            return None;
        }
        let at = at.to_string();
        let asked = |untold: &Untold| untold.refused.at == at && untold.refused.of == of;
        let n = *self.untold.iter().find(|(_, untold)| asked(untold))?.0;
        self.untold.remove(&n).map(|untold| untold.refused.refusal)
    }
}

/// Whether `outer` is `inner` or contains it.
fn is_around(outer: &Scope, inner: &Scope) -> bool {
    let mut scope = Some(inner.clone());
    while let Some(here) = scope {
        if here == *outer {
            return true;
        }
        scope = here.parent();
    }
    false
}

/// The scope whose driver recorded an entry that the agent asked for.
pub(super) const fn asked_in(body: &EntryBody) -> Option<&Scope> {
    match body {
        EntryBody::DecisionRecorded(body) => Some(&body.position.scope),
        EntryBody::EffectBegun(body) => Some(&body.effect.position.scope),
        EntryBody::BudgetReserved(body) => Some(&body.position.scope),
        EntryBody::SampleRecorded(body) => Some(&body.scope),
        EntryBody::BudgetOpened(body) => Some(&body.scope),
        EntryBody::GateOpened(body) => Some(&body.scope),
        EntryBody::TimerSet(body) => Some(&body.scope),
        EntryBody::RunCheckpoint(body) => Some(&body.scope),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Position;

    fn place() -> (Place, ContentDigest) {
        let scope = Scope::root();
        let place = Place::Decision(Position { scope, k: 0 });
        (place, ContentDigest::of(&"dear"))
    }

    fn refusal(left: u64) -> Refusal {
        Refusal::BudgetExhausted {
            budget: BudgetName::new("usd").unwrap(),
            left,
            asked: 9,
        }
    }

    fn sample(scope: &Scope, n: u32) -> Recorded {
        let (at, of) = place();
        Refused::new(scope, &at, of, refusal(u64::from(n))).sample(n)
    }

    #[test]
    fn refusals_that_an_agent_went_on_from_are_told_once_each_in_their_order() {
        let (at, of) = place();
        let mut refusals = Refusals::default();
        for n in 0..2 {
            assert!(Refusals::is_one(&sample(&Scope::root(), n)));
            refusals.fold(&sample(&Scope::root(), n));
        }
        refusals.go_on(&Scope::root());
        refusals.drive_again();
        assert_eq!(refusals.next(), 2);
        assert_eq!(refusals.tell(&at, ContentDigest::of(&"cheap")), None);
        assert_eq!(refusals.tell(&at, of), Some(refusal(0)));
        assert_eq!(refusals.tell(&at, of), Some(refusal(1)));
        assert_eq!(refusals.tell(&at, of), None);
    }

    #[test]
    fn what_nobody_went_on_from_is_asked_anew() {
        let (at, of) = place();
        let (a, b) = (
            Scope::root().child("a").unwrap(),
            Scope::root().child("b").unwrap(),
        );
        for (later, told) in [
            (None, false),
            (Some(&b), false),
            (Some(&a), true),
            (Some(&Scope::root()), true),
        ] {
            let mut refusals = Refusals::default();
            refusals.fold(&sample(&a, 0));
            if let Some(later) = later {
                refusals.go_on(later);
            }
            refusals.drive_again();
            assert_eq!(refusals.tell(&at, of).is_some(), told, "{later:?}");
        }
    }

    #[test]
    fn a_further_refusal_is_what_an_agent_went_on_to_in_its_own_scope() {
        let (at, of) = place();
        let scope = |name: &str| Scope::root().child(name).unwrap();
        for (later, told) in [("a", [0].as_slice()), ("b", &[])] {
            let mut refusals = Refusals::default();
            refusals.fold(&sample(&scope("a"), 0));
            refusals.fold(&sample(&scope(later), 1));
            refusals.drive_again();
            for left in told {
                assert_eq!(refusals.tell(&at, of), Some(refusal(*left)), "{later}");
            }
            assert_eq!(refusals.tell(&at, of), None, "{later}");
        }
    }

    #[test]
    fn what_this_driver_recorded_is_not_told_again_whenever_it_comes_back() {
        let (at, of) = place();
        for comes_first in [true, false] {
            let mut refusals = Refusals::default();
            if comes_first {
                refusals.fold(&sample(&Scope::root(), 0));
            }
            refusals.recorded(0);
            if !comes_first {
                refusals.fold(&sample(&Scope::root(), 0));
            }
            assert_eq!(refusals.tell(&at, of), None);
            assert_eq!(refusals.next(), 1);
        }
    }
}
