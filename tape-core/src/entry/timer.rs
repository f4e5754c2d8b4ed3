//! Waiting for a time.

use super::has_payloads;
use crate::id::{Scope, TimerName};
use crate::payload::Payload;
use crate::time::Deadline;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A timer was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// The timer.
    pub timer: TimerName,
    /// When it is due.
    pub due_at: Timestamp,
    /// The note that it carries, for people who look at the run.
    pub note: Payload,
    /// The time as it was asked for; none in entries from before it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Deadline>,
    /// The scope that asked for it; entries from before scopes were recorded read as the root's.
    #[serde(default, skip_serializing_if = "Scope::is_root")]
    pub scope: Scope,
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
