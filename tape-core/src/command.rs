//! Commands: what callers ask of a stream. A command is decided against the stream's state and becomes entries, a reply or a
//! rejection; it never becomes part of an entry as it is.

use crate::budget::{Currency, Spend};
use crate::effect::{EffectSpec, Outcome, Undo};
use crate::entry::decision::Usage;
use crate::entry::obligation::ObligationId;
use crate::entry::run::Lineage;
use crate::entry::session::RefusedMerge;
use crate::entry::{Entry, TraceParent};
use crate::fingerprint::Fingerprint;
use crate::id::{
    BudgetName, BusinessKey, Connector, EffectId, Epoch, EventId, GateName, Holder, Invocation, Key,
    Position, Principal, RequestId, RunId, SampleName, Scope, Seq, SessionId, SignalId, TimerName,
};
use crate::payload::{ContentDigest, Payload};
use crate::session::Delta;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A request to one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<B> {
    /// Names the request; repeated, it returns its first reply, or is refused as too old to know.
    pub request: RequestId,
    /// Who asks, where it is known.
    pub principal: Option<Principal>,
    /// The trace the request is part of.
    pub trace: Option<TraceParent>,
    /// What is asked.
    pub body: B,
}

impl<B> Command<B> {
    /// A command by nobody in particular.
    pub const fn new(request: RequestId, body: B) -> Self {
        Self {
            request,
            principal: None,
            trace: None,
            body,
        }
    }
}

impl<B: CommandBody> Command<B> {
    /// The digest of who asks and what is asked, by which a repeated request is told from another one under its id. What a server
    /// adds to a command does not stand in it.
    #[must_use]
    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of(&(&self.principal, &self.body))
    }
}

/// What can be asked of a stream.
pub trait CommandBody: Serialize {
    /// Whether executing it again does no harm, whatever came in between. Then its reply is not remembered, and its request id is
    /// not looked at.
    fn is_idempotent(&self) -> bool;
}

/// What can be asked of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RunCommand {
    /// Begins the run, or takes up the one that is there; either way the caller becomes its driver.
    Begin(Begin),
    /// A driver's command; refused unless the epoch is the run's.
    Drive(Epoch, DriverCommand),
    /// A worker's command on one effect or obligation.
    Work(WorkerCommand),
    /// A command from outside: a person, a timer, a sender of signals.
    Tell(OutsideCommand),
}

impl CommandBody for RunCommand {
    fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Drive(_, DriverCommand::RenewLease { .. })
                | Self::Work(
                    WorkerCommand::RenewEffectClaim { .. } | WorkerCommand::RenewObligationClaim { .. }
                )
                | Self::Tell(OutsideCommand::Retire { .. })
        )
    }
}

/// Begins a run, or takes up the one that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Begin {
    /// The run.
    pub run: RunId,
    /// What to begin it with; without it, only a run that is there is taken up.
    pub create: Option<Create>,
    /// The driver.
    pub holder: Holder,
    /// How long the lease lasts unless renewed, in milliseconds.
    pub lease_ms: u64,
    /// Takes the run from the holder of this epoch, who handed it over. Else a live lease refuses the caller, whoever holds it:
    /// two processes may go by one name.
    pub adopt: Option<Epoch>,
    /// Whether the caller is recovery, which takes only runs that are due, and counts as a re-drive.
    pub recovery: bool,
}

/// What a run is begun with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Create {
    /// What the run is found by.
    pub labels: BTreeMap<Key, String>,
    /// What the agent is given.
    pub input: Payload,
    /// The run whose prefix it replays.
    pub forked_from: Option<Lineage>,
}

