//! Commands of values and of the owners of business keys.

use super::CommandBody;
use crate::id::{BusinessKey, ConnectorName, EffectId, RunId};
use crate::payload::Payload;
use serde::Serialize;

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
pub enum KeyCommand {
    /// Takes the key for an effect.
    Take {
        /// The connector.
        connector: ConnectorName,
        /// The business key.
        key: BusinessKey,
        /// The run.
        run: RunId,
        /// The effect.
        effect: EffectId,
        /// The owner to take it from. The caller has found that this owner has no such effect and can never begin it.
        from: Option<(RunId, EffectId)>,
    },
}

impl CommandBody for KeyCommand {
    /// Repeating it is harmless: an owner keeps its key, and another effect takes the key only from the owner that the command names.
    fn is_idempotent(&self) -> bool {
        true
    }
}
