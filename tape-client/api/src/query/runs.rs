//! Lists and counts of runs.

use std::collections::{BTreeMap, BTreeSet};
use tape_core::id::{App, Holder, Key, RunId, RunPrefix, Tenant};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

/// Which runs to list or count. A run has to fit every field that is given.
///
/// The tenant, the app, the statuses, the label and the times are searched for in indexes. The prefix and the driver are compared with each
/// run found there, of which a page looks at a bounded number. So a page may be short or empty and still have a next one.
///
/// On Bigtable, a run that changes its status while a page is read may be missed where several statuses are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuery {
    /// Only runs of this tenant.
    pub tenant: Tenant,
    /// Only runs of this app.
    pub app: Option<App>,
    /// Only runs in one of these statuses; in any where there are none.
    pub statuses: BTreeSet<RunStatus>,
    /// Only runs with this label.
    pub label: Option<(Key, String)>,
    /// Only runs whose names begin with this.
    pub prefix: Option<RunPrefix>,
    /// Only runs that began at or after this time.
    pub begun_from: Option<Timestamp>,
    /// Only runs that began before this time.
    pub begun_before: Option<Timestamp>,
    /// Only runs that this holder drives now: its lease is in force. The state of each run that fits the other fields is read.
    pub driver: Option<Holder>,
}

impl RunQuery {
    /// All runs of a tenant.
    #[must_use]
    pub const fn all(tenant: Tenant) -> Self {
        Self {
            tenant,
            app: None,
            statuses: BTreeSet::new(),
            label: None,
            prefix: None,
            begun_from: None,
            begun_before: None,
            driver: None,
        }
    }
}

/// A page of a list of runs, newest first. It may be short, or empty, and not be the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<(RunId, Summary)>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// The counts of one page of runs. The counts of all runs are the sums over all pages.
///
/// A run whose status changes between two pages is counted once, as it was when its page was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// How many runs fit, by status; a status without runs is left out.
    pub by_status: BTreeMap<RunStatus, u64>,
    /// How many runs were looked at, whether they fit or not.
    pub looked_at: u64,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}
