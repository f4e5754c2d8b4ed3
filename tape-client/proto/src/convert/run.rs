//! Reading runs: where one stands, lists of them, and due work.

use super::command::write_labels;
use super::effect::enums;
use super::field::{InvalidField, known, name, optional_name};
use super::part::digest_bytes;
use crate::v1;
use crate::v1::get_run_response as view;
use tape_core::agenda::Queue;
use tape_core::id::{App, EffectId, GateName, Key, RunId, TimerName};
use tape_core::payload::Digest;
use tape_core::run::{Driver, Effect, Gate, Lease, Obligation, ObligationStatus, Phase, Run, Timer};
use tape_core::stream::{RunStatus, Stream as _, Summary};
use tape_core::time::{Now, Timestamp};

enums! {
    RunStatus = v1::RunStatus { Running, Suspended, Compensating, Stuck, Completed, Failed, Cancelled }
    Queue = v1::Queue { Recovery, Outbox, Reconcile, Timers, Compensation }
}

/// Where a run stands now; `digest` is the chain digest of its last entry.
impl From<(&Run, Digest, Now)> for v1::GetRunResponse {
    fn from((run, digest, now): (&Run, Digest, Now)) -> Self {
        let ended = if let Phase::Ended { ending } = run.phase() {
            Some(ending.clone().into())
        } else {
            None
        };
        let summary = run.id().cloned().zip(run.summary()).map(Into::into);
        Self {
            summary,
            head_seq: run.seq().0,
            head_digest: digest_bytes(digest),
            epoch: run.epoch().0,
            lease: lease(run.lease()),
            stuck_reason: run.stuck().map(ToOwned::to_owned),
            ended,
            cancel_reason: run.cancel_requested().map(ToOwned::to_owned),
            effects: run.effects().iter().map(effect).collect(),
            obligations: run.obligations().iter().map(obligation).collect(),
            gates: run.gates().iter().filter_map(gate).collect(),
            timers: run.timers().iter().filter_map(timer).collect(),
            budgets: run.budgets().iter().map(budget).collect(),
            driver: driver(run.driver(now)),
        }
    }
}

fn driver(driver: Driver) -> Option<view::Driver> {
    use view::driver::Is;
    let is = match driver {
        Driver::Driven { holder, until } => Is::Driven(view::Lease {
            holder: holder.to_string(),
            until_us: until.as_micros(),
        }),
        Driver::Alone {
            last,
            since,
            redrive_at,
        } => Is::Alone(view::Alone {
            last: last.map(|holder| holder.to_string()),
            since_us: since.as_micros(),
            redrive_us: redrive_at.as_micros(),
        }),
        Driver::Unneeded => return None,
    };
    Some(view::Driver { is: Some(is) })
}

impl TryFrom<v1::GetRunResponse> for Driver {
    type Error = InvalidField;

    fn try_from(run: v1::GetRunResponse) -> Result<Self, InvalidField> {
        use view::driver::Is;
        Ok(match run.driver.and_then(|driver| driver.is) {
            None => Self::Unneeded,
            Some(Is::Driven(lease)) => Self::Driven {
                holder: name("driver.driven.holder", &lease.holder)?,
                until: Timestamp::from_micros(lease.until_us),
            },
            Some(Is::Alone(alone)) => Self::Alone {
                last: optional_name("driver.alone.last", alone.last.as_ref())?,
                since: Timestamp::from_micros(alone.since_us),
                redrive_at: Timestamp::from_micros(alone.redrive_us),
            },
        })
    }
}

fn lease(lease: &Lease) -> Option<view::Lease> {
    let Lease::Held { holder, until, .. } = lease else {
        return None;
    };
    Some(view::Lease {
        holder: holder.to_string(),
        until_us: until.as_micros(),
    })
}

fn claim(claim: &tape_core::entry::effect::Claim) -> view::Claim {
    view::Claim {
        holder: claim.holder.to_string(),
        until_us: claim.until.as_micros(),
    }
}

