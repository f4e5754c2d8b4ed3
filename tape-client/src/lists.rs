//! Lists of what a journal has, for the tools of operators.

use crate::client::Tape;
use crate::error::Error;
use crate::retry::until_answered;
use tape_api::query::{
    GatePage, GateQuery, KeyOwnership, QueueSummary, RunCounts, RunPage, RunQuery, SessionPage, SessionQuery,
    StreamPage, ValuePage, ValueQuery,
};
use tape_core::id::{BusinessKey, ConnectorName, Tenant};

/// Lists come in pages: `page` is [`None`] for the first page, then `next` of the page before. A page may be short, or empty, and not be the
/// last. A `limit` of zero is the usual size of a page, 100, and a `limit` over the largest size is taken as the largest.
impl Tape {
    /// Lists runs, newest first, a page of at most `limit` at a time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach; [`Error::Invalid`] where `page` is of no page of this list.
    pub async fn runs(&self, query: &RunQuery, page: Option<String>, limit: u32) -> Result<RunPage, Error> {
        until_answered(self.tries(), || self.journal.runs(query, page.as_deref(), limit)).await
    }

    /// How many runs fit a query, by status. Each page looks at a bounded number of runs: the counts of all pages add up.
    ///
    /// # Errors
    /// As [`Tape::runs`].
    pub async fn count_runs(&self, query: &RunQuery, page: Option<String>) -> Result<RunCounts, Error> {
        until_answered(self.tries(), || self.journal.count_runs(query, page.as_deref())).await
    }

    /// Lists the gates that wait for an answer, over the unfinished runs of a tenant, those of the newest runs first. All gates of one run
    /// are on one page, so a page of one run may have more than `limit`. [`Tape::answer`] answers a gate.
    ///
    /// # Errors
    /// As [`Tape::runs`]. A run that is damaged is in the page as such.
    pub async fn open_gates(
        &self,
        query: &GateQuery,
        page: Option<String>,
        limit: u32,
    ) -> Result<GatePage, Error> {
        until_answered(self.tries(), || {
            self.journal.open_gates(query, page.as_deref(), limit)
        })
        .await
    }

    /// Lists sessions, in the order of their names. A page looks at `limit` names, at most 256.
    ///
    /// # Errors
    /// As [`Tape::runs`]. A session that is damaged is in the page as such.
    pub async fn sessions(
        &self,
        query: &SessionQuery,
        page: Option<String>,
        limit: u32,
    ) -> Result<SessionPage, Error> {
        until_answered(self.tries(), || {
            self.journal.sessions(query, page.as_deref(), limit)
        })
        .await
    }

    /// Lists values without their bytes, deleted ones too, in the order of their names. A page looks at `limit` names, at most 256.
    ///
    /// # Errors
    /// As [`Tape::runs`]. A value that is damaged is in the page as such.
    pub async fn values(
        &self,
        query: &ValueQuery,
        page: Option<String>,
        limit: u32,
    ) -> Result<ValuePage, Error> {
        until_answered(self.tries(), || {
            self.journal.values(query, page.as_deref(), limit)
        })
        .await
    }

    /// The effect that has a business key of a connector, which it keeps for good; none where the key is not taken.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach, [`Error::Damaged`] where the owner of the key cannot be read.
    pub async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, Error> {
        until_answered(self.tries(), || self.journal.key_owner(tenant, connector, key)).await
    }

    /// How much work of each queue is due, of a tenant or of all. Only the work that is due longest is counted; where there may be more,
    /// [`QueueSummary::more`] says so.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, Error> {
        until_answered(self.tries(), || self.journal.queues(tenant)).await
    }

    /// A page of the existing streams, of all tenants and kinds. A reader that pages to the end sees every stream that exists throughout
    /// exactly once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn streams(&self, page: Option<String>) -> Result<StreamPage, Error> {
        until_answered(self.tries(), || self.journal.streams(page.as_deref())).await
    }
}
