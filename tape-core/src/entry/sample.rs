//! Values from outside the rules.

use super::has_payloads;
use crate::id::{SampleName, Scope};
use crate::payload::Payload;
use serde::{Deserialize, Serialize};

/// A value from outside the rules; a re-drive gets the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Whose sample.
    pub scope: Scope,
    /// Which sample of the scope, from 0.
    pub n: u32,
    /// Its name: `now`, `uuid`, `random`, or the agent's own word.
    pub name: SampleName,
    /// The value.
    pub value: Payload,
}
has_payloads!(Recorded: value);
