//! The time of a journal: that of its store, measured now and then, and carried on by time that passes evenly.
//!
//! Between two measurements the time is the last one plus what has passed since by the machine's monotonic clock, so no rule depends on
//! what the clocks of servers show, and no command waits for a measurement. A measurement says that at its end the time was
//! at least what the store said and at most that plus the round trip. From then on the bounds drift apart by [`DRIFT`].
//!
//! A measurement that contradicts the bounds means that the store's clock was set, or that the store is another one by now. The new
//! time counts, and rights are judged with the size of the step as a margin for as long as one from before can last. After a step
//! over [`ERROR_MAX`] nothing is judged until the next measurement bears it out.

use super::Clock;
use crate::contract::JournalStore;
use crate::error::StoreError;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tape_core::limits::{CLOCK_ERROR_MS_MAX, LEASE_MS_MAX};
use tape_core::time::{Now, Timestamp};
use tape_environment::{Environment, micros};
use tokio::task::AbortHandle;

/// How often the time is measured.
const EVERY: Duration = Duration::from_secs(5);
/// How often while the time is not known well enough.
const EVERY_UNSURE: Duration = Duration::from_secs(1);
/// The two clocks may run apart by one part in this many: twice what time synchronisation does to a clock at most, and more than a quartz
/// is off.
const DRIFT: u32 = 500;
/// Where the bounds are further apart, no right of another is judged.
const ERROR_MAX: Duration = Duration::from_millis(CLOCK_ERROR_MS_MAX);
/// Stores tell the time in whole milliseconds at worst.
const RESOLUTION: Duration = Duration::from_millis(1);
/// A step counts for as long as a right (a lease or claim) from before it can last.
const STEP_COUNTS: Duration = Duration::from_millis(LEASE_MS_MAX);

/// How a server knows the time of its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// How far the machine's clock is ahead of the journal's time, in milliseconds; negative where it is behind. It does not matter to
    /// any rule.
    pub machine_ahead_ms: i64,
    /// How far apart the bounds are within which the time is known.
    pub error: Duration,
    /// Whether the time is known well enough to judge the rights of others.
    pub sure: bool,
    /// The last step of the store's clock that rights are still judged with, in milliseconds; zero where there is none.
    pub stepped_ms: u64,
}

/// The clock that all engines of a journal share: its store's.
pub struct JournalClock {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    store: Weak<dyn JournalStore>,
    environment: Arc<dyn Environment>,
    state: Mutex<State>,
    measuring: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    known: Option<Known>,
    /// The last step of the store's clock, and when it was seen.
    step: Option<(Duration, Duration)>,
    /// The latest time that was given out since the last step.
    told_at: Timestamp,
    /// A step beyond the bound was seen, and no later measurement has confirmed it yet.
    doubtful: bool,
    /// Whether the log says that the time is not known well enough.
    told: bool,
    /// Whether it says that the machine's clock is off.
    told_off: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            known: None,
            step: None,
            told_at: Timestamp::MIN,
            doubtful: false,
            told: false,
            told_off: false,
        }
    }
}

/// The time at a moment of the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    mark: Duration,
    earliest: Timestamp,
    latest: Timestamp,
}

impl Known {
    /// The bounds at a later moment.
    fn at(self, moment: Duration) -> Self {
        let passed = moment.saturating_sub(self.mark);
        let drift = passed / DRIFT;
        Self {
            mark: moment,
            earliest: plus(self.earliest, passed.saturating_sub(drift)),
            latest: plus(self.latest, passed.saturating_add(drift)),
        }
    }

    fn error(self) -> Duration {
        between(self.earliest, self.latest)
    }

    /// What both bounds allow; none where they contradict each other.
    fn and(self, other: Self) -> Option<Self> {
        let (earliest, latest) = (self.earliest.max(other.earliest), self.latest.min(other.latest));
        (earliest <= latest).then_some(Self {
            earliest,
            latest,
            ..self
        })
    }

    /// How far two bounds that contradict each other are apart.
    fn apart(self, other: Self) -> Duration {
        between(self.latest, other.earliest).max(between(other.latest, self.earliest))
    }
}

fn plus(time: Timestamp, passed: Duration) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_add(micros(passed)))
}

/// From a time to a later one; nothing where it is not later.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    let micros = to.as_micros().saturating_sub(from.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for JournalClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalClock")
            .field("state", &*self.shared.state())
            .finish_non_exhaustive()
    }
}

