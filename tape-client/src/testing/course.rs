//! The course of one trial, over all its processes.

use super::disturbance::{Disturbance, Moments};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Counts what can be disturbed, and says what is.
#[derive(Debug)]
pub(super) struct Course {
    disturbance: Disturbance,
    fired: AtomicBool,
    writes: AtomicU32,
    awaits: AtomicU32,
    calls: AtomicU32,
}

impl Course {
    pub(super) fn new(disturbance: Disturbance) -> Self {
        Self {
            disturbance,
            fired: AtomicBool::new(false),
            writes: AtomicU32::new(0),
            awaits: AtomicU32::new(0),
            calls: AtomicU32::new(0),
        }
    }

    pub(super) const fn disturbance(&self) -> Disturbance {
        self.disturbance
    }

    /// Whether the disturbance has happened.
    pub(super) fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    /// How often each kind of point was reached so far.
    pub(super) fn moments(&self) -> Moments {
        Moments {
            writes: self.writes.load(Ordering::SeqCst),
            awaits: self.awaits.load(Ordering::SeqCst),
            calls: self.calls.load(Ordering::SeqCst),
        }
    }

    /// A process writes to the journal: what disturbs that.
    pub(super) fn write(&self) -> Disturbance {
        use Disturbance as D;
        let n = next(&self.writes);
        let at = match self.disturbance {
            D::KilledBeforeWrite(at)
            | D::KilledAfterWrite(at)
            | D::WriteLost(at)
            | D::WriteAnswerLost(at) => at,
            _ => 0,
        };
        self.fires(at == n)
    }

    /// A process waits: what disturbs that.
    pub(super) fn wait(&self) -> Disturbance {
        let n = next(&self.awaits);
        self.fires(self.disturbance == Disturbance::KilledAtAwait(n))
    }

    /// A process calls the upstream: what disturbs that.
    pub(super) fn call(&self) -> Disturbance {
        let n = next(&self.calls);
        let lost = [Disturbance::CallLost(n), Disturbance::CallAnswerLost(n)];
        self.fires(lost.contains(&self.disturbance))
    }

    fn fires(&self, now: bool) -> Disturbance {
        if !now {
            return Disturbance::None;
        }
        self.fired.store(true, Ordering::SeqCst);
        self.disturbance
    }
}

fn next(count: &AtomicU32) -> u32 {
    count.fetch_add(1, Ordering::SeqCst) + 1
}
