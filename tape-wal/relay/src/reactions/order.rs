//! What a run of the journal's own app is told: the effect that it has a worker carry out.

use crate::event::Event;
use crate::sink::SinkError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tape_core::id::{BusinessKey, ConnectorName, Operation};
use tape_core::payload::Payload;

/// An effect for the outbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub(super) connector: ConnectorName,
    pub(super) operation: Operation,
    pub(super) business_key: BusinessKey,
    pub(super) non_idempotent: bool,
    /// The arguments: what the reaction says, or the event.
    pub(super) request: Box<RawValue>,
}

impl Order {
    /// An order with the arguments that a reaction says, or the event as its arguments.
    ///
    /// # Errors
    /// [`SinkError::Refused`] where the event is too large.
    pub(super) fn request(said: Option<&RawValue>, event: &Event) -> Result<Box<RawValue>, SinkError> {
        if let Some(said) = said {
            return Ok(said.to_owned());
        }
        let event = String::from_utf8(event.to_json()).map_err(SinkError::refused)?;
        RawValue::from_string(event).map_err(SinkError::refused)
    }

    /// The input of the run.
    ///
    /// # Errors
    /// [`SinkError::Refused`] where it is too large to be kept.
    pub(super) fn input(&self) -> Result<Payload, SinkError> {
        let text = serde_json::to_vec(self).map_err(SinkError::refused)?;
        Payload::new(Payload::JSON, text).map_err(SinkError::refused)
    }
}
