//! Lists of gates that wait for a signal.

use super::DamagedStream;
use tape_core::id::{App, GateName, RunId, Seq, Tenant};
use tape_core::time::Timestamp;

/// Which gates to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateQuery {
    /// Only gates of runs of this tenant.
    pub tenant: Tenant,
    /// Only gates of runs of this app.
    pub app: Option<App>,
}

/// A page of open gates, those of the newest runs first. It may be short, or empty, and not be the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatePage {
    /// The gates.
    pub gates: Vec<OpenGate>,
    /// Runs that cannot be read. A person must look at them.
    pub damaged: Vec<DamagedStream>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A gate that waits for a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenGate {
    /// Its run.
    pub run: RunId,
    /// Its name.
    pub gate: GateName,
    /// The entry that opened it.
    pub opened: Seq,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the wait ends in any case; none where it has no end.
    pub deadline: Option<Timestamp>,
    /// Whether the run is suspended: no driver waits for the gate.
    pub suspended: bool,
}
