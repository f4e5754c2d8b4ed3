//! Waiting for a time.

use super::has_payloads;
use crate::id::TimerName;
use crate::payload::Payload;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A timer was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// The timer.
    pub timer: TimerName,
    /// When it is due.
    pub due_at: Timestamp,
    /// What it carries, for whoever acts when it fires.
    pub note: Payload,
}
has_payloads!(Set: note);

/// A timer fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// The timer.
    pub timer: TimerName,
}

/// A timer was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The timer.
    pub timer: TimerName,
}
