//! Where a run stands, as lists of runs show it.

use crate::id::Key;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What lists of runs show and filter by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Where the run stands.
    pub status: RunStatus,
    /// Its labels.
    pub labels: BTreeMap<Key, String>,
    /// When it began.
    pub begun_at: Timestamp,
    /// When its status last changed, or a person last settled one of its effects or obligations.
    pub changed_at: Timestamp,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A driver works on it, or recovery will have it driven.
    Running,
    /// It waits for a gate, a timer or an effect.
    Suspended,
    /// Its effects are being undone.
    Compensating,
    /// It, or an effect or obligation of it, waits for a person. It may have a driver meanwhile.
    Stuck,
    /// It completed.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Running,
        Self::Suspended,
        Self::Compensating,
        Self::Stuck,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Compensating => "compensating",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}