fn effect((id, effect): (&EffectId, &Effect)) -> view::Effect {
    view::Effect {
        effect: Some(id.clone().into()),
        begun_seq: effect.begun.0,
        connector: effect.connector.to_string(),
        operation: effect.operation.to_string(),
        semantics: v1::Semantics::from(effect.semantics).into(),
        mode: v1::Mode::from(effect.mode).into(),
        business_key: effect.business_key.as_ref().map(ToString::to_string),
        status: v1::EffectStatus::from(effect.status).into(),
        attempt: effect.attempt,
        observations: effect.observations,
        claim: effect.claim.as_ref().map(claim),
        due_us: effect.due.map(Timestamp::as_micros),
        stuck_reason: effect.stuck.clone(),
        changed_seq: effect.changed.0,
    }
}

fn obligation(obligation: &Obligation) -> view::Obligation {
    use view::obligation::{Armed, Status};
    let status = match &obligation.status {
        ObligationStatus::Armed => Status::Armed(Armed {}),
        ObligationStatus::Due { at } => Status::DueUs(at.as_micros()),
        ObligationStatus::Started { claim: by } => Status::Claim(claim(by)),
        ObligationStatus::Stuck { reason } => Status::StuckReason(reason.clone()),
    };
    view::Obligation {
        obligation: Some(obligation.id.clone().into()),
        connector: obligation.connector.to_string(),
        operation: obligation.operation.to_string(),
        source_seq: obligation.source.0,
        attempt: obligation.attempt,
        begun_seq: obligation.begun.map(|begun| begun.0),
        status: Some(status),
        changed_seq: obligation.changed.0,
    }
}

fn gate((name, gate): (&GateName, &Gate)) -> Option<view::OpenGate> {
    let Gate::Open { deadline, opened, .. } = gate else {
        return None;
    };
    Some(view::OpenGate {
        gate: name.to_string(),
        deadline_us: deadline.map(Timestamp::as_micros),
        opened_seq: opened.0,
    })
}

fn timer((name, timer): (&TimerName, &Timer)) -> Option<view::OpenTimer> {
    let Timer::Pending { due_at } = timer else {
        return None;
    };
    Some(view::OpenTimer {
        timer: name.to_string(),
        due_us: due_at.as_micros(),
    })
}

fn budget((name, budget): (&tape_core::id::BudgetName, &tape_core::run::Budget)) -> view::Budget {
    view::Budget {
        budget: name.to_string(),
        parent: budget.parent.as_ref().map(ToString::to_string),
        currency: Some(budget.currency.clone().into()),
        limit: budget.limit,
        spent: budget.spent,
        reserved: budget.reserved,
    }
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

/// Which runs a list shall show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunListQuery {
    /// Of this tenant.
    pub tenant: tape_core::id::Tenant,
    /// Of this app.
    pub app: Option<App>,
    /// In this status.
    pub status: Option<RunStatus>,
    /// With this label.
    pub label: Option<(Key, String)>,
    /// Begun at or after.
    pub begun_from: Option<Timestamp>,
    /// Begun before.
    pub begun_before: Option<Timestamp>,
    /// Most runs of a page; none where the server chooses.
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

/// Which due work shall be pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueQuery {
    /// Whose.
    pub queue: Queue,
    /// Most hints under way at a time and per shard.
    pub limit: u32,
    /// What is still due is pushed again after so many milliseconds; none where the server chooses.
    pub repeat_ms: Option<u64>,
    /// Whether the stream ends once a page of what is due was sent.
    pub once: bool,
    /// Where that page begins; none for the first.
    pub page_token: Option<String>,
}

impl TryFrom<v1::DueRequest> for DueQuery {
    type Error = InvalidField;
    fn try_from(wire: v1::DueRequest) -> Result<Self, InvalidField> {
        let max = tape_core::limits::PAGE_ENTRIES_MAX;
        if !(1..=max).contains(&wire.limit) {
            return Err(InvalidField::new(
                "limit",
                format!("is {}, not between 1 and {max}", wire.limit),
            ));
        }
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
