//! Reading runs: lists of them, and due work.

use super::command::write_labels;
use super::effect::enums;
use super::field::{InvalidField, known, name, optional_name};
use crate::v1;
use tape_core::agenda::Queue;
use tape_core::id::{App, Key, RunId};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

enums! {
    RunStatus = v1::RunStatus { Running, Suspended, Compensating, Stuck, Completed, Failed, Cancelled }
    Queue = v1::Queue { Recovery, Outbox, Reconcile, Timers, Compensation }
}

impl From<(RunId, Summary)> for v1::RunSummary {
    fn from((run, summary): (RunId, Summary)) -> Self {
        Self {
            run: Some(run.into()),
            status: v1::RunStatus::from(summary.status).into(),
            labels: write_labels(summary.labels),
            begun_us: summary.begun_at.as_micros(),
            changed_us: summary.changed_at.as_micros(),
        }
    }
}

impl TryFrom<v1::RunSummary> for (RunId, Summary) {
    type Error = InvalidField;
    fn try_from(wire: v1::RunSummary) -> Result<Self, InvalidField> {
        let summary = Summary {
            status: known::<v1::RunStatus, _>("status", wire.status)?,
            labels: super::command::read_labels(wire.labels)?,
            begun_at: Timestamp::from_micros(wire.begun_us),
            changed_at: Timestamp::from_micros(wire.changed_us),
        };
        Ok((super::field::required("run", wire.run)?, summary))
    }
}

/// Which runs to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunListQuery {
    /// Only runs of this tenant.
    pub tenant: tape_core::id::Tenant,
    /// Only runs of this app.
    pub app: Option<App>,
    /// Only runs in this status.
    pub status: Option<RunStatus>,
    /// Only runs with this label.
    pub label: Option<(Key, String)>,
    /// Only runs that began at this time or later.
    pub begun_from: Option<Timestamp>,
    /// Only runs that began before this time.
    pub begun_before: Option<Timestamp>,
    /// Most runs in a page; none where the server chooses.
    pub page_size: Option<u32>,
    /// Where the page begins; none for the first.
    pub page_token: Option<String>,
}

impl TryFrom<v1::ListRunsRequest> for RunListQuery {
    type Error = InvalidField;
    fn try_from(wire: v1::ListRunsRequest) -> Result<Self, InvalidField> {
        let any = wire.status == i32::from(v1::RunStatus::Unspecified);
        let status = || known::<v1::RunStatus, _>("status", wire.status);
        let label = wire
            .label
            .map(|label| Ok((name("label.key", &label.key)?, label.value)));
        Ok(Self {
            tenant: name("tenant", &wire.tenant)?,
            app: optional_name("app", wire.app.as_ref())?,
            status: (!any).then(status).transpose()?,
            label: label.transpose()?,
            begun_from: wire.begun_from_us.map(Timestamp::from_micros),
            begun_before: wire.begun_before_us.map(Timestamp::from_micros),
            page_size: (wire.page_size != 0).then_some(wire.page_size),
            page_token: (!wire.page_token.is_empty()).then_some(wire.page_token),
        })
    }
}

impl From<RunListQuery> for v1::ListRunsRequest {
    fn from(query: RunListQuery) -> Self {
        use v1::list_runs_request::Label;
        Self {
            tenant: query.tenant.into(),
            app: query.app.map(Into::into),
            status: query.status.map_or(v1::RunStatus::Unspecified, Into::into).into(),
            label: query.label.map(|(key, value)| Label {
                key: key.into(),
                value,
            }),
            begun_from_us: query.begun_from.map(Timestamp::as_micros),
            begun_before_us: query.begun_before.map(Timestamp::as_micros),
            page_size: query.page_size.unwrap_or_default(),
            page_token: query.page_token.unwrap_or_default(),
        }
    }
}

/// Which due work to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueQuery {
    /// The queue.
    pub queue: Queue,
    /// Most hints under way at a time and per shard; zero where the server chooses.
    pub limit: u32,
    /// Work that is still due is pushed again after so many milliseconds; none where the server chooses.
    pub repeat_ms: Option<u64>,
    /// Whether the stream ends after one page of due work.
    pub once: bool,
    /// Where that page begins; none for the first.
    pub page_token: Option<String>,
}

impl TryFrom<v1::DueRequest> for DueQuery {
    type Error = InvalidField;
    fn try_from(wire: v1::DueRequest) -> Result<Self, InvalidField> {
        if (1..100).contains(&wire.repeat_ms) {
            return Err(InvalidField::new(
                "repeat_ms",
                format!("is {}, at least 100 are asked for", wire.repeat_ms),
            ));
        }
        Ok(Self {
            queue: known::<v1::Queue, _>("queue", wire.queue)?,
            limit: wire.limit,
            repeat_ms: (wire.repeat_ms != 0).then_some(wire.repeat_ms),
            once: wire.once,
            page_token: (!wire.page_token.is_empty()).then_some(wire.page_token),
        })
    }
}

impl From<DueQuery> for v1::DueRequest {
    fn from(query: DueQuery) -> Self {
        Self {
            queue: v1::Queue::from(query.queue).into(),
            limit: query.limit,
            repeat_ms: query.repeat_ms.unwrap_or_default(),
            once: query.once,
            page_token: query.page_token.unwrap_or_default(),
        }
    }
}
