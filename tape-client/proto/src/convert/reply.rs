//! Replies.

use super::field::{InvalidField, convert, known, name, optional_name};
use crate::v1;
use crate::v1::reply as wire;
use tape_core::entry::gate::AnsweredBy;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{Epoch, Seq};
use tape_core::reply::{Reply, ReplyResult};
use tape_core::time::Timestamp;

impl From<Reply> for v1::Reply {
    fn from(reply: Reply) -> Self {
        Self {
            seq: reply.seq.0,
            result: Some(write(reply.result)),
        }
    }
}

impl TryFrom<v1::Reply> for Reply {
    type Error = InvalidField;
    fn try_from(wire: v1::Reply) -> Result<Self, InvalidField> {
        let result = wire.result.ok_or_else(|| InvalidField::missing("result"))?;
        Ok(Self {
            seq: Seq(wire.seq),
            result: read(result)?,
        })
    }
}

fn write(result: ReplyResult) -> wire::Result {
    use wire::Result as Wire;
    match result {
        ReplyResult::Leased { epoch, until } => Wire::Leased(wire::Leased {
            epoch: epoch.0,
            until_us: until.as_micros(),
        }),
        ReplyResult::Effect {
            status,
            attempt,
            until,
        } => Wire::Effect(wire::EffectState {
            status: v1::EffectStatus::from(status).into(),
            attempt,
            until_us: until.map(Timestamp::as_micros),
        }),
        ReplyResult::Observing {
            observation,
            until,
            unwanted,
        } => Wire::Observing(wire::Observing {
            observation,
            until_us: until.as_micros(),
            unwanted,
        }),
        ReplyResult::Obligation {
            attempt,
            until,
            in_doubt,
            done,
            stuck,
        } => {
            let until_us = until.map(Timestamp::as_micros);
            Wire::Obligation(wire::ObligationState {
                attempt,
                until_us,
                done,
                stuck,
                in_doubt,
            })
        }
        ReplyResult::GateOpen { deadline } => Wire::GateOpen(wire::GateOpen {
            deadline_us: deadline.map(Timestamp::as_micros),
        }),
        ReplyResult::GateAnswered { by } => Wire::GateAnswered(by.into()),
        ReplyResult::SignalBuffered => Wire::SignalBuffered(wire::SignalBuffered {}),
        ReplyResult::TimerSet { due_at } => Wire::TimerSet(wire::TimerDue {
            due_us: due_at.as_micros(),
        }),
        ReplyResult::Ended { ending } => Wire::Ended(ending.into()),
        ReplyResult::Compensating => Wire::Compensating(wire::Compensating {}),
        ReplyResult::Stuck { reason } => Wire::Stuck(wire::StuckRun { reason }),
        ReplyResult::Version { version } => Wire::Version(wire::Version { version }),
        // The core's list may grow. A result that this build does not know is still a recorded command.
        ReplyResult::Recorded | _ => Wire::Recorded(wire::Recorded {}),
    }
}

fn read(result: wire::Result) -> Result<ReplyResult, InvalidField> {
    use wire::Result as Wire;
    Ok(match result {
        Wire::Recorded(_) => ReplyResult::Recorded,
        Wire::Leased(r) => ReplyResult::Leased {
            epoch: Epoch(r.epoch),
            until: Timestamp::from_micros(r.until_us),
        },
        Wire::Effect(r) => ReplyResult::Effect {
            status: known::<v1::EffectStatus, _>("effect.status", r.status)?,
            attempt: r.attempt,
            until: r.until_us.map(Timestamp::from_micros),
        },
        Wire::Observing(r) => ReplyResult::Observing {
            observation: r.observation,
            until: Timestamp::from_micros(r.until_us),
            unwanted: r.unwanted,
        },
        Wire::Obligation(r) => ReplyResult::Obligation {
            attempt: r.attempt,
            until: r.until_us.map(Timestamp::from_micros),
            in_doubt: r.in_doubt,
            done: r.done,
            stuck: r.stuck,
        },
        Wire::GateOpen(r) => ReplyResult::GateOpen {
            deadline: r.deadline_us.map(Timestamp::from_micros),
        },
        Wire::GateAnswered(r) => ReplyResult::GateAnswered {
            by: convert("gate_answered", r)?,
        },
        Wire::SignalBuffered(_) => ReplyResult::SignalBuffered,
        Wire::TimerSet(r) => ReplyResult::TimerSet {
            due_at: Timestamp::from_micros(r.due_us),
        },
        Wire::Ended(r) => ReplyResult::Ended {
            ending: convert("ended", r)?,
        },
        Wire::Compensating(_) => ReplyResult::Compensating,
        Wire::Stuck(r) => ReplyResult::Stuck { reason: r.reason },
        Wire::Version(r) => ReplyResult::Version { version: r.version },
    })
}

impl From<AnsweredBy> for v1::AnsweredBy {
    fn from(by: AnsweredBy) -> Self {
        use v1::answered_by::{By, Deadline, EarlierSignal, Signal};
        let by = match by {
            AnsweredBy::Signal { id, who } => By::Signal(Signal {
                id: id.into(),
                who: who.map(Into::into),
            }),
            AnsweredBy::EarlierSignal { id, who, received } => By::EarlierSignal(EarlierSignal {
                id: id.into(),
                who: who.map(Into::into),
                received_seq: received.0,
            }),
            AnsweredBy::Deadline => By::Deadline(Deadline {}),
        };
        Self { by: Some(by) }
    }
}

impl TryFrom<v1::AnsweredBy> for AnsweredBy {
    type Error = InvalidField;
    fn try_from(wire: v1::AnsweredBy) -> Result<Self, InvalidField> {
        use v1::answered_by::By;
        match wire.by.ok_or_else(|| InvalidField::missing("by"))? {
            By::Signal(signal) => Ok(Self::Signal {
                id: name("signal.id", &signal.id)?,
                who: optional_name("signal.who", signal.who.as_ref())?,
            }),
            By::EarlierSignal(signal) => Ok(Self::EarlierSignal {
                id: name("earlier_signal.id", &signal.id)?,
                who: optional_name("earlier_signal.who", signal.who.as_ref())?,
                received: Seq(signal.received_seq),
            }),
            By::Deadline(_) => Ok(Self::Deadline),
        }
    }
}

impl From<RunOutcome> for v1::RunOutcome {
    fn from(ended: RunOutcome) -> Self {
        use v1::run_outcome::{Cancelled, Completed, Failed, How};
        let how = match ended {
            RunOutcome::Completed => How::Completed(Completed {}),
            RunOutcome::Failed { error } => How::Failed(Failed { error }),
            RunOutcome::Cancelled { reason } => How::Cancelled(Cancelled { reason }),
        };
        Self { how: Some(how) }
    }
}

impl TryFrom<v1::RunOutcome> for RunOutcome {
    type Error = InvalidField;
    fn try_from(wire: v1::RunOutcome) -> Result<Self, InvalidField> {
        use v1::run_outcome::How;
        Ok(match wire.how.ok_or_else(|| InvalidField::missing("how"))? {
            How::Completed(_) => Self::Completed,
            How::Failed(failed) => Self::Failed { error: failed.error },
            How::Cancelled(cancelled) => Self::Cancelled {
                reason: cancelled.reason,
            },
        })
    }
}
