//! Limits log lines about events that may happen a thousand times a second.

use std::time::{Duration, Instant};

/// At most one line in this long.
const EVERY: Duration = Duration::from_secs(10);

/// Says when a line is due, and how many were left out.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// How many lines were left out since the last one, where another is due now.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERY, Seldom};
    use std::time::Instant;

    #[test]
    fn a_flood_is_one_line_with_a_count() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.due(start), Some(0));
        assert_eq!(seldom.due(start), None);
        assert_eq!(seldom.due(start + EVERY / 2), None);
        assert_eq!(seldom.due(start + EVERY), Some(2));
    }
}
