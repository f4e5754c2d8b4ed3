//! The clocks of the machine as its kernel shows them, and the randomness of its system.

use crate::{Environment, micros};
use std::sync::Arc;
use std::time::Duration;
use tape_core::time::Timestamp;

/// The environment of the machine that this process runs on. The kernel's clocks are read, also by a process that was started with another
/// idea of the time (`LD_PRELOAD` of libfaketime), so that processes of one machine agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

/// The environment of the machine that this process runs on.
#[must_use]
pub fn machine() -> Arc<dyn Environment> {
    Arc::new(Machine)
}

impl Environment for Machine {
    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(micros(kernel::wall()))
    }

    fn elapsed(&self) -> Duration {
        kernel::elapsed()
    }

    fn boot(&self) -> Option<String> {
        kernel::boot()
    }

    fn process(&self) -> u32 {
        std::process::id()
    }

    /// # Panics
    /// Where the system has no randomness.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the machine is asked for randomness"
    )]
    fn random(&self) -> u128 {
        let mut bits = [0; size_of::<u128>()];
        getrandom::fill(&mut bits).expect("the system has random bits");
        u128::from_ne_bytes(bits)
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
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the machine is asked for the time"
)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_is_never_the_same_and_chance_is_a_part_of_one() {
        assert_ne!(Machine.random(), Machine.random());
        assert_ne!(Machine.uuid(), Machine.uuid());
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&Machine.chance())));
        assert_eq!(Machine.uuid().get_version_num(), 4);
    }

    #[test]
    fn what_has_passed_goes_on() {
        let before = Machine.elapsed();
        assert!(Machine.elapsed() >= before);
        assert_eq!(Machine.boot(), machine().boot());
    }
}
