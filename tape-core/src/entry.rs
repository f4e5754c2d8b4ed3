//! Entries: the immutable lines of a journal.
//!
//! Each family of entries has a file below; the names on the wire and in the store are the `kind`s listed in [`EntryBody`].
//! Everything that a rule derived (an epoch, the end of a lease, the time of the next attempt) is in the entry, so that folding never
//! computes it again.

pub mod budget;
pub mod decision;
pub mod effect;
pub mod erasure;
pub mod gate;
pub mod lease;
pub mod obligation;
pub mod relay;
pub mod run;
pub mod sample;
pub mod session;
pub mod timer;
pub mod value;
pub(crate) mod words;

use crate::id::{Principal, RequestId, Seq};
use crate::payload::{ContentDigest, Digest, Payload};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One immutable line of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the stream, from 1.
    pub seq: Seq,
    /// Its time in the stream, which never goes back: the later of the journal's time when it was decided and the time of the previous
    /// entry.
    pub at: Timestamp,
    /// The journal's time when it was decided. Due times count from it. It equals `at`, unless an earlier entry was written under a clock
    /// that was ahead.
    pub decided_at: Timestamp,
    /// The request that caused it; entries of one request are neighbours.
    pub request: RequestId,
    /// Who acted, where it is known.
    pub principal: Option<Principal>,
    /// The W3C `traceparent` of the request, where it had one.
    pub trace: Option<TraceParent>,
    /// The digest of the command that caused it; none where a repeat of the command does no harm, and in entries of earlier builds.
    pub command: Option<ContentDigest>,
    /// What happened.
    pub body: EntryBody,
    /// The chain up to and with this entry: see [`crate::chain`].
    pub digest: Digest,
}

/// A W3C trace context header, `00-<32 hex>-<16 hex>-<2 hex>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

/// A text is not a W3C `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("traceparent must have the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The header's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTraceParent;
    fn try_from(text: String) -> Result<Self, InvalidTraceParent> {
        let lengths = [2, 32, 16, 2];
        let hex = |part: &str| {
            part.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let parts: Vec<&str> = text.split('-').collect();
        let formed = parts.len() == 4
            && parts
                .iter()
                .zip(lengths)
                .all(|(part, len)| part.len() == len && hex(part));
        if formed {
            Ok(Self(text))
        } else {
            Err(InvalidTraceParent)
        }
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> Self {
        trace.0
    }
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $variant:ident($body:path) = $kind:literal $(, payloads $payloads:expr)? $(, words $words:expr)?;)+) => {
        /// The event that an entry records. A kind, once written, keeps its name and its meaning for ever.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "body")]
        #[non_exhaustive]
        pub enum EntryBody {
            $($(#[$doc])* #[serde(rename = $kind)] $variant($body),)+
        }

        impl EntryBody {
            /// Every kind this build knows, in the order of the families.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The name of the kind of entry.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)+ }
            }

            /// The payloads that the entry refers to, in the order in which their bytes are kept.
            #[must_use]
            pub fn payloads(&self) -> Vec<&Payload> {
                match self {
                    $(Self::$variant(body) => bodies!(@payloads body $(, $payloads)?),)+
                }
            }

            pub(crate) fn payloads_mut(&mut self) -> Vec<&mut Payload> {
                match self {
                    $(Self::$variant(body) => bodies!(@payloads_mut body $(, $payloads)?),)+
                }
            }

            /// The fields that have words, in the order in which their bytes are kept.
            pub(crate) fn words_mut(&mut self) -> Vec<&mut dyn words::Words> {
                match self {
                    $(Self::$variant(body) => bodies!(@words_mut body $(, $words)?),)+
                }
            }
        }

        $(impl From<$body> for EntryBody {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        })+
    };
    (@payloads $body:ident) => {{ let _ = $body; Vec::new() }};
    (@payloads $body:ident, $payloads:expr) => { HasPayloads::payloads($body) };
    (@payloads_mut $body:ident) => {{ let _ = $body; Vec::new() }};
    (@payloads_mut $body:ident, $payloads:expr) => { HasPayloads::payloads_mut($body) };
    (@words_mut $body:ident) => {{ let _ = $body; Vec::new() }};
    (@words_mut $body:ident, $words:expr) => { words::HasWords::words_mut($body) };
}

