//! Replies and rejections: the outcomes of commands.

mod rejection;
mod words;

pub use rejection::Rejection;
pub use words::{ClosingPhase, Field, Limit, Missing, Versioned, Word};

use crate::effect::{Mode, Status};
use crate::entry::EntryBody;
use crate::entry::effect::AfterObservation;
use crate::entry::gate::AnsweredBy;
use crate::entry::run::RunOutcome;
use crate::id::{Epoch, Seq};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The decision on a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What to append; empty where the command changes nothing, as a repeat.
    pub entries: Vec<EntryBody>,
    /// What to tell the caller once the entries are durable.
    pub reply: Reply,
}

/// The reply to an accepted command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The last entry the command appended, or that answers it.
    pub seq: Seq,
    /// The result.
    pub result: ReplyResult,
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReplyResult {
    /// It is recorded.
    Recorded,
    /// The caller drives the run.
    Leased {
        /// Its fencing token.
        epoch: Epoch,
        /// The end of the lease.
        until: Timestamp,
    },
    /// Where an effect stands now.
    Effect {
        /// Its status.
        status: Status,
        /// The attempt that is started with this; zero where none is.
        #[serde(deserialize_with = "crate::number::unsigned")]
        attempt: u32,
        /// When the next attempt or observation is due, or the claim lapses.
        until: Option<Timestamp>,
    },
    /// The observation may be made.
    Observing {
        /// Its number.
        #[serde(deserialize_with = "crate::number::unsigned")]
        observation: u32,
        /// The claim lapses here.
        until: Timestamp,
        /// Whether the run no longer wants the effect: asking must not make it happen.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unwanted: bool,
    },
    /// Where an obligation stands now.
    Obligation {
        /// The attempt that is started with this; zero where none is.
        #[serde(deserialize_with = "crate::number::unsigned")]
        attempt: u32,
        /// The claim lapses, or the next attempt is due, here.
        until: Option<Timestamp>,
        /// Whether an attempt before the one that is started may have undone it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_doubt: bool,
        /// Whether it is done.
        done: bool,
        /// Whether it waits for a person.
        stuck: bool,
    },
    /// The gate is open and waits.
    GateOpen {
        /// Its deadline.
        deadline: Option<Timestamp>,
    },
    /// The gate is answered.
    GateAnswered {
        /// By what.
        by: AnsweredBy,
    },
    /// The signal waits for its gate.
    SignalBuffered,
    /// The timer is due at a time.
    TimerSet {
        /// When.
        due_at: Timestamp,
    },
    /// The run has ended.
    Ended {
        /// How.
        ending: RunOutcome,
    },
    /// The run ends once its effects are undone.
    Compensating,
    /// The run waits for a person.
    Stuck {
        /// Why.
        reason: String,
    },
    /// The value has a version.
    Version {
        /// Which.
        #[serde(deserialize_with = "crate::number::unsigned")]
        version: u64,
    },
}

