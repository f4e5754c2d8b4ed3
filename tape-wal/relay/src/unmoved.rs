//! What a part has passed since its place was moved last.

use crate::settings::Settings;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tape_core::relay::Progress;
use tape_core::time::Timestamp;
use tokio::time::Instant;

/// Longer than any process lives.
const NEVER: Duration = Duration::from_hours(24 * 365);

#[derive(Debug)]
pub(crate) struct Unmoved {
    move_every: Duration,
    move_events: u64,
    pass_every: Duration,
    cursors: BTreeMap<u16, Bytes>,
    reached: Option<Timestamp>,
    delivered: u64,
    refused: u64,
    /// The shards that have a place. Where another one begins is recorded before anything of it is delivered: a process that takes over has
    /// to begin there too.
    placed: BTreeSet<u16>,
    /// When the place moves at the latest.
    move_at: Instant,
}

impl Unmoved {
    pub(crate) fn new(placed: BTreeSet<u16>, settings: &Settings) -> Self {
        Self {
            move_every: settings.move_every,
            move_events: settings.move_events,
            pass_every: settings.pass_every,
            cursors: BTreeMap::new(),
            reached: None,
            delivered: 0,
            refused: 0,
            placed,
            move_at: Instant::now() + NEVER,
        }
    }

    /// Counts events whose batch is not passed yet.
    pub(crate) fn add(&mut self, delivered: u64, refused: usize) {
        self.delivered += delivered;
        self.refused += refused as u64;
        if delivered > 0 || refused > 0 {
            self.move_at = self.move_at.min(Instant::now() + self.move_every);
        }
    }

    /// The part is done with everything of a shard up to a cursor.
    pub(crate) fn pass(&mut self, shard: u16, cursor: Bytes, reached: Option<Timestamp>) {
        self.cursors.insert(shard, cursor);
        self.reached = reached.or(self.reached);
        self.move_at = self.move_at.min(Instant::now() + self.pass_every);
    }

    /// When the place moves at the latest; none where there is no other place to move to.
    pub(crate) fn move_at(&self) -> Option<Instant> {
        self.is_something().then_some(self.move_at)
    }

    /// Whether the place is to move now, without waiting for its time.
    pub(crate) fn is_due(&self) -> bool {
        self.is_new() || (self.is_something() && self.delivered + self.refused >= self.move_events)
    }

    /// Whether the journal does not have yet where a shard begins.
    pub(crate) fn is_new(&self) -> bool {
        self.cursors.keys().any(|shard| !self.placed.contains(shard))
    }

    pub(crate) fn is_something(&self) -> bool {
        !self.cursors.is_empty()
    }

    /// What to report.
    pub(crate) fn progress(&self, is_failing: bool) -> Progress {
        Progress {
            cursors: self.cursors.clone(),
            reached: self.reached,
            delivered: self.delivered,
            refused: self.refused,
            is_failing,
            ..Progress::default()
        }
    }

    /// It was reported.
    pub(crate) fn moved(&mut self) {
        self.placed.extend(std::mem::take(&mut self.cursors).into_keys());
        (self.delivered, self.refused) = (0, 0);
        self.move_at = Instant::now() + NEVER;
    }
}
