//! How a relay works.

use crate::incarnation::Incarnation;
use std::time::Duration;

/// Where a relay begins that was never carried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first entry of the feed.
    Beginning,
    /// With entries that are written from then on.
    Now,
}

/// How a relay works. Each wait is a lower bound where the journal or the sink is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it begins, unless it has a place already.
    pub start: Start,
    /// How long a process carries a part without a sign of life; then another one takes over. Renewed three times in that time.
    pub lease: Duration,
    /// The longest that confirmed events wait until the place moves past them. A process that is killed leaves as much to be delivered again.
    pub move_every: Duration,
    /// So many confirmed events move the place sooner.
    pub move_events: u64,
    /// The longest that the place stands still where the filter chooses nothing of what the relay reads.
    pub pass_every: Duration,
    /// The first wait after a failure of the sink or the journal; it doubles each time, with jitter.
    pub backoff: Duration,
    /// The longest such wait, also where the sink asks for a longer one.
    pub backoff_max: Duration,
    /// Whether one process at a time carries all shards of the feed, so that bounds of the sink hold over all of them.
    pub together: bool,
    /// Which of the relays that had the name it is; none where names are not used again. Only for relays that are carried
    /// [`together`](Self::together). The place of an earlier one is forgotten, and one that finds the place of a later one leaves it alone.
    pub incarnation: Option<Incarnation>,
    /// A sink that has taken nothing for so long is disabled, until a person enables the relay; none for never. Counts the time in which it
    /// was tried.
    pub disable_after: Option<Duration>,
    /// An event that stays unavailable for so long while the sink takes events of other streams is refused for good, and its stream goes on;
    /// none for never. Time in which the sink takes little or nothing does not count.
    pub refuse_after: Option<Duration>,
    /// So many events at least a part reads beyond one that is held up, as long as they have room in memory. A process that is killed may
    /// leave as many to be delivered again.
    pub window_events: u64,
}

impl Default for Settings {
    /// From now on; each shard by itself; a lease of 15 s; moves each 200 ms or 4096 events, each 5 s where nothing is chosen; waits from 100 ms to 1 min; never
    /// disabled for failures; an event that is unavailable alone is refused after 10 min; a window of 65536 events.
    fn default() -> Self {
        Self {
            start: Start::Now,
            lease: Duration::from_secs(15),
            move_every: Duration::from_millis(200),
            move_events: 4_096,
            pass_every: Duration::from_secs(5),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(60),
            together: false,
            incarnation: None,
            disable_after: None,
            refuse_after: Some(Duration::from_secs(600)),
            window_events: 65_536,
        }
    }
}