/// An entry body that refers to payloads.
pub(crate) trait HasPayloads {
    fn payloads(&self) -> Vec<&Payload>;
    fn payloads_mut(&mut self) -> Vec<&mut Payload>;
}

/// Implements [`HasPayloads`] for a body: fields that are a payload, then fields that are optional holders of one.
macro_rules! has_payloads {
    ($body:ty: $($field:ident),* $(; optional $($option:ident),+)? $(; within $($holder:ident),+)?) => {
        impl $crate::entry::HasPayloads for $body {
            fn payloads(&self) -> Vec<&$crate::payload::Payload> {
                let mut all: Vec<&$crate::payload::Payload> = vec![$(&self.$field),*];
                $($(all.extend(self.$option.as_ref());)+)?
                $($(all.extend(self.$holder.as_ref().map(|holder| &holder.args));)+)?
                all.shrink_to_fit();
                all
            }
            fn payloads_mut(&mut self) -> Vec<&mut $crate::payload::Payload> {
                let mut all: Vec<&mut $crate::payload::Payload> = vec![$(&mut self.$field),*];
                $($(all.extend(self.$option.as_mut());)+)?
                $($(all.extend(self.$holder.as_mut().map(|holder| &mut holder.args));)+)?
                all.shrink_to_fit();
                all
            }
        }
    };
}
pub(crate) use has_payloads;