impl ReplyResult {
    /// The result for an entry that a command appended; none where a neighbouring entry has the result.
    #[must_use]
    pub fn of(body: &EntryBody) -> Option<Self> {
        let effect = |status, attempt, until| {
            Some(Self::Effect {
                status,
                attempt,
                until,
            })
        };
        let obligation = |until, done, stuck| {
            Some(Self::Obligation {
                attempt: 0,
                until,
                in_doubt: false,
                done,
                stuck,
            })
        };
        match body {
            EntryBody::LeaseAcquired(e) => Some(Self::Leased {
                epoch: e.epoch,
                until: e.until,
            }),
            EntryBody::LeaseRenewed(e) => Some(Self::Leased {
                epoch: e.epoch,
                until: e.until,
            }),
            EntryBody::EffectBegun(e) => match e.spec.mode {
                Mode::Inline => effect(Status::Started, 1, None),
                Mode::Outbox => effect(Status::Pending, 0, None),
            },
            EntryBody::EffectStarted(e) => {
                effect(Status::Started, e.attempt, e.claim.as_ref().map(|c| c.until))
            }
            EntryBody::EffectClaimRenewed(e) if e.observing => effect(Status::Unknown, 0, Some(e.until)),
            EntryBody::EffectClaimRenewed(e) => effect(Status::Started, 0, Some(e.until)),
            EntryBody::EffectConfirmed(_) => effect(Status::Confirmed, 0, None),
            EntryBody::EffectFailed(_) => effect(Status::Failed, 0, None),
            EntryBody::EffectDeferred(e) => effect(Status::Pending, 0, Some(e.next_at)),
            EntryBody::EffectUnknown(e) => effect(Status::Unknown, 0, Some(e.observe_at)),
            EntryBody::EffectObserving(e) => Some(Self::Observing {
                observation: e.observation,
                until: e.claim.until,
                unwanted: e.unwanted,
            }),
            EntryBody::EffectObserved(e) => match e.then {
                AfterObservation::Settle => None,
                AfterObservation::Resend { at } => effect(Status::Pending, 0, Some(at)),
                AfterObservation::ObserveAgain { at } => effect(Status::Unknown, 0, Some(at)),
                AfterObservation::Stuck { .. } => effect(Status::Stuck, 0, None),
            },
            EntryBody::EffectResendAllowed(_) => effect(Status::Pending, 0, None),
            EntryBody::ObligationStarted(e) => Some(Self::Obligation {
                attempt: e.attempt,
                until: Some(e.claim.until),
                in_doubt: e.in_doubt,
                done: false,
                stuck: false,
            }),
            EntryBody::ObligationClaimRenewed(e) => obligation(Some(e.until), false, false),
            EntryBody::ObligationDone(_) => obligation(None, true, false),
            EntryBody::ObligationDeferred(e) => obligation(Some(e.next_at), false, false),
            EntryBody::ObligationStuck(_) => obligation(None, false, true),
            EntryBody::ObligationRetried(_) => obligation(None, false, false),
            EntryBody::GateOpened(e) => Some(Self::GateOpen { deadline: e.deadline }),
            EntryBody::GateAnswered(e) => Some(Self::GateAnswered { by: e.by.clone() }),
            EntryBody::SignalReceived(_) => Some(Self::SignalBuffered),
            EntryBody::TimerSet(e) => Some(Self::TimerSet { due_at: e.due_at }),
            EntryBody::RunCompensating(_) => Some(Self::Compensating),
            EntryBody::RunStuck(e) => Some(Self::Stuck {
                reason: e.reason.clone(),
            }),
            EntryBody::RunCompleted(_) => Some(Self::Ended {
                ending: RunOutcome::Completed,
            }),
            EntryBody::RunFailed(e) => Some(Self::Ended {
                ending: RunOutcome::Failed {
                    error: e.error.clone(),
                },
            }),
            EntryBody::RunCancelled(e) => Some(Self::Ended {
                ending: RunOutcome::Cancelled {
                    reason: e.reason.clone(),
                },
            }),
            EntryBody::RunRetired(e) => Some(Self::Ended {
                ending: e.ending.clone(),
            }),
            EntryBody::ValuePut(e) => Some(Self::Version { version: e.version }),
            EntryBody::ValueDeleted(e) => Some(Self::Version { version: e.version }),
            EntryBody::RunBegun(_)
            | EntryBody::RunCheckpoint(_)
            | EntryBody::RunSuspended(_)
            | EntryBody::RunCancelRequested(_)
            | EntryBody::RunRetried(_)
            | EntryBody::LeaseReleased(_)
            | EntryBody::DecisionRecorded(_)
            | EntryBody::ObligationArmed(_)
            | EntryBody::TimerFired(_)
            | EntryBody::TimerCancelled(_)
            | EntryBody::BudgetOpened(_)
            | EntryBody::BudgetReserved(_)
            | EntryBody::BudgetReleased(_)
            | EntryBody::SampleRecorded(_)
            | EntryBody::SessionCreated(_)
            | EntryBody::SessionEventAppended(_)
            | EntryBody::SessionMerged(_)
            | EntryBody::SessionRewound(_)
            | EntryBody::SessionDeleted(_)
            | EntryBody::SharedMerged(_)
            | EntryBody::KeyTaken(_)
            | EntryBody::RelayRefused(_)
            | EntryBody::RelayRedelivered(_)
            | EntryBody::RelayReceipt(_)
            | EntryBody::PayloadErased(_)
            | EntryBody::ErasureFinished(_) => None,
        }
    }
}

/// The decision that appends these entries after `last`. Its reply is the one that a repeat will get.
pub(crate) fn decided(last: Seq, entries: Vec<EntryBody>) -> Decided {
    let result = entries
        .iter()
        .filter_map(ReplyResult::of)
        .next_back()
        .unwrap_or(ReplyResult::Recorded);
    let reply = Reply {
        seq: Seq(last.0 + entries.len() as u64),
        result,
    };
    Decided { entries, reply }
}

/// The decision on a command that changes nothing, since its effect is there already.
pub(crate) const fn already(seq: Seq, result: ReplyResult) -> Decided {
    Decided {
        entries: Vec::new(),
        reply: Reply { seq, result },
    }
}
