//! The order in which due work is taken up: tenants take turns, and within each its runs. Where there is more than is taken up at a
//! time, copies of a reactor take up the work of different runs.

use rand::seq::SliceRandom as _;
use rand::{Rng, RngExt as _};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use tape_api::due::DueWork;
use tape_core::id::StreamId;

/// At most this share of the work that is taken up at a time is of one run, so that a run with much work does not fill it.
const OF_ONE_RUN: usize = 4;

/// Takes a share of due work: of one in `one_of` runs, but of one run at least, and at most `most` pieces. The order is fair: the first
/// piece of each tenant, and of each run within it, comes before any second one.
///
/// All copies of a reactor see the same work. A random choice keeps them from taking the same pieces, and from writing to the same runs. A
/// copy must read what another did in a run before it can write there, while pieces of a run that one copy does together share their
/// commits.
pub(crate) fn select_fairly(
    work: Vec<DueWork>,
    one_of: u32,
    most: usize,
    chance: &mut impl Rng,
) -> VecDeque<DueWork> {
    let pieces = work.len();
    // Sorted, so that chance alone decides the order.
    let mut by_run: BTreeMap<StreamId, Vec<DueWork>> = BTreeMap::new();
    for piece in work {
        by_run.entry(piece.stream.clone()).or_default().push(piece);
    }
    let mut runs: Vec<_> = by_run.into_values().collect();
    let chosen = runs.iter().filter(|_| chance.random_ratio(1, one_of)).count();
    runs.shuffle(chance);
    // At least one run is taken: a copy that is alone, or faster this time, must not leave a little work undone.
    runs.truncate(chosen.max(1));
    take_turns(&mut runs, |pieces| pieces[0].stream.tenant().clone());
    let of_one = if pieces > most {
        most.div_ceil(OF_ONE_RUN)
    } else {
        most
    };
    let taken = runs.into_iter().flat_map(|mut pieces| {
        pieces.shuffle(chance);
        pieces.truncate(of_one);
        pieces
    });
    in_turns(taken.take(most).collect())
}

fn in_turns(mut work: Vec<DueWork>) -> VecDeque<DueWork> {
    take_turns(&mut work, |work| work.stream.clone());
    take_turns(&mut work, |work| work.stream.tenant().clone());
    work.into()
}

/// Sorts by how many of the same kind come before; otherwise the order stays.
fn take_turns<T, K: Hash + Eq>(things: &mut [T], kind: impl Fn(&T) -> K) {
    let mut before: HashMap<K, usize> = HashMap::new();
    // The key is computed once for each, in order.
    things.sort_by_cached_key(|thing| {
        let turn = before.entry(kind(thing)).or_default();
        *turn += 1;
        *turn
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use std::collections::HashSet;
    use std::time::Duration;
    use tape_core::agenda::Item;
    use tape_core::id::RunId;

    fn piece(tenant: &str, run: &str, effect: &str) -> DueWork {
        DueWork {
            stream: StreamId::Run(RunId::new(tenant, "a", "u", "s", run).unwrap()),
            item: Item::Effect(effect.parse().unwrap()),
            due_in: Duration::ZERO,
        }
    }

    fn chance(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    fn much() -> Vec<DueWork> {
        let mut work: Vec<DueWork> = (0..100)
            .map(|n| piece("big", "one", &format!("#{n}.0")))
            .collect();
        work.push(piece("big", "two", "#0.0"));
        work.push(piece("small", "one", "#0.0"));
        work.push(piece("small", "one", "#1.0"));
        work
    }

    #[test]
    fn a_tenant_or_a_run_with_much_work_does_not_come_before_others() {
        let order = select_fairly(much(), 1, 1_000, &mut chance(1));
        assert_eq!(order.len(), 103);
        let place = |is: &dyn Fn(&DueWork) -> bool| order.iter().position(is).unwrap();
        let small = |work: &DueWork| work.stream.tenant().as_str() == "small";
        assert!(place(&small) < 2);
        assert_eq!(order.iter().take(4).filter(|work| small(work)).count(), 2);
        let two = piece("big", "two", "#0.0");
        assert!(place(&|work| *work == two) < 4);
    }

    #[test]
    fn a_share_has_every_tenant_and_not_too_much_of_a_run() {
        for seed in 0..100 {
            let some = select_fairly(much(), 1, 8, &mut chance(seed));
            let of = |tenant: &str, run: &str| {
                let stream = piece(tenant, run, "#0.0").stream;
                some.iter().filter(|work| work.stream == stream).count()
            };
            assert_eq!(of("small", "one"), 2);
            assert_eq!(of("big", "two"), 1);
            assert_eq!(of("big", "one"), 2, "a quarter");
        }
    }

    #[test]
    fn of_many_runs_a_part_is_taken_whole() {
        let pieces = |run: usize| (0..3).map(move |n| piece("t", &format!("r{run}"), &format!("#{n}.0")));
        let all: Vec<_> = (0..800).flat_map(pieces).collect();
        let taken = select_fairly(all, 8, 10_000, &mut chance(1));
        assert!((3 * 40..3 * 200).contains(&taken.len()), "{}", taken.len());
        assert_eq!(taken.len() % 3, 0);
    }

    #[test]
    fn what_is_there_is_never_left_alone() {
        for seed in 0..100 {
            let one = vec![piece("t", "one", "#0.0")];
            assert_eq!(select_fairly(one, 64, 256, &mut chance(seed)).len(), 1);
        }
    }

    #[test]
    fn copies_take_up_the_work_of_different_runs() {
        let all = || {
            let pieces =
                |run: usize| (0..10).map(move |n| piece("t", &format!("r{run}"), &format!("#{n}.0")));
            (0..100).flat_map(pieces).collect::<Vec<_>>()
        };
        let runs =
            |work: VecDeque<DueWork>| work.into_iter().map(|piece| piece.stream).collect::<HashSet<_>>();
        let taken: Vec<_> = (0..8)
            .map(|seed| runs(select_fairly(all(), 1, 16, &mut chance(seed))))
            .collect();
        assert!(taken.iter().all(|runs| runs.len() == 4));
        let different: HashSet<_> = taken.iter().flatten().collect();
        assert!(different.len() > 16, "of 32 at most: {}", different.len());
    }
}
