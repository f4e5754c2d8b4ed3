//! Which tasks wake the timers of a journal, by the agenda and the time.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tape_api::due::PendingWork;
use tape_core::agenda::Item;
use tape_core::id::StreamId;
use tape_core::time::Timestamp;

/// Most tasks that one look arms for pending work: those that are due first. The last of them wakes the next look long before the work after
/// it is due, however much of it there is.
pub(super) const AHEAD_MAX: usize = 256;

/// Most tasks that are remembered. Those due last are forgotten first: a task that is forgotten is found again by its name.
const REMEMBERED_MAX: usize = 4 * AHEAD_MAX;

/// Cloud Tasks takes no task that is more than 30 days ahead. Work beyond this is reached by steps of this length, counted back from its own
/// time. Two days less leave room for clocks that differ and for tasks that are late.
pub(super) const STEP_MS: u64 = 28 * 24 * 3_600_000;

/// A reason to wake the timers at a time. It is named by what it is for, so that each look and each process names it alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A piece of work.
    Work {
        stream: StreamId,
        item: Item,
        /// When the work is due.
        due: Timestamp,
        /// How many steps before that; 0 for the time itself.
        steps: u64,
    },
    /// The agenda is looked at then whatever was recorded: the safety net under everything that gets lost.
    Sweep(Timestamp),
}

impl Alarm {
    /// The alarm that brings a piece of work nearer; none where it is due.
    fn of(work: &PendingWork, now: Timestamp) -> Option<Self> {
        if work.due <= now {
            return None;
        }
        let left = work.due.as_micros().abs_diff(now.as_micros());
        Some(Self::Work {
            stream: work.stream.clone(),
            item: work.item.clone(),
            due: work.due,
            // At the very time of a step, the next one is armed.
            steps: (left - 1) / (STEP_MS * 1_000),
        })
    }

    /// When it wakes the timers.
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::Work { due, steps, .. } => due.minus_millis(steps.saturating_mul(STEP_MS)),
            Self::Sweep(at) => *at,
        }
    }

    /// Its name as a task that sends a request to a URL. A name whose task was deleted too early cannot be used again for a while: `version`
    /// makes another of it. A hash spreads names evenly, as Cloud Tasks advises.
    pub(super) fn name(&self, url: &str, version: u32) -> String {
        let mut hash = Sha256::new();
        hash.update(b"tape timer task 1\n");
        match self {
            Self::Work {
                stream,
                item,
                due,
                steps,
            } => hash.update(format!("{stream}\n{item}\n{}\n{steps}\n", due.as_micros())),
            Self::Sweep(at) => hash.update(format!("sweep\n{}\n", at.as_micros())),
        }
        hash.update(format!("{version}\n{url}"));
        hex::encode(hash.finalize())
    }
}

/// What was read of the agenda.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) work: Vec<PendingWork>,
    /// All work that is due before this was read.
    pub(super) until: Timestamp,
}

impl Seen {
    /// Of pages that begin at the first piece of each shard, `limit` pieces of each shard in all. Unless they are all there is, only the
    /// first `limit` pieces are known to come first: a shard that had more may go on anywhere after its last one.
    pub(super) fn of(mut work: Vec<PendingWork>, limit: usize, is_all: bool) -> Self {
        work.sort_by_key(|work| work.due);
        let until = match work.get(limit.saturating_sub(1)) {
            _ if is_all => Timestamp::MAX,
            Some(last) => last.due,
            None => Timestamp::MIN,
        };
        Self { work, until }
    }
}

/// The alarms to arm for what was seen, those first that come first, and the two next sweeps: where one is lost, the other still comes.
pub(super) fn wanted(seen: &Seen, now: Timestamp, sweep: Duration) -> Vec<Alarm> {
    let ahead = seen.work.iter().filter_map(|work| Alarm::of(work, now));
    let mut wanted: Vec<Alarm> = ahead.take(AHEAD_MAX).collect();
    wanted.extend(sweeps(now, sweep));
    wanted.sort_by_key(Alarm::at);
    wanted
}

/// The times of sweeps are the same for every process.
fn sweeps(now: Timestamp, sweep: Duration) -> [Alarm; 2] {
    let sweep = i64::try_from(sweep.as_micros()).unwrap_or(i64::MAX).max(1);
    let last = now.as_micros().div_euclid(sweep).saturating_mul(sweep);
    [1, 2].map(|n| {
        Alarm::Sweep(Timestamp::from_micros(
            last.saturating_add(sweep.saturating_mul(n)),
        ))
    })
}

/// The tasks that this process knows to be in the queue, by their alarms: their names.
#[derive(Debug, Default)]
pub(super) struct Armed(BTreeMap<Alarm, String>);

impl Armed {
    pub(super) fn has(&self, alarm: &Alarm) -> bool {
        self.0.contains_key(alarm)
    }

    pub(super) fn add(&mut self, alarm: Alarm, name: String) {
        self.0.insert(alarm, name);
    }

    /// The tasks of work that is no longer pending: cancelled, answered or over. They are taken out, to be deleted. Those whose time is over
    /// are forgotten.
    pub(super) fn obsolete(&mut self, seen: &Seen, now: Timestamp) -> Vec<(Alarm, String)> {
        let pending: std::collections::BTreeSet<(&StreamId, &Item, Timestamp)> = seen
            .work
            .iter()
            .map(|work| (&work.stream, &work.item, work.due))
            .collect();
        self.0.retain(|alarm, _| alarm.at() > now);
        let gone = |alarm: &Alarm| match alarm {
            Alarm::Work {
                stream, item, due, ..
            } => *due < seen.until && !pending.contains(&(stream, item, *due)),
            Alarm::Sweep(_) => false,
        };
        let gone = self.0.extract_if(.., |alarm, _| gone(alarm)).collect();
        self.forget_the_last();
        gone
    }

