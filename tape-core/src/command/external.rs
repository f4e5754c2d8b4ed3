//! What others tell a run.

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
    /// Settles an obligation, on a person's word: one that is stuck, or that is the next to be undone and that no worker has.
    SettleObligation {
        /// Which.
        obligation: ObligationId,
        /// Whether to try again, since it is not undone, which only what is stuck waits for; else it counts as done.
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
