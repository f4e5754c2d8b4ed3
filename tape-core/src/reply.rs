//! Replies and rejections: what a command came to.

use crate::decider::RunStatus;
use crate::effect::{Mode, Status};
use crate::entry::EntryBody;
use crate::entry::effect::AfterObservation;
use crate::entry::gate::AnsweredBy;
use crate::entry::words::Words;
use crate::id::{
    BudgetName, ConnectorName, EffectId, Epoch, GateName, Holder, Position, RequestId, RunId, Scope, Seq,
    TimerName,
};
use crate::payload::ERASED;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What deciding a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What to append; empty where the command was a repeat.
    pub entries: Vec<EntryBody>,
    /// What to tell the caller once the entries are durable.
    pub reply: Reply,
}

/// What a caller is told about a command that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The last entry the command appended, or that answers it.
    pub seq: Seq,
    /// What came of it.
    pub result: ReplyResult,
}

/// What came of a command.
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
        /// Whether the run does not want the effect any more: asking must not bring it about.
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
    /// The run ends once what it did is undone.
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
    /// What a caller is told about an entry that its command appended; none where a neighbouring entry says more.
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
            | EntryBody::PayloadErased(_)
            | EntryBody::ErasureFinished(_) => None,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum RunOutcome {
    /// Well; the entry has the output.
    Completed,
    /// In failure.
    Failed {
        /// What went wrong.
        error: String,
    },
    /// Cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl RunOutcome {
    /// Whether both say the same. What was erased says nothing.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Completed, Self::Completed) => true,
            (Self::Failed { error: mine }, Self::Failed { error: theirs })
            | (Self::Cancelled { reason: mine }, Self::Cancelled { reason: theirs }) => {
                mine == theirs || [mine, theirs].iter().any(|text| text.as_str() == ERASED)
            }
            _ => false,
        }
    }

    pub(crate) fn words_mut(&mut self) -> Option<&mut dyn Words> {
        match self {
            Self::Completed => None,
            Self::Failed { error: text } | Self::Cancelled { reason: text } => Some(text),
        }
    }
}

