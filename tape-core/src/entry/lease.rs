//! The lease of a run.

use crate::id::{Epoch, Holder};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A driver took the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquired {
    /// The fencing token, one more than the last.
    pub epoch: Epoch,
    /// The driver.
    pub holder: Holder,
    /// The lease ends here unless renewed.
    pub until: Timestamp,
    /// Whether recovery took it, to hand it to an agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recovery: bool,
    /// Re-drives since the run last made progress, counting this one, whether or not an agent had the run. The wait before the next grows with
    /// them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redrives: u32,
    /// If this driver vanishes, recovery waits until then before it tries again.
    pub retry_at: Timestamp,
}

/// The driver renewed its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// The fencing token.
    pub epoch: Epoch,
    /// The new end of the lease.
    pub until: Timestamp,
    /// If this driver vanishes, recovery waits until then before it tries again.
    pub retry_at: Timestamp,
}

/// The driver released the run, or its server saw its connection close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The fencing token.
    pub epoch: Epoch,
    /// When recovery may take the run.
    pub redrive_at: Timestamp,
    /// Whether recovery reached no agent, which says nothing about the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undriven: bool,
    /// Whether the driver released the run itself: then a late renewal does not take it back. Earlier builds did not record this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_driver: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}
