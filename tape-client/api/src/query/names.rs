//! Lists of sessions and of values, in the order of their names: with escapes, by bytes.

use tape_core::id::{App, Seq, SessionId, StreamId, Tenant, User, ValueName};
use tape_core::time::Timestamp;

/// Which sessions to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQuery {
    /// Only sessions of this tenant.
    pub tenant: Tenant,
    /// Only sessions of this app.
    pub app: Option<App>,
    /// Only sessions of this user. Without an app, all sessions of the tenant are looked at for it.
    pub user: Option<User>,
    /// Whether to list deleted sessions too.
    pub deleted: bool,
}

impl SessionQuery {
    /// All sessions of a tenant that are not deleted.
    #[must_use]
    pub const fn all(tenant: Tenant) -> Self {
        Self {
            tenant,
            app: None,
            user: None,
            deleted: false,
        }
    }
}

/// A page of a list of sessions. It may be short, or empty, and not be the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// Sessions that cannot be read. A person must look at them.
    pub damaged: Vec<DamagedStream>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSummary {
    /// Its name.
    pub session: SessionId,
    /// Its last entry.
    pub seq: Seq,
    /// When that entry was recorded.
    pub changed_at: Timestamp,
    /// Whether it is deleted.
    pub deleted: bool,
}

/// Which values to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueQuery {
    /// Only values of this tenant.
    pub tenant: Tenant,
    /// Only values whose names begin with this, which may be a whole name.
    pub prefix: Option<ValueName>,
}

/// A page of a list of values, deleted ones too. It may be short, or empty, and not be the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValuePage {
    /// The values.
    pub values: Vec<ValueSummary>,
    /// Values that cannot be read. A person must look at them.
    pub damaged: Vec<DamagedStream>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// A value in a list, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueSummary {
    /// Its name.
    pub name: ValueName,
    /// Its version; it counts deletions too.
    pub version: u64,
    /// When it last changed: when its bytes were recorded, or, of a deleted value, its last entry.
    pub changed_at: Timestamp,
    /// Whether it is deleted, or its bytes were erased.
    pub deleted: bool,
}

/// A stream of a list that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedStream {
    /// The stream.
    pub stream: StreamId,
    /// What is wrong.
    pub problem: String,
}
