//! Due work, and the owners of business keys, as an operator sees them.

use tape_core::agenda::Queue;
use tape_core::id::{App, EffectId, RunId, Seq, StreamId, Tenant};
use tape_core::time::Timestamp;

/// Which due work to look for. A field that is none does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DueFilter {
    /// Only work of streams of this tenant.
    pub tenant: Option<Tenant>,
    /// Only work of runs and sessions of this app, and of the state that its sessions share.
    pub app: Option<App>,
}

impl DueFilter {
    /// Whether the work of a stream fits.
    #[must_use]
    pub fn fits(&self, stream: &StreamId) -> bool {
        let app = match stream {
            StreamId::Run(run) => Some(&run.app),
            StreamId::Session(session) => Some(&session.app),
            StreamId::Shared { app, .. } => Some(app),
            StreamId::Value { .. } | StreamId::KeyOwner { .. } | StreamId::Relay(_) => None,
        };
        self.tenant
            .as_ref()
            .is_none_or(|tenant| tenant == stream.tenant())
            && self.app.as_ref().is_none_or(|wanted| app == Some(wanted))
    }
}

/// How much work of a queue is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSummary {
    /// The queue.
    pub queue: Queue,
    /// How many pieces of work are due, as far as they were counted. It counts hints, so work that was just done may be among it.
    pub due: u64,
    /// Whether more may be due: only those that are due longest were counted, or many pieces of other tenants were looked at.
    pub more: bool,
    /// Since when the oldest of them is due; none where none is due.
    pub oldest_due: Option<Timestamp>,
}

/// The owner of a business key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOwnership {
    /// The run.
    pub run: RunId,
    /// The effect. It may not have begun yet.
    pub effect: EffectId,
    /// The entry of the key's own stream by which the effect took it.
    pub taken: Seq,
    /// When that was.
    pub taken_at: Timestamp,
}