    fn forget_the_last(&mut self) {
        let mut times: Vec<Timestamp> = self.0.keys().map(Alarm::at).collect();
        if times.len() > REMEMBERED_MAX {
            let (_, most, _) = times.select_nth_unstable(REMEMBERED_MAX);
            let most = *most;
            self.0.retain(|alarm, _| alarm.at() < most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AHEAD_MAX, Alarm, Armed, STEP_MS, Seen, sweeps, wanted};
    use std::collections::BTreeSet;
    use std::time::Duration;
    use tape_api::due::PendingWork;
    use tape_core::agenda::Item;
    use tape_core::id::{RunId, StreamId, TimerName};
    use tape_core::time::Timestamp;

    const SWEEP: Duration = Duration::from_secs(600);
    /// The most that Cloud Tasks takes.
    const LIMIT_MS: u64 = 30 * 24 * 3_600_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_micros(1).plus_millis(ms)
    }

    fn timer(name: &str, due: Timestamp) -> PendingWork {
        PendingWork {
            stream: StreamId::Run(RunId::new("t", "a", "u", "s", "i").unwrap()),
            item: Item::Timer(TimerName::new(name).unwrap()),
            due,
        }
    }

    fn all(work: Vec<PendingWork>) -> Seen {
        Seen::of(work, AHEAD_MAX, true)
    }

    #[test]
    fn work_far_ahead_is_reached_by_steps_that_the_queue_takes() {
        let due = at(1_000 * 24 * 3_600_000);
        let (mut now, mut names, mut hops) = (at(0), BTreeSet::new(), 0);
        while let Some(alarm) = Alarm::of(&timer("t", due), now) {
            assert!(alarm.at() > now, "each step goes forward: {alarm:?}");
            assert!(alarm.at().millis_since(now) < LIMIT_MS, "{alarm:?}");
            // However often it is looked at in between, it is the same alarm.
            let later = Timestamp::from_micros(i64::midpoint(now.as_micros(), alarm.at().as_micros()));
            assert_eq!(Alarm::of(&timer("t", due), later), Some(alarm.clone()));
            assert!(names.insert(alarm.name("http://url", 0)), "no name is used twice");
            now = alarm.at();
            hops += 1;
            assert!(hops < 100);
        }
        assert_eq!(now, due, "the last one is at its own time");
        assert_eq!(hops, 1_000_u64.div_ceil(STEP_MS / 86_400_000));
    }

    #[test]
    fn a_name_is_of_one_alarm_and_url_and_version() {
        let alarm = |name, due| Alarm::of(&timer(name, due), at(0)).unwrap();
        let one = alarm("t", at(5)).name("http://url", 0);
        assert_eq!(one, alarm("t", at(5)).name("http://url", 0));
        for other in [
            alarm("u", at(5)).name("http://url", 0),
            alarm("t", at(6)).name("http://url", 0),
            alarm("t", at(5)).name("http://other", 0),
            alarm("t", at(5)).name("http://url", 1),
            Alarm::Sweep(at(5)).name("http://url", 0),
        ] {
            assert_ne!(one, other);
        }
        assert!(one.len() == 64 && one.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn however_much_is_pending_a_look_arms_what_comes_first() {
        let work = (0..100_000).map(|n| timer(&format!("t-{n}"), at(1_000 + n)));
        let seen = Seen::of(work.take(4_096).collect(), 4_096, false);
        let wanted = wanted(&seen, at(0), SWEEP);
        assert_eq!(wanted.len(), AHEAD_MAX + 2);
        assert_eq!(wanted[0].at(), at(1_000));
        assert!(wanted.is_sorted_by_key(Alarm::at));
    }

    #[test]
    fn sweeps_are_at_the_same_times_in_every_process_and_two_are_always_ahead() {
        let one = sweeps(at(1_000), SWEEP);
        assert_eq!(one, sweeps(at(599_000), SWEEP));
        let next = sweeps(at(601_000), SWEEP);
        assert_eq!(next[0], one[1]);
        assert!(one[0].at() > at(1_000) && next[0].at() > at(601_000));
    }

    #[test]
    fn what_was_cancelled_is_deleted_and_what_was_not_read_is_kept() {
        let arm = |armed: &mut Armed, work: &PendingWork| {
            let alarm = Alarm::of(work, at(0)).unwrap();
            let name = alarm.name("http://url", 0);
            armed.add(alarm, name);
        };
        let [one, two, late] =
            [("one", 1_000), ("two", 2_000), ("late", 9_000)].map(|(name, due)| timer(name, at(due)));
        let mut armed = Armed::default();
        for work in [&one, &two, &late] {
            arm(&mut armed, work);
        }
        // The page ends before `late`: it is not known whether that one is pending.
        let seen = Seen::of(vec![one.clone(), timer("new", at(3_000))], 2, false);
        let gone = armed.obsolete(&seen, at(0));
        assert_eq!(
            gone.iter().map(|(alarm, _)| alarm.at()).collect::<Vec<_>>(),
            [two.due]
        );
        assert!(armed.has(&Alarm::of(&late, at(0)).unwrap()));
        // A shorter page than asked for, of which there is more, says nothing about what is missing.
        let short = Seen::of(vec![timer("new", at(3_000))], 2, false);
        assert_eq!(armed.obsolete(&short, at(0)), []);
        // What is over needs no deletion.
        assert_eq!(armed.obsolete(&all(Vec::new()), at(1_500)).len(), 1, "late");
        assert!(!armed.has(&Alarm::of(&one, at(0)).unwrap()));
    }
}
