//! What a part has passed since its place was moved last.

use crate::settings::Settings;
use bytes::Bytes;
use std::time::Duration;
use tape_core::relay::Progress;
use tape_core::time::Timestamp;
use tokio::time::Instant;

/// Longer than any process lives.
const NEVER: Duration = Duration::from_hours(24 * 365);

#[derive(Debug)]
pub(crate) struct Unmoved {
    shard: u16,
    move_every: Duration,
    move_events: u64,
    pass_every: Duration,
    cursor: Option<Bytes>,
    reached: Option<Timestamp>,
    delivered: u64,
    refused: u64,
    /// Whether the part has no place yet. Where it begins is recorded before anything is delivered: a process that takes over has to begin
    /// there too.
    is_new: bool,
    /// When the place moves at the latest.
    move_at: Instant,
}

impl Unmoved {
    pub(crate) fn new(shard: u16, is_new: bool, settings: &Settings) -> Self {
        Self {
            shard,
            move_every: settings.move_every,
            move_events: settings.move_events,
            pass_every: settings.pass_every,
            cursor: None,
            reached: None,
            delivered: 0,
            refused: 0,
            is_new,
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

    /// The part is done with everything up to a cursor.
    pub(crate) fn pass(&mut self, cursor: Bytes, reached: Option<Timestamp>) {
        self.cursor = Some(cursor);
        self.reached = reached.or(self.reached);
        self.move_at = self.move_at.min(Instant::now() + self.pass_every);
    }

    pub(crate) const fn move_at(&self) -> Instant {
        self.move_at
    }

    /// Whether the place is to move now, without waiting for its time.
    pub(crate) fn is_due(&self) -> bool {
        (self.is_new && self.cursor.is_some()) || self.delivered + self.refused >= self.move_events
    }

    pub(crate) const fn is_something(&self) -> bool {
        self.cursor.is_some()
    }

    /// What to report.
    pub(crate) fn progress(&self, is_failing: bool) -> Progress {
        Progress {
            cursors: self
                .cursor
                .iter()
                .map(|cursor| (self.shard, cursor.clone()))
                .collect(),
            reached: self.reached,
            delivered: self.delivered,
            refused: self.refused,
            is_failing,
            ..Progress::default()
        }
    }

    /// It was reported.
    pub(crate) fn moved(&mut self) {
        self.is_new &= self.cursor.is_none();
        self.cursor = None;
        (self.delivered, self.refused) = (0, 0);
        self.move_at = Instant::now() + NEVER;
    }
}