/// What the driver of a run can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum DriverCommand {
    /// Keeps the lease for another `lease_ms`.
    RenewLease {
        /// Milliseconds from now.
        lease_ms: u64,
    },
    /// Lets the run go; recovery may take it after `redrive_in_ms`.
    ReleaseLease {
        /// Milliseconds from now.
        redrive_in_ms: u64,
        /// Whether recovery reached no agent: then the re-drive does not count towards the bound on those without progress.
        undriven: bool,
    },
    /// Records what the model answered.
    RecordDecision(RecordDecision),
    /// Sets part of budgets aside for the decision about to be asked at `position`.
    ReserveForDecision {
        /// The next decision of its scope.
        position: Position,
        /// How much.
        spends: Vec<Spend>,
    },
    /// Frees what was set aside for a decision that will not be asked.
    ReleaseReservation {
        /// The decision.
        position: Position,
    },
    /// Makes the intent of an effect durable. Inline, its first attempt starts too.
    BeginEffect {
        /// Which.
        effect: EffectId,
        /// What.
        spec: EffectSpec,
    },
    /// Starts another attempt of an inline effect.
    RestartEffect {
        /// Which.
        effect: EffectId,
    },
    /// Records how an attempt of an inline effect ended.
    FinishEffect {
        /// Which.
        effect: EffectId,
        /// The attempt that ended.
        attempt: u32,
        /// How.
        ending: Ending,
    },
    /// Opens a gate.
    OpenGate {
        /// The gate.
        gate: GateName,
        /// The wait ends here without a signal.
        deadline: Option<Deadline>,
    },
    /// Sets a timer.
    SetTimer {
        /// The timer.
        timer: TimerName,
        /// When it is due.
        due: Deadline,
        /// What it carries.
        note: Payload,
    },
    /// Cancels a timer that has not fired.
    CancelTimer {
        /// The timer.
        timer: TimerName,
    },
    /// Opens a budget.
    OpenBudget {
        /// The budget.
        budget: BudgetName,
        /// The budget it is part of.
        parent: Option<BudgetName>,
        /// What it counts.
        currency: Currency,
        /// The most that may be spent.
        limit: u64,
    },
    /// Records a value from outside the rules.
    RecordSample {
        /// Whose.
        scope: Scope,
        /// Which sample of the scope.
        n: u32,
        /// What it is of.
        name: SampleName,
        /// The value.
        value: Payload,
    },
    /// Records how far the agent is.
    Checkpoint {
        /// What was reached.
        label: Key,
        /// The agent's own state.
        state: Payload,
    },
    /// Lets the run wait without a driver. It is woken when the next attempt at an inline effect is due; one that is under way, or due
    /// already, refuses it.
    Suspend {
        /// The last entry the driver has seen: where a gate, timer or effect came to its end after it, the run is not
        /// suspended, since nothing would wake it.
        seen: Seq,
        /// Wakes it in any case.
        resume: Option<Deadline>,
    },
    /// Ends the run well.
    Complete {
        /// What came of it.
        output: Payload,
    },
    /// Ends the run in failure, once what it did is undone.
    Fail {
        /// What went wrong.
        error: String,
    },
    /// Ends the run as cancelled, once what it did is undone.
    AcceptCancel,
    /// A gate, timer, budget or checkpoint of a scope within the run; what is not sent within a scope is the root's.
    Within {
        /// The scope that asks.
        scope: Scope,
        /// What it asks for.
        command: Box<Self>,
    },
}

impl DriverCommand {
    /// The command as `scope` asks for it.
    #[must_use]
    pub fn within(self, scope: &Scope) -> Self {
        if scope.is_root() {
            return self;
        }
        Self::Within {
            scope: scope.clone(),
            command: Box::new(self),
        }
    }
}

/// A time, or a wait from when the command is decided: clients need no clock agreement with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// At a time.
    At(Timestamp),
    /// After so many milliseconds.
    InMs(u64),
}

impl Deadline {
    /// The time it means, where `now` is.
    #[must_use]
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::InMs(millis) => now.plus_millis(millis),
        }
    }
}

/// Records what the model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordDecision {
    /// Where: the next decision of its scope.
    pub position: Position,
    /// What the model was asked.
    pub fingerprint: Fingerprint,
    /// The answer.
    pub response: Payload,
    /// The model.
    pub model: String,
    /// What it used.
    pub usage: Usage,
    /// Why.
    pub rationale: Option<Payload>,
    /// The version of the policy it was made under.
    pub policy_version: String,
    /// What is charged to budgets.
    pub spent: Vec<Spend>,
}

