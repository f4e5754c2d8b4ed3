//! The numbers of the calls of a decision. They identify effects, also when futures are dropped.
//!
//! An effect is identified by its number, so an effect that is asked for again must get its old number. If the future of an effect was
//! dropped or ended before the caller got the outcome, the number goes to the next effect that is equal in every part. The same holds for
//! an effect whose caller got the outcome while such a sibling was under way: a future that waited for both may have been dropped in
//! between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tape_core::effect::EffectSpec;

/// The calls of one decision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<Mutex<Numbers>>);

#[derive(Debug, Default)]
struct Numbers {
    next: u16,
    /// Numbers that were returned without an effect having been asked for under them.
    free: BTreeSet<u16>,
    /// Numbers whose outcome the caller did not get, and their effects.
    untold: BTreeMap<u16, EffectSpec>,
    /// Numbers whose outcome the caller got while others were under way: when it did, and their effects.
    told: BTreeMap<u16, (u64, EffectSpec)>,
    /// The creation times of the effects under way, by `clock`.
    under_way: BTreeSet<u64>,
    /// Counts creations and outcomes.
    clock: u64,
}

/// The number of an effect, until it is dropped.
#[derive(Debug)]
pub(super) struct Number {
    calls: Calls,
    call: u16,
    /// The author chose it: it is not given to another effect.
    chosen: bool,
    created: u64,
    asked: Option<EffectSpec>,
    told: bool,
}

impl Calls {
    /// The next number.
    pub(super) fn next(&self) -> Number {
        let mut numbers = self.numbers();
        let call = numbers.free.pop_first().unwrap_or_else(|| {
            let next = numbers.next;
            numbers.next = next.saturating_add(1);
            next
        });
        numbers.clock += 1;
        let created = numbers.clock;
        numbers.under_way.insert(created);
        Number {
            calls: self.clone(),
            call,
            chosen: false,
            created,
            asked: None,
            told: false,
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().expect("nothing panics while it holds the numbers")
    }
}

impl Number {
    /// The number, before an effect is asked for under it.
    pub(super) const fn call(&self) -> u16 {
        self.call
    }

    /// Marks the number as chosen by the author.
    pub(super) const fn choose(&mut self) {
        self.chosen = true;
    }

    /// The number for `spec`: its number from before if it has one; none where the author chose the number.
    pub(super) fn ask(&mut self, spec: &EffectSpec) -> Option<u16> {
        self.asked = Some(spec.clone());
        (!self.chosen).then(|| {
            let mut numbers = self.calls.numbers();
            let before = numbers.untold.iter().find(|(_, untold)| *untold == spec);
            if let Some(before) = before.map(|(call, _)| *call) {
                numbers.untold.remove(&before);
                numbers.free.insert(self.call);
                self.call = before;
            }
            self.call
        })
    }

    /// Notes that the caller gets a final outcome.
    pub(super) const fn tell(&mut self) {
        self.told = true;
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let mut numbers = self.calls.numbers();
        let Numbers {
            free,
            untold,
            told,
            under_way,
            clock,
            ..
        } = &mut *numbers;
        under_way.remove(&self.created);
        *clock += 1;
        match self.asked.take() {
            _ if self.chosen => {}
            None => drop(free.insert(self.call)),
            Some(spec) if self.told => drop(told.insert(self.call, (*clock, spec))),
            Some(spec) => {
                untold.insert(self.call, spec);
                let since = told.extract_if(.., |_, (at, _)| *at >= self.created);
                untold.extend(since.map(|(call, (_, spec))| (call, spec)));
            }
        }
        match under_way.first() {
            Some(oldest) => told.retain(|_, (at, _)| *at >= *oldest),
            None => told.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;
    use tape_core::payload::Payload;

    fn effect(args: &str) -> EffectSpec {
        EffectSpec {
            args: Payload::new("text/plain", args.to_owned()).unwrap(),
            ..spec("bank", "pay").unwrap()
        }
    }

    /// Asks for an effect and says how it ends; gives the number it had.
    fn ask(calls: &Calls, args: &str, told: bool) -> u16 {
        let mut number = calls.next();
        let call = number.ask(&effect(args)).unwrap();
        if told {
            number.tell();
        }
        call
    }

    #[test]
    fn effects_are_numbered_in_order() {
        let calls = Calls::default();
        assert_eq!([0, 1, 2], [0, 1, 2].map(|_| ask(&calls, "coffee", true)));
    }

    #[test]
    fn what_was_not_told_keeps_its_number() {
        let calls = Calls::default();
        assert_eq!(ask(&calls, "ann", false), 0);
        assert_eq!(ask(&calls, "bob", false), 1, "another effect is another act");
        assert_eq!(ask(&calls, "ann", false), 0);
        assert_eq!(ask(&calls, "ann", true), 0);
        assert_eq!(ask(&calls, "bob", true), 1);
        assert_eq!(ask(&calls, "ann", true), 2, "it was told: this is another act");
    }

    #[test]
    fn siblings_keep_numbers_of_their_own() {
        let calls = Calls::default();
        for _ in 0..3 {
            let mut siblings = [calls.next(), calls.next(), calls.next()];
            let asked: Vec<u16> = siblings
                .iter_mut()
                .map(|number| number.ask(&effect("coffee")).unwrap())
                .collect();
            assert_eq!(asked, [0, 1, 2]);
        }
        assert_eq!(ask(&calls, "tea", true), 3);
    }

    #[test]
    fn an_outcome_that_was_told_beside_one_that_was_not_can_be_asked_for_again() {
        let calls = Calls::default();
        let mut slow = calls.next();
        slow.ask(&effect("slow"));
        assert_eq!(ask(&calls, "fast", true), 1);
        drop(slow);
        assert_eq!(ask(&calls, "slow", true), 0);
        assert_eq!(ask(&calls, "fast", true), 1);
        assert_eq!(ask(&calls, "fast", true), 2);
    }

    #[test]
    fn what_was_never_asked_for_gives_its_number_back() {
        let calls = Calls::default();
        drop(calls.next());
        assert_eq!(ask(&calls, "ann", true), 0);
        let mut chosen = calls.next();
        chosen.choose();
        drop(chosen);
        assert_eq!(
            ask(&calls, "bob", true),
            2,
            "a number of the author's own is not given away"
        );
    }
}