/// Why a command is refused. Nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The stream does not exist.
    #[error("{}", not_found_text(.what, .name.as_deref()))]
    NotFound {
        /// What does not exist: `run`, `session`, `gate`, ...
        what: &'static str,
        /// Its name, where the command may have named several, or names it among other things.
        name: Option<String>,
    },
    /// What the command makes exists already with other contents.
    #[error("{what} exists already with other contents")]
    Exists {
        /// What.
        what: String,
    },
    /// Another driver took the run.
    #[error("epoch {given} is no longer the driver's; the run is at epoch {current}")]
    Fenced {
        /// The caller's epoch.
        given: Epoch,
        /// The run's epoch.
        current: Epoch,
    },
    /// Another driver holds the run.
    #[error("the run is driven by {holder} until {until}")]
    LeaseHeld {
        /// The driver.
        holder: Holder,
        /// Its lease ends here.
        until: Timestamp,
    },
    /// Recovery has nothing to do on the run yet.
    #[error("the run is not due for recovery{}", .due.map(|at| format!(" before {at}")).unwrap_or_default())]
    NotDue {
        /// When it is.
        due: Option<Timestamp>,
    },
    /// The run has ended.
    #[error("the run has ended")]
    RunEnded {
        /// How.
        ending: RunOutcome,
    },
    /// Only what has ended can be retired.
    #[error("the run has not ended: it is {}", .status.as_str())]
    NotEnded {
        /// Where the run stands.
        status: RunStatus,
    },
    /// The run is being cancelled, undone, or waits for a person: nothing new may begin.
    #[error("the run is {phase}: nothing new may begin")]
    Closing {
        /// Its phase: `cancelling`, `compensating` or `stuck`.
        phase: &'static str,
    },
    /// A run cannot end or wait while something is under way.
    #[error("{what} is not settled")]
    Unsettled {
        /// What: an effect, an obligation.
        what: String,
    },
    /// Something happened that the driver has not seen; look again before suspending.
    #[error("entry {seq} came after what the driver has seen")]
    Woken {
        /// The entry.
        seq: Seq,
    },
    /// The position is not the next one of its scope.
    #[error("position {given} is not the next of its scope, which is {next}")]
    WrongPosition {
        /// The caller's position.
        given: Position,
        /// The next one of the scope.
        next: Position,
    },
    /// The sample is not the next one of its scope.
    #[error("sample {given} of scope '{scope}' is not the next, which is {next}")]
    WrongSample {
        /// The scope.
        scope: Scope,
        /// The caller's number.
        given: u32,
        /// The next.
        next: u32,
    },
    /// Effects begin under the newest decision of their scope.
    #[error("effect {effect} has no recorded decision, or a later decision of its scope is recorded")]
    NoDecision {
        /// The effect.
        effect: EffectId,
    },
    /// The effect is not in a state that allows the command.
    #[error("effect {effect} is {}{}", .status.as_str(), attempt_text(*.attempt))]
    WrongStatus {
        /// The effect.
        effect: EffectId,
        /// Where it stands.
        status: Status,
        /// Its current attempt.
        attempt: u32,
    },
    /// Non-idempotent effects go through the outbox.
    #[error("effect {effect} is non-idempotent: it goes through the outbox")]
    InlineNonIdempotent {
        /// The effect.
        effect: EffectId,
    },
    /// Another operation has the business key.
    #[error(
        "business key '{key}' of {connector} belongs to effect {effect} of run {run}{}",
        standing_text(*.status, *.settled),
        run = crate::id::StreamId::Run(.run.clone())
    )]
    BusinessKeyTaken {
        /// The connector.
        connector: ConnectorName,
        /// The key.
        key: String,
        /// The owner.
        run: RunId,
        /// The owner's effect.
        effect: EffectId,
        /// Where that stands; none where it has not begun, or its entries were dropped.
        status: Option<Status>,
        /// The entry of the owner's run that settled it, which has what came of it.
        settled: Option<Seq>,
    },
    /// The caller has no claim, or its claim has lapsed.
    #[error("the claim of {holder} on {what} has lapsed or belongs to another")]
    ClaimLost {
        /// The caller.
        holder: Holder,
        /// On what.
        what: String,
    },
    /// Another worker has it.
    #[error("{what} is claimed by {holder} until {until}")]
    Claimed {
        /// What.
        what: String,
        /// The worker.
        holder: Holder,
        /// Its claim lapses here.
        until: Timestamp,
    },
    /// Another obligation is undone first, or none may be undone now.
    #[error("{what} is not the next to be undone")]
    NotNext {
        /// What.
        what: String,
    },
    /// The gate was answered by something else.
    #[error("gate '{gate}' is answered already")]
    GateAnswered {
        /// The gate.
        gate: GateName,
        /// By what.
        by: AnsweredBy,
    },
    /// It is too early.
    #[error("{what} is not due before {due}")]
    TooEarly {
        /// What.
        what: String,
        /// When it is due.
        due: Timestamp,
    },
    /// The server does not know the time well enough to say whether the right of another is over. Try again, or ask another server.
    #[error(
        "whether another still has {what} cannot be said now: this server does not know the time of the journal well enough"
    )]
    TimeUnsure {
        /// What the other has: the run, an effect, an obligation.
        what: String,
    },
    /// The timer has fired or was cancelled.
    #[error("timer '{timer}' has fired or was cancelled")]
    TimerDone {
        /// The timer.
        timer: TimerName,
    },
    /// The budget does not have that much left.
    #[error("budget '{budget}' has {left} left, {asked} were asked")]
    BudgetExhausted {
        /// The budget, or the one it is part of.
        budget: BudgetName,
        /// What is left.
        left: u64,
        /// What was asked.
        asked: u64,
    },
    /// The value or session has moved on.
    #[error("{what} is at version {current}, not {expected}")]
    VersionConflict {
        /// What.
        what: &'static str,
        /// The caller's version.
        expected: u64,
        /// The version now.
        current: u64,
    },
    /// A bound of [`crate::limits`] is reached.
    #[error("{limit} is {max}; {given} were given")]
    LimitExceeded {
        /// The limit's name, in words.
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What was given.
        given: u64,
    },
    /// The id of a request must say when it was made: a UUID of version 7.
    #[error("request id {request} is not time-ordered: make it a UUID of version 7")]
    UnorderedRequest {
        /// The id.
        request: RequestId,
    },
    /// The id of a request is that of another command, or of another caller's: nothing was done for this one.
    #[error("request id {request} was used for another command; give this one an id of its own")]
    RequestReused {
        /// The id.
        request: RequestId,
    },
    /// The stream has forgotten what requests of that age came to. The request is not executed; whether it was before, only the
    /// journal says.
    #[error(
        "request {request} is too old to know: replies up to {forgotten} are forgotten. If it was sent before, look at the journal          whether it was executed; else send it under a new id, made at {now}"
    )]
    RequestTooOld {
        /// The id.
        request: RequestId,
        /// The greatest id that is forgotten.
        forgotten: RequestId,
        /// The journal's time.
        now: Timestamp,
    },
    /// The id of a request is dated too far ahead of the journal's time, of which it may not push the end.
    #[error("request id {request} is dated ahead of the journal's time, which is {now}")]
    RequestFromFuture {
        /// The id.
        request: RequestId,
        /// The journal's time.
        now: Timestamp,
    },
    /// A verdict is about what the person has seen, and something came after it.
    #[error(
        "{what} changed in entry {changed}, after entry {seen} that the verdict is about: it is {standing} now. Look again"
    )]
    Changed {
        /// What the verdict is about.
        what: String,
        /// The last entry that the person has seen.
        seen: Seq,
        /// The last entry that changed it.
        changed: Seq,
        /// Where it stands now.
        standing: String,
    },
    /// What the command needs was erased.
    #[error("the bytes of {what} were erased")]
    Erased {
        /// What.
        what: String,
    },
    /// A field makes no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Rejection {
    /// What the command is about does not exist.
    #[must_use]
    pub const fn not_found(what: &'static str) -> Self {
        Self::NotFound { what, name: None }
    }

    /// What the command names does not exist.
    pub(crate) fn none_named(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound {
            what,
            name: Some(name.to_string()),
        }
    }

    /// Whether the request was refused for the age of its id alone. Sent once only, it was not executed, and may be sent again under a
    /// new id; sent before, it may have been.
    #[must_use]
    pub const fn is_for_its_age(&self) -> bool {
        matches!(self, Self::RequestTooOld { .. } | Self::RequestFromFuture { .. })
    }
}

fn not_found_text(what: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("there is no {what} '{name}'"),
        None => format!("there is no such {what}"),
    }
}

fn standing_text(status: Option<Status>, settled: Option<Seq>) -> String {
    match (status, settled) {
        (Some(status), Some(seq)) => format!(", which is {} since entry {seq}", status.as_str()),
        (Some(status), None) => format!(", which is {}", status.as_str()),
        (None, _) => String::new(),
    }
}

fn attempt_text(attempt: u32) -> String {
    if attempt == 0 {
        String::new()
    } else {
        format!(" in attempt {attempt}")
    }
}