/// How an attempt of an effect ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Ending {
    /// The upstream acted.
    Confirmed {
        /// What it answered.
        result: Payload,
        /// How to undo it, where that became known only now.
        undo: Option<Undo>,
        /// What it cost; none where the reserved amounts were spent as they were.
        spent: Option<Vec<Spend>>,
    },
    /// The upstream did not act and never will, in this attempt and in all before it.
    Failed {
        /// What went wrong.
        error: String,
        /// What it answered, where it did.
        detail: Option<Payload>,
    },
    /// This attempt did not act and another would not either; of those before it, this says nothing. It fails the effect unless one of
    /// those may have acted: then nobody knows.
    Refused {
        /// What went wrong.
        error: String,
        /// What was answered.
        detail: Option<Payload>,
    },
    /// The upstream did not act; it may, later.
    Retry {
        /// What went wrong.
        error: String,
        /// The upstream's own wish, in milliseconds, such as `Retry-After`. The backoff of the policy is waited for in any case.
        after_ms: Option<u64>,
    },
    /// The answer was lost.
    Unknown {
        /// Why nobody knows.
        cause: String,
    },
    /// The upstream may have acted, and asks to be sent the same again. What is not idempotent is not: it is [`Self::Unknown`].
    Repeat {
        /// What was answered.
        cause: String,
        /// The upstream's own wish, in milliseconds.
        after_ms: Option<u64>,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// What stood in the way.
        error: String,
    },
}

impl Ending {
    /// The upstream acted and answered this; nothing else became known with it.
    #[must_use]
    pub const fn confirmed(result: Payload) -> Self {
        Self::Confirmed {
            result,
            undo: None,
            spent: None,
        }
    }

    /// The upstream acted, and nothing is said of what that cost; none where nothing is said of that anyway. What happened must be
    /// recorded, also where its cost is refused.
    #[must_use]
    pub fn without_cost(&self) -> Option<Self> {
        match self {
            Self::Confirmed {
                result,
                undo,
                spent: Some(_),
            } => Some(Self::Confirmed {
                result: result.clone(),
                undo: undo.clone(),
                spent: None,
            }),
            Self::Confirmed { .. }
            | Self::Failed { .. }
            | Self::Refused { .. }
            | Self::Retry { .. }
            | Self::Unknown { .. }
            | Self::Repeat { .. }
            | Self::Unreached { .. } => None,
        }
    }

    /// Nobody knows whether the upstream acted.
    pub fn unknown(cause: impl fmt::Display) -> Self {
        Self::Unknown {
            cause: cause.to_string(),
        }
    }
}

/// How an attempt at undoing ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum UndoEnding {
    /// It is undone.
    Done {
        /// What the upstream answered.
        result: Payload,
    },
    /// This attempt undid nothing; it is tried again.
    Retry {
        /// What went wrong.
        error: String,
    },
    /// It may be undone or not; it is tried again, by a worker who is told so.
    Unknown {
        /// Why nobody knows.
        cause: String,
    },
    /// It must not be tried again without a person.
    Stuck {
        /// Why.
        reason: String,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again with backoff, and the attempt does not count.
    Unreached {
        /// What stood in the way.
        error: String,
    },
}