bodies! {
    /// A run began.
    RunBegun(run::Begun) = "run.begun", payloads (), words ();
    /// The agent recorded how far it is.
    RunCheckpoint(run::Checkpoint) = "run.checkpoint", payloads ();
    /// The run waits without a driver.
    RunSuspended(run::Suspended) = "run.suspended";
    /// Cancellation of the run was requested while a driver held it.
    RunCancelRequested(run::CancelRequested) = "run.cancel_requested", words ();
    /// The run failed or was cancelled and its confirmed effects are being undone.
    RunCompensating(run::Compensating) = "run.compensating", words ();
    /// The run cannot continue without a person.
    RunStuck(run::Stuck) = "run.stuck";
    /// A person let a stuck run continue.
    RunRetried(run::Retried) = "run.retried", words ();
    /// The run completed.
    RunCompleted(run::Completed) = "run.completed", payloads ();
    /// The run failed.
    RunFailed(run::Failed) = "run.failed", words ();
    /// The run was cancelled.
    RunCancelled(run::Cancelled) = "run.cancelled", words ();
    /// The entries before this one are dropped or about to be; it has what outlives them.
    RunRetired(run::Retired) = "run.retired", payloads (), words ();
    /// A driver took the run.
    LeaseAcquired(lease::Acquired) = "lease.acquired";
    /// The driver renewed its lease.
    LeaseRenewed(lease::Renewed) = "lease.renewed";
    /// The driver released the run, or its server saw its connection close.
    LeaseReleased(lease::Released) = "lease.released";
    /// The model answered.
    DecisionRecorded(decision::Recorded) = "decision.recorded", payloads (), words ();
    /// An effect is about to be run.
    EffectBegun(effect::Begun) = "effect.begun", payloads ();
    /// A worker is about to call the upstream.
    EffectStarted(effect::Started) = "effect.started";
    /// A worker renewed its claim on an effect that it is dispatching or observing.
    EffectClaimRenewed(effect::ClaimRenewed) = "effect.claim_renewed";
    /// The effect happened.
    EffectConfirmed(effect::Confirmed) = "effect.confirmed", payloads (), words ();
    /// The effect did not happen and will not be tried again.
    EffectFailed(effect::Failed) = "effect.failed", payloads (), words ();
    /// The effect will be tried again.
    EffectDeferred(effect::Deferred) = "effect.deferred", words ();
    /// It is unknown whether the effect happened.
    EffectUnknown(effect::Unknown) = "effect.unknown", words ();
    /// A worker is about to ask the upstream what happened.
    EffectObserving(effect::Observing) = "effect.observing";
    /// The upstream was asked what happened.
    EffectObserved(effect::Observed) = "effect.observed", words ();
    /// A person allowed the effect to be sent again.
    EffectResendAllowed(effect::ResendAllowed) = "effect.resend_allowed", words ();
    /// An obligation for a duplicate of an effect. (A confirmed effect arms its own without an entry.)
    ObligationArmed(obligation::Armed) = "obligation.armed", payloads ();
    /// A worker is about to undo an effect.
    ObligationStarted(obligation::Started) = "obligation.started";
    /// A worker renewed its claim on an obligation that it is carrying out.
    ObligationClaimRenewed(obligation::ClaimRenewed) = "obligation.claim_renewed";
    /// The effect is undone.
    ObligationDone(obligation::Done) = "obligation.done", payloads (), words ();
    /// An attempt at undoing failed, or may have undone it and its answer was lost. It will be tried again.
    ObligationDeferred(obligation::Deferred) = "obligation.deferred", words ();
    /// Undoing needs a person.
    ObligationStuck(obligation::Stuck) = "obligation.stuck", words ();
    /// A person asked for another attempt at undoing.
    ObligationRetried(obligation::Retried) = "obligation.retried", words ();
    /// The run waits for a named signal.
    GateOpened(gate::Opened) = "gate.opened";
    /// The wait is over.
    GateAnswered(gate::Answered) = "gate.answered", payloads ();
    /// A signal came before its gate opened.
    SignalReceived(gate::SignalReceived) = "signal.received", payloads ();
    /// A timer was set.
    TimerSet(timer::Set) = "timer.set", payloads ();
    /// A timer fired.
    TimerFired(timer::Fired) = "timer.fired";
    /// A timer was cancelled.
    TimerCancelled(timer::Cancelled) = "timer.cancelled";
    /// A budget was opened.
    BudgetOpened(budget::Opened) = "budget.opened";
    /// Parts of budgets are reserved for a decision.
    BudgetReserved(budget::Reserved) = "budget.reserved";
    /// The reservation of a decision is released.
    BudgetReleased(budget::Released) = "budget.released";
    /// A value from outside the rules: the time, a random number, anything.
    SampleRecorded(sample::Recorded) = "sample.recorded", payloads ();
    /// A session began.
    SessionCreated(session::Created) = "session.created", words ();
    /// An event of a session.
    SessionEventAppended(session::EventAppended) = "session.event_appended", payloads (), words ();
    /// The shared state changes of earlier events have reached their streams.
    SessionMerged(session::Merged) = "session.merged", words ();
    /// The session is as it was after an earlier entry.
    SessionRewound(session::Rewound) = "session.rewound", words ();
    /// The session was deleted.
    SessionDeleted(session::Deleted) = "session.deleted";
    /// A session's event changed shared state.
    SharedMerged(session::SharedMerged) = "shared.merged", words ();
    /// A value changed.
    ValuePut(value::Put) = "value.put", payloads ();
    /// A value was deleted.
    ValueDeleted(value::Deleted) = "value.deleted", payloads ();
    /// An effect took a business key.
    KeyTaken(value::KeyTaken) = "claim.taken";
    /// The sink of a relay refused an entry for good.
    RelayRefused(relay::Refused) = "relay.refused", words ();
    /// An entry that was refused was sent again, and the sink took it.
    RelayRedelivered(relay::Redelivered) = "relay.redelivered";
    /// A subscriber confirmed that it erased what was erased here.
    RelayReceipt(relay::Receipt) = "relay.receipt";
    /// Payloads of the stream were erased on request.
    PayloadErased(erasure::Erased) = "payload.erased", words ();
    /// The store has removed erased payloads.
    ErasureFinished(erasure::Finished) = "payload.erasure_finished";
}
