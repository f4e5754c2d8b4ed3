//! The status of a run in one message. A run may have thousands of obligations, so elements that do not fit are left out and counted.

use super::field::{InvalidField, name, optional_name, required};
use super::part::digest_bytes;
use crate::v1;
use crate::v1::get_run_request as request;
use crate::v1::get_run_response as view;
use prost::Message;
use tape_core::decider::Decider as _;
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, GateName, RunId, TimerName};
use tape_core::payload::Digest;
use tape_core::run::{Driver, Effect, Gate, Lease, Obligation, ObligationStatus, Phase, Run, Timer};
use tape_core::time::{Now, Timestamp};

/// Bytes that an element of a list takes besides its own: its tag, and its length in at most five bytes.
const ELEMENT_BYTES: usize = 6;

/// A query for the status of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunQuestion {
    /// The run.
    pub run: RunId,
    /// The only effect or obligation to return; all of them where there is none.
    pub only: Option<Only>,
}

/// An effect or an obligation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// An effect.
    Effect(EffectId),
    /// An obligation.
    Obligation(ObligationId),
}

impl Only {
    fn is_effect(&self, id: &EffectId) -> bool {
        matches!(self, Self::Effect(effect) if effect == id)
    }

    fn is_obligation(&self, id: &ObligationId) -> bool {
        matches!(self, Self::Obligation(obligation) if obligation == id)
    }
}

impl TryFrom<v1::GetRunRequest> for RunQuestion {
    type Error = InvalidField;
    fn try_from(wire: v1::GetRunRequest) -> Result<Self, InvalidField> {
        let only = match wire.only {
            None => None,
            Some(request::Only::Effect(effect)) => Some(Only::Effect(required("effect", Some(effect))?)),
            Some(request::Only::Obligation(obligation)) => {
                Some(Only::Obligation(required("obligation", Some(obligation))?))
            }
        };
        let run = required("run", wire.run)?;
        Ok(Self { run, only })
    }
}

impl From<RunQuestion> for v1::GetRunRequest {
    fn from(question: RunQuestion) -> Self {
        let only = question.only.map(|only| match only {
            Only::Effect(effect) => request::Only::Effect(effect.into()),
            Only::Obligation(obligation) => request::Only::Obligation(obligation.into()),
        });
        Self {
            run: Some(question.run.into()),
            only,
        }
    }
}

impl v1::GetRunResponse {
    /// The status of a run, in at most `bytes_max` bytes unless its labels and reasons alone take more. `digest` is the chain digest of its
    /// last entry.
    #[must_use]
    pub fn of(run: &Run, digest: Digest, now: Now, only: Option<&Only>, bytes_max: usize) -> Self {
        let ended = if let Phase::Ended { ending } = run.phase() {
            Some(ending.clone().into())
        } else {
            None
        };
        let summary = run.id().cloned().zip(run.summary()).map(Into::into);
        let effects = run
            .effects()
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only.is_effect(id)));
        let obligations = run
            .obligations()
            .iter()
            .filter(|obligation| only.is_none_or(|only| only.is_obligation(&obligation.id)));
        let mut answer = Self {
            summary,
            head_seq: run.seq().0,
            head_digest: digest_bytes(digest),
            epoch: run.epoch().0,
            lease: lease(run.lease()),
            stuck_reason: run.stuck().map(ToOwned::to_owned),
            ended,
            cancel_reason: run.cancel_requested().map(ToOwned::to_owned),
            driver: driver(run.driver(now)),
            ..Self::default()
        };
        let mut room = Room {
            bytes: bytes_max.saturating_sub(answer.encoded_len() + ELEMENT_BYTES),
            left_out: 0,
        };
        let waits = |effect: &view::Effect| effect.stuck_reason.is_some();
        let effects = effects.map(|(id, known)| view::Effect {
            claimable: run.claimable_effect(id, now).is_some(),
            ..effect(id, known)
        });
        answer.effects = room.take(effects.collect(), waits);
        answer.gates = room.take(run.gates().iter().filter_map(gate).collect(), |_| true);
        let obligations = obligations.map(|known| view::Obligation {
            claimable: run.claimable_obligation(&known.id, now).is_some(),
            ..obligation(known)
        });
        answer.obligations = room.take(obligations.collect(), |obligation| {
            matches!(obligation.status, Some(view::obligation::Status::StuckReason(_)))
        });
        answer.timers = room.take(run.timers().iter().filter_map(timer).collect(), |_| false);
        answer.budgets = room.take(run.budgets().iter().map(budget).collect(), |_| false);
        answer.left_out = room.left_out;
        answer
    }
}

