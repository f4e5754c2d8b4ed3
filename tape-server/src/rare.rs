//! Log lines that a peer can cause as often as it likes: one a minute.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The shortest time between two lines.
const PERIOD: Duration = Duration::from_secs(60);

/// Something that may happen any number of times, and is logged now and then.
#[derive(Debug, Default)]
pub(crate) struct Rare(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    /// How often it happened since then.
    unsaid: u64,
}

impl Rare {
    /// Notes that it happened. Where it should be logged now: how often it happened without a line.
    pub(crate) fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.said.is_some_and(|said| now - said < PERIOD) {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::{PERIOD, Rare};
    use tokio::time::Instant;

    #[test]
    fn what_happens_all_the_time_has_one_line_a_minute_which_counts_the_rest() {
        let (rare, start) = (Rare::default(), Instant::now());
        assert_eq!(rare.note(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(rare.note(start + PERIOD / 2), None);
        }
        assert_eq!(rare.note(start + PERIOD), Some(1000));
        assert_eq!(rare.note(start + PERIOD * 2), Some(0));
    }
}