impl JournalClock {
    /// The clock of a journal, which is measured from now on in a task of its own. Between measurements it goes on with the time that has
    /// passed in `environment`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(store: &Arc<dyn JournalStore>, environment: Arc<dyn Environment>) -> Self {
        let shared = Arc::new(Shared {
            store: Arc::downgrade(store),
            environment,
            state: Mutex::default(),
            measuring: tokio::sync::Mutex::default(),
        });
        let task = tokio::spawn(keep(Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    /// Measures the time now, beside the regular measurements.
    ///
    /// # Errors
    /// Where the store does not tell it.
    pub async fn measure(&self) -> Result<(), StoreError> {
        self.shared.measure().await
    }
}

impl Drop for JournalClock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Clock for JournalClock {
    fn now(&self) -> Timestamp {
        self.read().at()
    }

    fn environment(&self) -> Arc<dyn Environment> {
        Arc::clone(&self.shared.environment)
    }

    fn read(&self) -> Now {
        self.shared.read()
    }

    fn unsettled(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        if self.shared.state().known.is_some() {
            return None;
        }
        Some(Box::pin(self.shared.settle()))
    }

    fn skew(&self) -> Option<Skew> {
        let (now, wall) = (self.read(), self.shared.environment.wall());
        let state = self.shared.state();
        let known = state.known?.at(self.shared.environment.elapsed());
        Some(Skew {
            machine_ahead_ms: wall.as_micros().saturating_sub(now.at().as_micros()) / 1_000,
            error: known.error(),
            sure: now.is_sure(),
            stepped_ms: state.step_at(known.mark),
        })
    }
}

/// Measures for ever.
async fn keep(shared: Arc<Shared>) {
    loop {
        let measured = shared.measure().await;
        shared.tell(measured.err().as_ref());
        shared.tell_of_the_machine();
        let every = if shared.read().is_sure() {
            EVERY
        } else {
            EVERY_UNSURE
        };
        tokio::time::sleep(every).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Now {
        let moment = self.environment.elapsed();
        let mut state = self.state();
        let Some(known) = state.known else {
            // What is asked for before the first measurement does not depend on the time.
            return Now::from(self.environment.wall()).unsure();
        };
        let known = known.at(moment);
        // The time never goes back: what was due by one reading stays due by the next, though the bounds are tighter then.
        state.told_at = state.told_at.max(known.latest);
        let now = Now::within(known.earliest, state.told_at).after_step(state.step_at(moment));
        if state.doubtful || known.error() > ERROR_MAX {
            return now.unsure();
        }
        now
    }

    async fn settle(&self) -> Result<(), StoreError> {
        let _one = self.measuring.lock().await;
        if self.state().known.is_some() {
            return Ok(());
        }
        self.measure_alone().await
    }

    async fn measure(&self) -> Result<(), StoreError> {
        let _one = self.measuring.lock().await;
        self.measure_alone().await
    }

    async fn measure_alone(&self) -> Result<(), StoreError> {
        // The store is closed when its engine is gone.
        let Some(store) = self.store.upgrade() else {
            return Ok(());
        };
        let asked = self.environment.elapsed();
        let seen = store.time().await?;
        let mark = self.environment.elapsed();
        let known = Known {
            mark,
            earliest: seen.at,
            latest: plus(seen.at, mark.saturating_sub(asked).saturating_add(RESOLUTION)),
        };
        self.state().take(known, Duration::from_millis(seen.step_ms));
        Ok(())
    }

    /// Says in the log when the time is no longer known well enough, and when it is again.
    fn tell(&self, failed: Option<&StoreError>) {
        let sure = self.read().is_sure();
        let mut state = self.state();
        if sure == state.told {
            state.told = !sure;
            drop(state);
            if sure {
                tracing::info!("the time of the journal is known again");
            } else {
                let error = failed.map(tracing::field::display);
                tracing::error!(
                    error,
                    bound_ms = CLOCK_ERROR_MS_MAX,
                    "the time of the journal is not known well enough: no lease or claim of others is taken over"
                );
            }
        }
    }

    /// Says in the log when the machine's clock is off by more than the bound, and when it no longer is.
    fn tell_of_the_machine(&self) {
        let now = self.read();
        let ahead_ms = self
            .environment
            .wall()
            .as_micros()
            .saturating_sub(now.at().as_micros())
            / 1_000;
        let off = ahead_ms.unsigned_abs() > CLOCK_ERROR_MS_MAX;
        if !now.is_sure() || std::mem::replace(&mut self.state().told_off, off) == off {
            return;
        }
        if off {
            tracing::warn!(
                ahead_ms,
                "the clock of this machine is not the journal's; no rule depends on it"
            );
        } else {
            tracing::info!(
                ahead_ms,
                "the clock of this machine agrees with the journal's again"
            );
        }
    }
}

impl State {
    /// The margin for a step, in milliseconds.
    fn step_at(&self, moment: Duration) -> u64 {
        self.step
            .filter(|(_, seen)| moment.saturating_sub(*seen) < STEP_COUNTS)
            .map_or(0, |(size, _)| millis(size))
    }

    fn take(&mut self, seen: Known, told: Duration) {
        self.compare(seen);
        // The store may know of a step from before this process.
        if millis(told) > self.step_at(seen.mark) {
            self.step = Some((told, seen.mark));
        }
    }

    fn compare(&mut self, seen: Known) {
        let Some(expected) = self.known.map(|known| known.at(seen.mark)) else {
            self.known = Some(seen);
            return;
        };
        if let Some(both) = expected.and(seen) {
            (self.known, self.doubtful) = (Some(both), false);
            return;
        }
        let size = expected.apart(seen);
        let before = Duration::from_millis(self.step_at(seen.mark));
        self.known = Some(seen);
        self.told_at = Timestamp::MIN;
        self.step = Some((size.saturating_add(before), seen.mark));
        self.doubtful = size > ERROR_MAX;
        tracing::warn!(
            by_ms = millis(size),
            ahead = seen.earliest > expected.latest,
            "the clock of the store was set; rights are judged with that margin for an hour"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock as _, JournalClock};
    use crate::clock::ManualClock;
    use crate::contract::{JournalStore, StoreTime};
    use crate::error::StoreError;
    use crate::layer::Layer;
    use crate::memory::MemoryStore;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tape_core::time::Timestamp;
    use tape_environment::{Environment, Machine};

    const START: Timestamp = Timestamp::from_micros(1_795_348_800_000_000);

    /// A store whose clock is set by hand, and whose answers take as long as is said.
    struct Clocked {
        inner: MemoryStore,
        clock: ManualClock,
        passed: Arc<Mutex<Duration>>,
        takes_ms: AtomicU64,
        step_ms: AtomicU64,
        silent: AtomicBool,
    }

    #[async_trait]
    impl Layer for Clocked {
        fn inner(&self) -> &dyn JournalStore {
            &self.inner
        }

        async fn time(&self) -> Result<StoreTime, StoreError> {
            if self.silent.load(Ordering::SeqCst) {
                return Err(StoreError::unavailable("tells the time", "it does not"));
            }
            let takes = self.takes_ms.load(Ordering::SeqCst);
            *self.passed.lock().unwrap() += Duration::from_millis(takes);
            self.clock.advance_ms(takes);
            Ok(StoreTime {
                at: self.clock.now(),
                step_ms: self.step_ms.load(Ordering::SeqCst),
            })
        }
    }

    /// The machine, but for a monotonic clock that moves by hand.
    #[derive(Debug)]
    struct ByHand(Arc<Mutex<Duration>>);

    impl Environment for ByHand {
        fn wall(&self) -> Timestamp {
            Machine.wall()
        }

        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn boot(&self) -> Option<String> {
            None
        }

        fn process(&self) -> u32 {
            Machine.process()
        }

        fn random(&self) -> u128 {
            Machine.random()
        }
    }

    /// A clock over such a store and in such an environment.
    struct Bench {
        store: Arc<Clocked>,
        clock: JournalClock,
        _store: Arc<dyn JournalStore>,
    }

    impl Bench {
        async fn start() -> Self {
            let passed = Arc::new(Mutex::new(Duration::from_secs(1_000)));
            let store = Arc::new(Clocked {
                inner: MemoryStore::new(),
                clock: ManualClock::at(START),
                passed: Arc::clone(&passed),
                takes_ms: AtomicU64::new(0),
                step_ms: AtomicU64::new(0),
                silent: AtomicBool::new(false),
            });
            let shared: Arc<dyn JournalStore> = store.clone();
            let clock = JournalClock::start(&shared, Arc::new(ByHand(passed)));
            clock.task.abort();
            let bench = Self {
                store,
                clock,
                _store: shared,
            };
            bench.measure().await.unwrap();
            bench
        }

        async fn measure(&self) -> Result<(), StoreError> {
            self.clock.measure().await
        }

        /// Time goes by, for the store and the process.
        fn pass_ms(&self, millis: u64) {
            self.store.clock.advance_ms(millis);
            *self.store.passed.lock().unwrap() += Duration::from_millis(millis);
        }

        fn judges_after_ms(&self, until: Timestamp) -> u64 {
            (0..20_000_u64)
                .find(|second| {
                    let now = self.clock.read();
                    now.outlived(until.minus_millis(second * 1_000)) == Some(true)
                })
                .map_or(u64::MAX, |second| second * 1_000)
        }
    }

    #[tokio::test]
    async fn between_measurements_it_goes_on_with_what_has_passed() {
        let bench = Bench::start().await;
        bench.pass_ms(60_000);
        let now = bench.clock.read();
        assert!(now.is_sure());
        assert!(now.earliest() < START.plus_millis(60_000) && now.at() > START.plus_millis(60_000));
        // A part in five hundred.
        assert_eq!(now.at().millis_since(now.earliest()), 241);
        bench.measure().await.unwrap();
        let measured = bench.clock.read();
        // The bounds are narrow again, but what was read goes back by nothing.
        assert_eq!(
            (measured.earliest(), measured.at()),
            (START.plus_millis(60_000), now.at())
        );
    }

    #[tokio::test]
    async fn a_slow_answer_says_less_than_what_is_known() {
        let bench = Bench::start().await;
        bench.store.takes_ms.store(800, Ordering::SeqCst);
        bench.measure().await.unwrap();
        let now = bench.clock.read();
        assert!(now.is_sure());
        assert!(now.at().millis_since(now.earliest()) <= 4, "{now:?}");
    }

    #[tokio::test]
    async fn a_time_that_is_not_measured_for_long_judges_nothing_until_it_is_again() {
        let bench = Bench::start().await;
        bench.store.silent.store(true, Ordering::SeqCst);
        for _ in 0..6 {
            bench.pass_ms(60_000);
            bench.measure().await.unwrap_err();
        }
        let now = bench.clock.read();
        assert!(!now.is_sure());
        assert_eq!(now.outlived(START), None);
        assert!(now.holds(START), "the holder loses nothing by it");
        bench.store.silent.store(false, Ordering::SeqCst);
        bench.measure().await.unwrap();
        assert_eq!(bench.clock.read().outlived(START), Some(true));
    }

    #[tokio::test]
    async fn a_step_of_the_stores_clock_ends_no_right_early() {
        let bench = Bench::start().await;
        let until = bench.clock.now().plus_millis(30_000);
        bench.store.clock.advance_ms(3_600_000);
        bench.measure().await.unwrap();
        assert!(!bench.clock.read().is_sure(), "one measurement is not enough");
        bench.measure().await.unwrap();
        let now = bench.clock.read();
        assert!(now.is_sure());
        // A reading may be later by the resolution of a millisecond.
        let since = now.at().millis_since(START.plus_millis(3_600_000));
        assert!(
            now.at() >= START.plus_millis(3_600_000) && since <= 1,
            "the new time counts"
        );
        assert_eq!(now.outlived(until), Some(false));
        bench.pass_ms(29_000);
        assert_eq!(bench.clock.read().outlived(until), Some(false));
        bench.pass_ms(2_000);
        assert_eq!(
            bench.clock.read().outlived(until),
            Some(true),
            "and it waits no longer than it lasts"
        );
        // An hour later none from before can be left: what remains is how well the time is known, below the step of the search.
        bench.pass_ms(3_600_000);
        bench.measure().await.unwrap();
        assert!(bench.judges_after_ms(bench.clock.now()) <= 1_000);
    }

    #[tokio::test]
    async fn a_step_back_judges_no_right_as_from_the_future() {
        let bench = Bench::start().await;
        let until = bench.clock.now().plus_millis(3_600_000);
        bench.store.clock.set(START.minus_millis(3_600_000 * 2));
        bench.measure().await.unwrap();
        bench.measure().await.unwrap();
        let now = bench.clock.read();
        assert_eq!((now.is_sure(), now.outlived(until)), (true, Some(false)));
    }

    #[tokio::test]
    async fn a_step_from_before_is_told_by_the_store() {
        let bench = Bench::start().await;
        bench.store.step_ms.store(60_000, Ordering::SeqCst);
        bench.measure().await.unwrap();
        let now = bench.clock.read();
        assert_eq!(now.outlived(START.minus_millis(59_000)), Some(false));
        assert_eq!(now.outlived(START.minus_millis(60_000)), Some(true));
    }

    #[tokio::test]
    async fn several_small_steps_add_up() {
        let bench = Bench::start().await;
        let until = bench.clock.now().plus_millis(1_500);
        for _ in 0..3 {
            bench.store.clock.advance_ms(500);
            bench.measure().await.unwrap();
        }
        assert_eq!(bench.clock.read().outlived(until), Some(false));
        bench.pass_ms(1_600);
        assert_eq!(bench.clock.read().outlived(until), Some(true));
    }
}
