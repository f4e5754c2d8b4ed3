//! The clocks of the machine, as its kernel shows them: also to a process that was started with another idea of the time
//! (`LD_PRELOAD` of libfaketime), so that processes of one machine agree.

use super::Clock;
use std::time::Duration;
use tape_core::time::Timestamp;

/// The clock of the machine. It may jump, and those of two machines differ: an engine that shares its journal with others
/// needs a [`JournalClock`](super::JournalClock).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        wall()
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use rustix::time::{ClockId, Timespec, clock_gettime};
    use std::time::Duration;

    fn duration(time: Timespec) -> Duration {
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
    }

    pub(super) fn wall() -> Duration {
        duration(clock_gettime(ClockId::Realtime))
    }

    pub(super) fn elapsed() -> Duration {
        duration(clock_gettime(ClockId::Boottime))
    }

    pub(super) fn boot() -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn wall() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    pub(super) fn elapsed() -> Duration {
        START.elapsed()
    }

    pub(super) const fn boot() -> Option<String> {
        None
    }
}

/// What the machine's clock shows.
pub(crate) fn wall() -> Timestamp {
    Timestamp::from_micros(micros(kernel::wall()))
}

/// Time that has passed since a moment that is the same for all processes where [`boot`] says so: it goes on evenly, also while the machine
/// sleeps, whatever is done to its clock.
pub(crate) fn elapsed() -> Duration {
    kernel::elapsed()
}

/// Names the present boot of the machine: processes that see the same name share [`elapsed`]. None where the system has
/// nothing of the kind.
pub(crate) fn boot() -> Option<String> {
    kernel::boot()
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
