//! Lists of runs, gates, sessions and values.

use super::read::named;
use super::{Context, PAGE_BYTES_MAX};
use crate::failure::of_query;
use tape_api::argument::RUNS;
use tape_api::query::{
    DamagedStream, GateQuery, OpenGate, RunQuery, SessionQuery, SessionSummary, ValueQuery, ValueSummary,
};
use tape_core::id::{InvalidName, Tenant};
use tape_core::reply::{Missing, Rejection};
use tape_core::time::Timestamp;
use tape_proto::convert::{InvalidField, RunFilter};
use tape_proto::failure::Failure;
use tape_proto::v1;

/// Runs that are read from the store at once, whatever size the caller sets: each may have 256 KiB of labels.
const RUNS_AT_ONCE: u32 = 512;

impl Context {
    pub(super) async fn run_page(&self, wire: v1::ListRunsRequest) -> Result<v1::ListRunsResponse, Failure> {
        let query = query(named("filter", wire.filter)?);
        let mut limit = RUNS.of(wire.page_size).min(RUNS_AT_ONCE);
        // Labels are read until a page of them fits a message.
        loop {
            let page = self
                .engine()
                .list_runs(&query, Some(&wire.page_token), limit)
                .await;
            let page = page.map_err(of_query)?;
            let runs: Vec<v1::RunSummary> = page.runs.into_iter().map(Into::into).collect();
            let bytes: usize = runs.iter().map(prost::Message::encoded_len).sum();
            if bytes <= PAGE_BYTES_MAX || limit <= 1 {
                return Ok(v1::ListRunsResponse {
                    runs,
                    next_page_token: page.next.unwrap_or_default(),
                });
            }
            limit = fewer(runs.len(), bytes);
        }
    }

    pub(super) async fn run_counts(
        &self,
        wire: v1::CountRunsRequest,
    ) -> Result<v1::CountRunsResponse, Failure> {
        let query = query(named("filter", wire.filter)?);
        let counted = self.engine().count_runs(&query, Some(&wire.page_token)).await;
        let counted = counted.map_err(of_query)?;
        let counts = counted.by_status.into_iter();
        Ok(v1::CountRunsResponse {
            counts: counts
                .map(|(status, runs)| v1::count_runs_response::Count {
                    status: v1::RunStatus::from(status).into(),
                    runs,
                })
                .collect(),
            looked_at: counted.looked_at,
            next_page_token: counted.next.unwrap_or_default(),
        })
    }

    pub(super) async fn gate_page(
        &self,
        wire: v1::ListGatesRequest,
    ) -> Result<v1::ListGatesResponse, Failure> {
        let query = GateQuery {
            tenant: text("tenant", &wire.tenant)?,
            app: wire.app.map(|app| text("app", &app)).transpose()?,
        };
        let page = self
            .engine()
            .open_gates(&query, Some(&wire.page_token), wire.page_size);
        let page = page.await.map_err(of_query)?;
        Ok(v1::ListGatesResponse {
            gates: page.gates.into_iter().map(gate).collect(),
            damaged: page.damaged.into_iter().map(damaged).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    pub(super) async fn session_page(
        &self,
        wire: v1::ListSessionsRequest,
    ) -> Result<v1::ListSessionsResponse, Failure> {
        let query = SessionQuery {
            tenant: text("tenant", &wire.tenant)?,
            app: wire.app.map(|app| text("app", &app)).transpose()?,
            user: wire.user.map(|user| text("user", &user)).transpose()?,
            deleted: wire.include_deleted,
        };
        let page = self
            .engine()
            .list_sessions(&query, Some(&wire.page_token), wire.page_size);
        let page = page.await.map_err(of_query)?;
        Ok(v1::ListSessionsResponse {
            sessions: page.sessions.into_iter().map(session).collect(),
            damaged: page.damaged.into_iter().map(damaged).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    pub(super) async fn value_page(
        &self,
        wire: v1::ListValuesRequest,
    ) -> Result<v1::ListValuesResponse, Failure> {
        let tenant: Tenant = text("tenant", &wire.tenant)?;
        let query = ValueQuery {
            tenant: tenant.clone(),
            prefix: match wire.name_prefix.as_str() {
                "" => None,
                prefix => Some(text("name_prefix", prefix)?),
            },
        };
        let page = self
            .engine()
            .list_values(&query, Some(&wire.page_token), wire.page_size);
        let page = page.await.map_err(of_query)?;
        let values = page.values.into_iter();
        Ok(v1::ListValuesResponse {
            values: values.map(|found| value(tenant.clone(), found)).collect(),
            damaged: page.damaged.into_iter().map(damaged).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    pub(super) async fn key_owner(
        &self,
        wire: v1::GetBusinessKeyRequest,
    ) -> Result<v1::GetBusinessKeyResponse, Failure> {
        let (tenant, connector, key) = named("business_key", wire.business_key)?;
        let owner = self.engine().key_owner(&tenant, &connector, &key).await;
        let owner = owner.map_err(of_query)?;
        let owner = owner.ok_or_else(|| Rejection::not_found(Missing::BusinessKey))?;
        Ok(v1::GetBusinessKeyResponse {
            run: Some(owner.run.into()),
            effect: Some(owner.effect.into()),
            taken_seq: owner.taken.0,
            taken_us: owner.taken_at.as_micros(),
        })
    }
}

fn query(filter: RunFilter) -> RunQuery {
    let RunFilter {
        tenant,
        app,
        statuses,
        label,
        begun_from,
        begun_before,
        prefix,
        driver,
    } = filter;
    RunQuery {
        tenant,
        app,
        statuses,
        label,
        prefix,
        begun_from,
        begun_before,
        driver,
    }
}

fn gate(gate: OpenGate) -> v1::list_gates_response::Gate {
    v1::list_gates_response::Gate {
        run: Some(gate.run.into()),
        gate: gate.gate.into(),
        opened_seq: gate.opened.0,
        opened_us: gate.opened_at.as_micros(),
        deadline_us: gate.deadline.map(Timestamp::as_micros),
        suspended: gate.suspended,
    }
}

fn session(session: SessionSummary) -> v1::list_sessions_response::SessionSummary {
    v1::list_sessions_response::SessionSummary {
        session: Some(session.session.into()),
        head_seq: session.seq.0,
        changed_us: session.changed_at.as_micros(),
        deleted: session.deleted,
    }
}

fn value(tenant: Tenant, value: ValueSummary) -> v1::list_values_response::ValueSummary {
    v1::list_values_response::ValueSummary {
        value_id: Some((tenant, value.name).into()),
        version: value.version,
        deleted: value.deleted,
        changed_us: value.changed_at.as_micros(),
    }
}

fn damaged(damaged: DamagedStream) -> v1::DamagedStream {
    v1::DamagedStream {
        stream: Some(damaged.stream.into()),
        problem: damaged.problem,
    }
}

/// A name of a request.
pub(super) fn text<N>(field: &str, name: &str) -> Result<N, InvalidField>
where
    N: std::str::FromStr<Err = InvalidName>,
{
    let read = name.parse();
    read.map_err(|error: InvalidName| InvalidField::new(field, error.problem.to_string()))
}

/// How many runs to read instead of a page that is too large.
pub(super) fn fewer(runs: usize, bytes: usize) -> u32 {
    let fit = (runs * PAGE_BYTES_MAX / bytes).min(runs / 2).max(1);
    u32::try_from(fit).unwrap_or(1)
}
