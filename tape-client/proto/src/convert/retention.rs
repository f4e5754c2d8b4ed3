//! Retention: which runs to retire, and the result.

use super::field::{InvalidField, name, optional_name, required};
use crate::v1;
use tape_core::id::{Principal, RunId, Tenant};

/// Which runs to retire, on whose behalf and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetirementQuery {
    /// Runs of this tenant.
    pub tenant: Tenant,
    /// Runs that ended longer ago than so many milliseconds.
    pub older_than_ms: u64,
    /// Why.
    pub reason: String,
    /// The principal that retires them, where it is known.
    pub principal: Option<Principal>,
    /// Whether to count only and change nothing.
    pub dry_run: bool,
    /// Most runs to look at; zero where the server chooses.
    pub page_size: u32,
    /// Where the page begins; none for the first.
    pub page_token: Option<String>,
}

impl TryFrom<v1::RetireRunsRequest> for RetirementQuery {
    type Error = InvalidField;
    fn try_from(wire: v1::RetireRunsRequest) -> Result<Self, InvalidField> {
        Ok(Self {
            tenant: name("tenant", &wire.tenant)?,
            older_than_ms: wire.older_than_ms,
            reason: wire.reason,
            principal: optional_name("principal", wire.principal.as_ref())?,
            dry_run: wire.dry_run,
            page_size: wire.page_size,
            page_token: (!wire.page_token.is_empty()).then_some(wire.page_token),
        })
    }
}

impl From<RetirementQuery> for v1::RetireRunsRequest {
    fn from(query: RetirementQuery) -> Self {
        Self {
            tenant: query.tenant.into(),
            older_than_ms: query.older_than_ms,
            reason: query.reason,
            principal: query.principal.map(Into::into),
            dry_run: query.dry_run,
            page_size: query.page_size,
            page_token: query.page_token.unwrap_or_default(),
        }
    }
}

/// A run that was left as it is, and why.
impl From<(RunId, String)> for v1::retire_runs_response::Left {
    fn from((run, problem): (RunId, String)) -> Self {
        Self {
            run: Some(run.into()),
            problem,
        }
    }
}

impl TryFrom<v1::retire_runs_response::Left> for (RunId, String) {
    type Error = InvalidField;
    fn try_from(wire: v1::retire_runs_response::Left) -> Result<Self, InvalidField> {
        Ok((required("run", wire.run)?, wire.problem))
    }
}
