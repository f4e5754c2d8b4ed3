//! Watchable values and the ownership of business keys.

use super::has_payloads;
use crate::id::{BusinessKey, ConnectorName, EffectId, RunId};
use crate::payload::Payload;
use serde::{Deserialize, Serialize};

/// A value changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The value's version, from 1.
    pub version: u64,
    /// The value now.
    pub value: Payload,
    /// The value before. Only entries of version 1 repeat it. A repetition would bring a value back after it was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Payload>,
}
has_payloads!(Put: value; optional previous);

/// A value was deleted; its version keeps counting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The version of the tombstone.
    pub version: u64,
    /// The value before. Only entries of version 1 repeat it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Payload>,
}
has_payloads!(Deleted: ; optional previous);

/// An effect took a business key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTaken {
    /// The connector.
    pub connector: ConnectorName,
    /// The business key, unique per tenant and connector.
    pub key: BusinessKey,
    /// The run that owns the key now.
    pub run: RunId,
    /// The effect that owns it.
    pub effect: EffectId,
}
