//! What the model decided.

use super::has_payloads;
use super::words::{HasWords, Words};
use crate::budget::Spend;
use crate::fingerprint::Fingerprint;
use crate::id::Position;
use crate::payload::Payload;
use serde::{Deserialize, Serialize};

/// The model answered at a position; from now on this answer is replayed there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Where.
    pub position: Position,
    /// What it was asked.
    pub fingerprint: Fingerprint,
    /// The answer.
    pub response: Payload,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// What the answer used.
    #[serde(default, skip_serializing_if = "Usage::is_zero")]
    pub usage: Usage,
    /// Why, in the model's or the policy's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rationale: Option<Payload>,
    /// The version of the policy that the decision was made under.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy_version: String,
    /// What is charged to budgets. The reservation of the decision is released at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Spend>,
}
has_payloads!(Recorded: response; optional rationale);

impl HasWords for Recorded {
    fn words_mut(&mut self) -> Vec<&mut dyn Words> {
        vec![&mut self.fingerprint.parts]
    }
}

/// What an answer used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub output_tokens: u64,
    /// The price, in millionths of a US dollar.
    #[serde(default)]
    pub cost_micro_usd: u64,
}

impl Usage {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}
