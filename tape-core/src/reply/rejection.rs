//! Why a command is refused.

use super::words::{ClosingPhase, Field, Limit, Missing, Versioned};
use crate::effect::Status;
use crate::entry::gate::AnsweredBy;
use crate::entry::run::RunOutcome;
use crate::id::{
    BudgetName, ConnectorName, EffectId, Epoch, GateName, Holder, Position, RequestId, RunId, Scope, Seq,
    TimerName,
};
use crate::status::RunStatus;
use crate::time::{Now, Timestamp};

/// Why a command is refused. Nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The stream does not exist.
    #[error("{}", not_found_text(*.what, .name.as_deref()))]
    NotFound {
        /// What does not exist.
        what: Missing,
        /// Its name, where the command may have named several, or names it among other things.
        name: Option<String>,
    },
    /// The object that the command creates exists already with other contents.
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
    /// The run is not due for recovery yet.
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
    /// Only a run that has ended can be retired.
    #[error("the run has not ended: it is {}", .status.as_str())]
    NotEnded {
        /// Where the run stands.
        status: RunStatus,
    },
    /// The run is suspended, being cancelled or undone, or waits for a person: nothing new may begin.
    #[error("the run is {phase}: nothing new may begin")]
    Closing {
        /// Its phase.
        phase: ClosingPhase,
    },
    /// A run cannot end or wait while something is under way.
    #[error("{what} is not settled")]
    Unsettled {
        /// The effect or obligation.
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
        /// The status of that effect; none where it has not begun, or its entries were dropped.
        status: Option<Status>,
        /// The entry of the owner's run that settled it and has its outcome.
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
    /// Another worker has claimed it.
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
    /// The server does not know the time well enough to tell whether the lease or claim of another has ended. Try again, or ask another
    /// server.
    #[error(
        "this server does not know the journal's time well enough to tell whether another still has {what}"
    )]
    TimeUnsure {
        /// What the lease or claim is on: the run, an effect, an obligation.
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
    /// The value or session has changed since the caller's version.
    #[error("{what} is at version {current}, not {expected}")]
    VersionConflict {
        /// What.
        what: Versioned,
        /// The caller's version.
        expected: u64,
        /// The version now.
        current: u64,
    },
    /// A bound of [`crate::limits`] is reached.
    #[error("{limit} is {max}; {given} were given")]
    LimitExceeded {
        /// Which.
        limit: Limit,
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
    /// The id of a request was used for another command or by another caller. This command was not executed.
    #[error("request id {request} was used for another command; give this one an id of its own")]
    RequestReused {
        /// The id.
        request: RequestId,
    },
    /// The stream has forgotten the outcomes of requests of that age. The request is not executed. Only the journal shows whether it was
    /// executed before.
    #[error(
        "request {request} is too old to know: replies up to {forgotten} are forgotten. If it was sent before, look at the journal \
         whether it was executed; else send it under a new id, made at {now}"
    )]
    RequestTooOld {
        /// The id.
        request: RequestId,
        /// The greatest id that is forgotten.
        forgotten: RequestId,
        /// The journal's time.
        now: Timestamp,
    },
    /// The id of a request is dated too far ahead of the journal's time.
    #[error("request id {request} is dated ahead of the journal's time, which is {now}")]
    RequestFromFuture {
        /// The id.
        request: RequestId,
        /// The journal's time.
        now: Timestamp,
    },
    /// The subject of a verdict changed after the entry that the person has seen.
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
    /// An entry that was refused was sent again already.
    #[error("refusal {refusal} was sent again already, as entry {seq} says")]
    Redelivered {
        /// The refusal.
        refusal: Seq,
        /// The entry that says so.
        seq: Seq,
    },
    /// What the command needs was erased.
    #[error("the bytes of {what} were erased")]
    Erased {
        /// What.
        what: String,
    },
    /// A field is invalid.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: Field,
        /// What is wrong with it.
        problem: String,
    },
}

impl Rejection {
    /// The rejection where the subject of a command does not exist.
    #[must_use]
    pub const fn not_found(what: Missing) -> Self {
        Self::NotFound { what, name: None }
    }

    /// The same, with the name by which the command calls it.
    pub(crate) fn none_named(what: Missing, name: impl ToString) -> Self {
        Self::NotFound {
            what,
            name: Some(name.to_string()),
        }
    }

    /// Whether the request was refused only for the age of its id. If it was sent only once, it was not executed and may be sent again
    /// under a new id. If it was sent before, it may have been executed.
    #[must_use]
    pub const fn is_for_its_age(&self) -> bool {
        matches!(self, Self::RequestTooOld { .. } | Self::RequestFromFuture { .. })
    }
}

impl Now {
    /// As [`Now::outlived`].
    ///
    /// # Errors
    /// [`Rejection::TimeUnsure`] where the server cannot tell.
    pub(crate) fn judge(self, until: Timestamp, what: impl FnOnce() -> String) -> Result<bool, Rejection> {
        self.outlived(until)
            .ok_or_else(|| Rejection::TimeUnsure { what: what() })
    }
}

fn not_found_text(what: Missing, name: Option<&str>) -> String {
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
