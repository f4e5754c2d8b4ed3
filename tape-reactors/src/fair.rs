//! The order in which due work is taken up: tenants take turns, and within each its runs.

use crate::access::DueWork;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// Puts work in a fair order: before anybody's second piece comes everybody's first. What comes in one order may be had in another
/// by each copy of a reactor, so the work is to be shuffled before.
pub(crate) fn in_turns(mut work: Vec<DueWork>) -> VecDeque<DueWork> {
    take_turns(&mut work, |work| work.stream.clone());
    take_turns(&mut work, |work| work.stream.tenant().clone());
    work.into()
}

/// Sorts by how many of the same kind come before; otherwise the order stays.
fn take_turns<K: Hash + Eq>(work: &mut [DueWork], kind: impl Fn(&DueWork) -> K) {
    let mut before: HashMap<K, usize> = HashMap::new();
    // Asked of each piece once, in order.
    work.sort_by_cached_key(|piece| {
        let turn = before.entry(kind(piece)).or_default();
        *turn += 1;
        *turn
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tape_core::agenda::Item;
    use tape_core::id::{RunId, StreamId};

    fn piece(tenant: &str, run: &str, effect: &str) -> DueWork {
        DueWork {
            stream: StreamId::Run(RunId::new(tenant, "a", "u", "s", run).unwrap()),
            item: Item::Effect(effect.parse().unwrap()),
            due_in: Duration::ZERO,
        }
    }

    #[test]
    fn a_tenant_or_a_run_with_much_work_does_not_come_before_others() {
        let mut work: Vec<DueWork> = (0..100)
            .map(|n| piece("big", "one", &format!("#{n}.0")))
            .collect();
        work.push(piece("big", "two", "#0.0"));
        work.push(piece("small", "one", "#0.0"));
        work.push(piece("small", "one", "#1.0"));
        let order = in_turns(work);
        let place = |tenant: &str, run: &str, effect: &str| {
            let sought = piece(tenant, run, effect);
            order.iter().position(|piece| *piece == sought).unwrap()
        };
        assert_eq!(order.len(), 103);
        assert!(place("small", "one", "#0.0") < 2 && place("small", "one", "#1.0") < 4);
        assert!(place("big", "two", "#0.0") < 4);
        assert!(place("big", "one", "#1.0") < place("big", "one", "#2.0"));
    }
}