/// What a worker can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum WorkerCommand {
    /// Takes a due effect from the outbox and starts an attempt.
    ClaimEffect {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// How long the claim lasts unless renewed, in milliseconds.
        claim_ms: u64,
    },
    /// Records how a claimed attempt ended.
    FinishClaimed {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// The attempt.
        attempt: u32,
        /// How it ended.
        ending: Ending,
    },
    /// Takes an effect whose claim has lapsed out of the hands of its worker: what is not idempotent becomes UNKNOWN.
    LapseEffect {
        /// Which.
        effect: EffectId,
    },
    /// Takes a due UNKNOWN effect, to ask the upstream about it.
    ClaimObservation {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// How long the claim lasts unless renewed, in milliseconds.
        claim_ms: u64,
    },
    /// Records what the upstream says.
    RecordObservation {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// The observation, as numbered by the claim.
        observation: u32,
        /// What the upstream says.
        outcome: Outcome,
        /// What it answered.
        result: Payload,
        /// How to undo the act, where the answer tells; otherwise what was said when the effect began holds.
        undo: Option<Undo>,
        /// How to undo each duplicate, where some were found, at most [`DUPLICATES_MAX`](crate::limits::DUPLICATES_MAX); with none
        /// the effect is stuck.
        undo_duplicates: Vec<Undo>,
        /// Why the upstream could not say, or what stood in its way; else empty.
        why: String,
    },
    /// Keeps an effect that the worker is dispatching or observing.
    RenewEffectClaim {
        /// Which.
        effect: EffectId,
        /// The worker.
        holder: Holder,
        /// What the worker is at, as numbered by the claim: it keeps no later one. Without it, whatever the holder has.
        #[serde(skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
        /// Milliseconds from now.
        claim_ms: u64,
    },
    /// Takes the obligation that is next to be undone.
    ClaimObligation {
        /// Which.
        obligation: ObligationId,
        /// The worker.
        holder: Holder,
        /// How long the claim lasts unless renewed, in milliseconds.
        claim_ms: u64,
    },
    /// Keeps an obligation that the worker is carrying out.
    RenewObligationClaim {
        /// Which.
        obligation: ObligationId,
        /// The worker.
        holder: Holder,
        /// The attempt, as numbered by the claim: it keeps no later one. Without it, whatever the holder has.
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// Milliseconds from now.
        claim_ms: u64,
    },
    /// Records how an attempt at undoing ended.
    FinishObligation {
        /// Which.
        obligation: ObligationId,
        /// The worker.
        holder: Holder,
        /// The attempt.
        attempt: u32,
        /// How it ended.
        ending: UndoEnding,
    },
}

/// What a worker has an effect for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Held {
    /// It dispatches it: the attempt.
    Attempt(u32),
    /// It asks the upstream about it: the observation.
    Observation(u32),
}

/// What can be asked from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum OutsideCommand {
    /// Answers a gate, now or when it opens.
    Signal {
        /// The gate.
        gate: GateName,
        /// The sender's own name for the signal; a signal sent twice counts once.
        id: SignalId,
        /// What it carries.
        answer: Payload,
        /// The last entry that the sender has seen, where the answer is about what stood there: the gate must be open and must not
        /// have been opened later.
        seen: Option<Seq>,
    },
    /// Ends a gate whose deadline has passed.
    ExpireGate {
        /// The gate.
        gate: GateName,
    },
    /// Fires a timer that is due.
    FireTimer {
        /// The timer.
        timer: TimerName,
    },
    /// Asks for the run to end, and what it did to be undone.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Lets the run of a vanished driver go; the server that saw its connection close asks for it. Where the driver has written
    /// anything after `seen`, it lives, and nothing happens.
    DriverVanished {
        /// The driver's epoch.
        epoch: Epoch,
        /// The last entry that the server saw this driver write, over the connections that closed.
        seen: Seq,
        /// Recovery may take the run after so many milliseconds.
        grace_ms: u64,
    },
    /// Settles an effect that is UNKNOWN or stuck, on a person's word.
    SettleEffect {
        /// Which.
        effect: EffectId,
        /// What the person says.
        verdict: Verdict,
        /// Why.
        reason: String,
        /// The last entry that the person has seen: where anything became of the effect after it, the verdict is refused.
        seen: Seq,
    },
    /// Settles a stuck obligation, on a person's word.
    SettleObligation {
        /// Which.
        obligation: ObligationId,
        /// Whether to try again, since it is not undone; else it counts as done.
        retry: bool,
        /// Why.
        reason: String,
        /// The last entry that the person has seen: where anything became of the obligation after it, the verdict is refused.
        seen: Seq,
    },
    /// Ends the claim of a worker that is gone for good, on a person's word: as if it had lapsed.
    ReleaseClaim {
        /// What is claimed.
        claimed: Claimed,
        /// When the claim ends, as the person has seen it: a claim that was taken or renewed since is left alone.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// Lets a stuck run be re-driven again.
    RetryRun {
        /// Why.
        reason: String,
        /// The last entry that the person has seen: a run that became stuck after it is not let go on.
        seen: Seq,
    },
    /// Lets the entries of a run that has ended be dropped, but for the one that this appends.
    Retire {
        /// Why.
        reason: String,
        /// The run's last entry, which has what came of it and the end of its chain. Who has the journal at hand reads it and
        /// puts it here; without it, nothing can be decided.
        #[serde(skip)]
        last: Option<Box<Entry>>,
        /// The entry that ended the run, where others came after it.
        #[serde(skip)]
        ended: Option<Box<Entry>>,
    },
}

