//! Commands from outside a run.

use crate::effect::Undo;
use crate::entry::Entry;
use crate::entry::obligation::ObligationId;
use crate::id::{EffectId, Epoch, GateName, Seq, SignalId, TimerName};
use crate::payload::Payload;
use crate::time::Timestamp;
use serde::Serialize;

/// What can be asked from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ExternalCommand {
    /// Answers a gate, now or when it opens.
    Signal {
        /// The gate.
        gate: GateName,
        /// The sender's own name for the signal; a signal sent twice counts once.
        id: SignalId,
        /// What it carries.
        answer: Payload,
        /// The last entry that the sender has seen, if the answer depends on it: the gate must be open and must not have been opened after
        /// that entry.
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
    /// Requests that the run is cancelled and its effects are undone.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Releases the run of a driver whose connection closed; the server that saw it close sends this. If the driver has written anything
    /// after `seen`, it is alive, and nothing happens.
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
        /// The last entry that the person has seen. If the effect changed after it, the verdict is refused.
        seen: Seq,
    },
    /// Settles an obligation, on a person's word. It must be stuck, or be the next to be undone and not claimed by a worker.
    SettleObligation {
        /// Which.
        obligation: ObligationId,
        /// Whether to try again because it is not undone; only a stuck obligation can be tried again. Otherwise it counts as done.
        retry: bool,
        /// Why.
        reason: String,
        /// The last entry that the person has seen. If the obligation changed after it, the verdict is refused.
        seen: Seq,
    },
    /// Ends the claim of a worker that is gone for good, on a person's word. The effect is the same as if the claim had lapsed.
    ReleaseClaim {
        /// What is claimed.
        claimed: Claimed,
        /// When the claim ends, as the person has seen it. A claim that was taken or renewed since then stays.
        until: Timestamp,
        /// Why.
        reason: String,
    },
    /// Lets a stuck run be re-driven again.
    RetryRun {
        /// Why.
        reason: String,
        /// The last entry that the person has seen. A run that became stuck after it stays stuck.
        seen: Seq,
    },
    /// Retires a run that has ended: all entries before the one that this appends may be dropped.
    Retire {
        /// Why.
        reason: String,
        /// The run's last entry, which has the run's outcome and the end of its chain. The caller that has the journal reads it and puts it
        /// here; without it, nothing can be decided.
        #[serde(skip)]
        last: Option<Box<Entry>>,
        /// The entry that ended the run, if other entries follow it.
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
        /// How to undo it, if that became known only now. Otherwise the undo given when the effect began holds.
        undo: Option<Undo>,
    },
    /// It did not happen and is not sent again.
    Failed,
    /// It did not happen; send it again.
    Resend,
}
