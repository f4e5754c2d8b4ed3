//! Lists of runs.

use super::command::write_labels;
use super::effect::enums;
use super::field::{InvalidField, known, name, optional_name};
use crate::v1;
use std::collections::BTreeSet;
use tape_core::id::{App, Holder, Key, RunId, RunPrefix, Tenant};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

enums! {
    RunStatus = v1::RunStatus { Running, Suspended, Compensating, Stuck, Completed, Failed, Cancelled }
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

/// Which runs to list or to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of this tenant.
    pub tenant: Tenant,
    /// Only runs of this app.
    pub app: Option<App>,
    /// Only runs in one of these statuses; none for any.
    pub statuses: BTreeSet<RunStatus>,
    /// Only runs with this label.
    pub label: Option<(Key, String)>,
    /// Only runs that began at this time or later.
    pub begun_from: Option<Timestamp>,
    /// Only runs that began before this time.
    pub begun_before: Option<Timestamp>,
    /// Only runs whose names begin with this.
    pub prefix: Option<RunPrefix>,
    /// Only runs that this driver drives.
    pub driver: Option<Holder>,
}

impl TryFrom<v1::RunFilter> for RunFilter {
    type Error = InvalidField;
    fn try_from(wire: v1::RunFilter) -> Result<Self, InvalidField> {
        let label = wire
            .label
            .map(|label| Ok((name("label.key", &label.key)?, label.value)));
        let statuses = wire.statuses.iter();
        let statuses = statuses.map(|status| known::<v1::RunStatus, _>("statuses", *status));
        Ok(Self {
            tenant: name("tenant", &wire.tenant)?,
            app: optional_name("app", wire.app.as_ref())?,
            statuses: statuses.collect::<Result<_, _>>()?,
            label: label.transpose()?,
            begun_from: wire.begun_from_us.map(Timestamp::from_micros),
            begun_before: wire.begun_before_us.map(Timestamp::from_micros),
            prefix: match wire.name_prefix.as_str() {
                "" => None,
                prefix => Some(name("name_prefix", prefix)?),
            },
            driver: optional_name("driver", wire.driver.as_ref())?,
        })
    }
}

impl From<RunFilter> for v1::RunFilter {
    fn from(filter: RunFilter) -> Self {
        use v1::run_filter::Label;
        let statuses = filter.statuses.into_iter();
        Self {
            tenant: filter.tenant.into(),
            app: filter.app.map(Into::into),
            statuses: statuses
                .map(|status| v1::RunStatus::from(status).into())
                .collect(),
            label: filter.label.map(|(key, value)| Label {
                key: key.into(),
                value,
            }),
            begun_from_us: filter.begun_from.map(Timestamp::as_micros),
            begun_before_us: filter.begun_before.map(Timestamp::as_micros),
            name_prefix: filter.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
            driver: filter.driver.map(Into::into),
        }
    }
}