/// What a worker has claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Claimed {
    /// An effect, to dispatch it or to ask about it.
    Effect(EffectId),
    /// An obligation, to carry it out.
    Obligation(ObligationId),
}

/// What a person says about an effect.
#[expect(clippy::large_enum_variant, reason = "a person settles one effect at a time")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It happened.
    Confirmed {
        /// What the upstream answered, as far as is known.
        result: Payload,
        /// How to undo it, where that became known only now; otherwise what was said when the effect began holds.
        undo: Option<Undo>,
    },
    /// It did not happen and shall not.
    Failed,
    /// It did not happen; send it again.
    Resend,
}

/// Where a session is to be put back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rewind {
    /// The last entry that counts.
    pub to: Seq,
    /// The last entry the caller has seen, where it insists that nothing came after.
    pub expected: Option<Seq>,
}

/// What can be asked of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SessionCommand {
    /// Begins the session.
    Create {
        /// The session.
        session: SessionId,
        /// Its first state.
        state: Delta,
    },
    /// Appends an event.
    Append {
        /// The event; a repeated one returns the first's place.
        event: EventId,
        /// The last entry the caller has seen, where it insists that nothing came after.
        expected: Option<Seq>,
        /// The invocation it is part of.
        invocation: Option<Invocation>,
        /// Who speaks.
        author: String,
        /// The change of state; `temp:` keys are left out.
        delta: Delta,
        /// The event itself.
        content: Payload,
    },
    /// Records that shared state changes up to an event have reached their streams, or were refused there.
    MarkMerged {
        /// The last such event.
        through: Seq,
        /// Those that were refused.
        refused: Vec<RefusedMerge>,
    },
    /// Puts the session back to how it was after an entry. Where nothing was appended since it was last put back there, nothing
    /// changes.
    Rewind {
        /// The last entry that counts.
        to: Seq,
        /// The last entry the caller has seen, where it insists that nothing came after.
        expected: Option<Seq>,
        /// The session's own state as it was then, read from its entries by the caller.
        #[serde(skip)]
        state: Delta,
        /// The entry that each key's value first stood in.
        #[serde(skip)]
        origins: BTreeMap<Key, Seq>,
        /// The last entry there was before the caller began to read.
        #[serde(skip)]
        seen: Seq,
    },
    /// Deletes the session.
    Delete,
}

impl CommandBody for SessionCommand {
    fn is_idempotent(&self) -> bool {
        matches!(self, Self::MarkMerged { .. })
    }
}

/// What can be asked of shared state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SharedCommand {
    /// Carries the change of a session's event over, once: the session, the entry and its time name the change, not the request.
    Merge {
        /// The session.
        session: SessionId,
        /// The event's entry there.
        source: Seq,
        /// When that was recorded.
        recorded_at: Timestamp,
        /// The change, keys without their prefix.
        delta: Delta,
        /// The last entry of the shared state up to which the caller has looked, and found that the change is not there; zero where
        /// it has not looked.
        searched: Seq,
    },
}

impl CommandBody for SharedCommand {
    fn is_idempotent(&self) -> bool {
        true
    }
}

/// What can be asked of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ValueCommand {
    /// Sets it.
    Put {
        /// The value.
        value: Payload,
        /// The version it must have now, zero for none; without it, any.
        expected: Option<u64>,
    },
    /// Deletes it.
    Delete {
        /// The version it must have now; without it, any.
        expected: Option<u64>,
    },
}

impl CommandBody for ValueCommand {
    fn is_idempotent(&self) -> bool {
        false
    }
}

/// What can be asked of a business key's ownership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ClaimCommand {
    /// Takes the key for an effect.
    Take {
        /// The connector.
        connector: Connector,
        /// The business key.
        key: BusinessKey,
        /// The run.
        run: RunId,
        /// The effect.
        effect: EffectId,
        /// The owner it is taken from, which the caller has found to have no such effect and to never get one.
        from: Option<(RunId, EffectId)>,
    },
}

impl CommandBody for ClaimCommand {
    /// An owner keeps its key; another takes it only from the owner that the command names.
    fn is_idempotent(&self) -> bool {
        true
    }
}
