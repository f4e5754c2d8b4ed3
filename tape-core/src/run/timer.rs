//! Timers: a time that wakes the run.

use super::Run;
use super::check::{moment, room};
use crate::entry::timer::{Cancelled, Fired, Set};
use crate::id::{Scope, Seq, TimerName};
use crate::limits::TIMERS_MAX;
use crate::payload::Payload;
use crate::reply::{Decided, Field, Limit, Missing, Rejection, ReplyResult};
use crate::time::Deadline;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A timer of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Timer {
    /// It waits.
    Pending {
        /// Due then.
        due_at: Timestamp,
    },
    /// It fired.
    Fired,
    /// It was cancelled.
    Cancelled,
}

impl Timer {
    pub(super) const fn due(&self) -> Option<Timestamp> {
        if let Self::Pending { due_at } = self {
            Some(*due_at)
        } else {
            None
        }
    }
}

impl Run {
    pub(super) fn set_timer(
        &self,
        timer: &TimerName,
        asked: Deadline,
        note: &Payload,
        now: Timestamp,
    ) -> Result<Decided, Rejection> {
        if self.timers.contains_key(timer) {
            return Err(Rejection::Exists {
                what: format!("timer '{timer}'"),
            });
        }
        room(Limit::Timers, self.timers.len(), TIMERS_MAX)?;
        self.append(Set {
            timer: timer.clone(),
            due_at: moment(Field::Command, asked, now)?,
            note: note.clone(),
            asked: Some(asked),
            scope: Scope::root(),
        })
    }

    pub(super) fn cancel_timer(&self, timer: &TimerName) -> Result<Decided, Rejection> {
        match self.timer(timer)? {
            Timer::Pending { .. } => self.append(Cancelled { timer: timer.clone() }),
            Timer::Cancelled => Ok(self.already(ReplyResult::Recorded)),
            Timer::Fired => Err(Rejection::TimerDone { timer: timer.clone() }),
        }
    }

    pub(super) fn fire_timer(&self, timer: &TimerName, now: Timestamp) -> Result<Decided, Rejection> {
        self.counts()?;
        match self.timer(timer)? {
            Timer::Pending { due_at } if due_at > now => Err(Rejection::TooEarly {
                what: format!("timer '{timer}'"),
                due: due_at,
            }),
            Timer::Pending { .. } => self.append(Fired { timer: timer.clone() }),
            Timer::Fired => Ok(self.already(ReplyResult::Recorded)),
            Timer::Cancelled => Err(Rejection::TimerDone { timer: timer.clone() }),
        }
    }

    fn timer(&self, timer: &TimerName) -> Result<Timer, Rejection> {
        self.timers
            .get(timer)
            .copied()
            .ok_or_else(|| Rejection::none_named(Missing::Timer, timer))
    }

    pub(super) fn fold_timer_set(&mut self, e: &Set) -> Result<(), String> {
        let pending = Timer::Pending { due_at: e.due_at };
        if self.timers.insert(e.timer.clone(), pending).is_some() {
            return Err(format!("timer '{}' was set before", e.timer));
        }
        self.progress();
        Ok(())
    }

    pub(super) fn fold_timer_done(
        &mut self,
        timer: &TimerName,
        fired: Option<(Seq, Timestamp)>,
    ) -> Result<(), String> {
        let there = self
            .timers
            .get_mut(timer)
            .filter(|timer| matches!(timer, Timer::Pending { .. }));
        let Some(there) = there else {
            return Err(format!("timer '{timer}' is not pending"));
        };
        *there = if fired.is_some() {
            Timer::Fired
        } else {
            Timer::Cancelled
        };
        if let Some((seq, at)) = fired {
            self.wake(seq, at);
        }
        Ok(())
    }
}