/// The room left in a message.
struct Room {
    bytes: usize,
    left_out: u32,
}

impl Room {
    /// The elements that fit, in their order. Those that are `first` are taken first, then the last of the others.
    fn take<T: Message>(&mut self, all: Vec<T>, first: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = vec![false; all.len()];
        for comes_first in [true, false] {
            for (element, taken) in all.iter().zip(&mut taken).rev() {
                let bytes = element.encoded_len() + ELEMENT_BYTES;
                if first(element) == comes_first && bytes <= self.bytes {
                    self.bytes -= bytes;
                    *taken = true;
                }
            }
        }
        let count = all.len();
        let kept: Vec<T> = all
            .into_iter()
            .zip(taken)
            .filter_map(|(element, taken)| taken.then_some(element))
            .collect();
        let left_out = u32::try_from(count - kept.len()).unwrap_or(u32::MAX);
        self.left_out = self.left_out.saturating_add(left_out);
        kept
    }
}

fn driver(driver: Driver) -> Option<view::Driver> {
    use view::driver::State;
    let state = match driver {
        Driver::Driven { holder, until } => State::Driven(view::Lease {
            holder: holder.to_string(),
            until_us: until.as_micros(),
        }),
        Driver::Alone {
            last,
            since,
            redrive_at,
            // `cancel_reason` says it.
            cancel: _,
        } => State::Alone(view::Alone {
            last: last.map(|holder| holder.to_string()),
            since_us: since.as_micros(),
            redrive_us: redrive_at.as_micros(),
        }),
        Driver::Unneeded => return None,
    };
    Some(view::Driver { state: Some(state) })
}

impl TryFrom<v1::GetRunResponse> for Driver {
    type Error = InvalidField;

    fn try_from(run: v1::GetRunResponse) -> Result<Self, InvalidField> {
        use view::driver::State;
        Ok(match run.driver.and_then(|driver| driver.state) {
            None => Self::Unneeded,
            Some(State::Driven(lease)) => Self::Driven {
                holder: name("driver.driven.holder", &lease.holder)?,
                until: Timestamp::from_micros(lease.until_us),
            },
            Some(State::Alone(alone)) => Self::Alone {
                last: optional_name("driver.alone.last", alone.last.as_ref())?,
                since: Timestamp::from_micros(alone.since_us),
                redrive_at: Timestamp::from_micros(alone.redrive_us),
                cancel: run.cancel_reason,
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

fn claim(claim: &tape_core::entry::effect::WorkLease) -> view::WorkLease {
    view::WorkLease {
        holder: claim.holder.to_string(),
        until_us: claim.until.as_micros(),
    }
}

fn effect(id: &EffectId, effect: &Effect) -> view::Effect {
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
        claimable: false,
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
        claimable: false,
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

#[cfg(test)]
mod tests {
    use super::{Room, view};

    fn obligation(source: u64, stuck: bool) -> view::Obligation {
        use view::obligation::{Armed, Status};
        let status = if stuck {
            Status::StuckReason("why".to_owned())
        } else {
            Status::Armed(Armed {})
        };
        view::Obligation {
            connector: "c".repeat(200),
            source_seq: source,
            status: Some(status),
            ..view::Obligation::default()
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_what_waits_for_a_person_has_room_first() {
        let all: Vec<_> = (1..=10_000).map(|n| obligation(n, n == 1)).collect();
        let first = |of: &view::Obligation| of.source_seq == 1;
        let mut room = Room {
            bytes: 10_000,
            left_out: 0,
        };
        let kept = room.take(all.clone(), first);
        let sources: Vec<u64> = kept.iter().map(|of| of.source_seq).collect();
        assert_eq!((sources[0], sources.last()), (1, Some(&10_000)));
        assert!(sources.is_sorted() && kept.len() > 20, "{sources:?}");
        assert_eq!(room.left_out as usize, 10_000 - kept.len());
        let answer = crate::v1::GetRunResponse {
            obligations: kept,
            ..Default::default()
        };
        assert!(prost::Message::encoded_len(&answer) <= 10_000);
        let mut room = Room {
            bytes: 10_000_000,
            left_out: 0,
        };
        assert_eq!(room.take(all.clone(), first), all);
        assert_eq!(room.left_out, 0);
    }
}
