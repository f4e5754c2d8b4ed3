//! Waiting for a named signal.

use super::has_payloads;
use crate::id::{GateName, Principal, Scope, Seq, SignalId};
use crate::payload::Payload;
use crate::time::Deadline;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The run waits for a named signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The gate.
    pub gate: GateName,
    /// After this the wait is over without a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The deadline as it was asked for; none in entries from before it was recorded, and where there is no deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Deadline>,
    /// The scope that asked for it; entries from before scopes were recorded read as the root's.
    #[serde(default, skip_serializing_if = "Scope::is_root")]
    pub scope: Scope,
}

/// The wait is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The gate.
    pub gate: GateName,
    /// What ended the wait.
    pub by: AnsweredBy,
    /// What the signal carried; empty where the deadline ended the wait or an earlier signal's own entry has it.
    pub answer: Payload,
}
has_payloads!(Answered: answer);

/// What ended a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum AnsweredBy {
    /// A signal.
    Signal {
        /// The sender's name for it.
        id: SignalId,
        /// Who sent it, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Principal>,
    },
    /// A signal that came before the gate opened.
    EarlierSignal {
        /// The sender's name for it.
        id: SignalId,
        /// Who sent it, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        who: Option<Principal>,
        /// The entry that has what it carries.
        received: Seq,
    },
    /// The deadline.
    Deadline,
}

/// A signal came before its gate opened; it answers the gate when it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalReceived {
    /// The gate.
    pub gate: GateName,
    /// The sender's name for the signal.
    pub id: SignalId,
    /// What it carries.
    pub answer: Payload,
}
has_payloads!(SignalReceived: answer);
