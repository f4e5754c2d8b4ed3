//! Finds a reaction by the relay that carries it.

use super::{Definition, InvalidDefinition, Reaction, carried_by, value_name};
use std::sync::Arc;
use tape_api::{Journal, JournalError};
use tape_core::id::RelayId;

/// Why a reaction cannot be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotDefined {
    /// The journal does not tell.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is none, or no more.
    #[error("there is no reaction that '{relay}' carries")]
    Absent {
        /// The relay.
        relay: RelayId,
    },
    /// Its definition is not valid.
    #[error("the reaction that '{relay}' carries is not valid")]
    Invalid {
        /// The relay.
        relay: RelayId,
        /// What is wrong.
        #[source]
        source: InvalidDefinition,
    },
}

impl Reaction {
    /// The reaction that a relay carries, as it is defined now; none where the relay carries no reaction.
    ///
    /// # Errors
    /// [`NotDefined`].
    pub async fn carried_by(relay: &RelayId, journal: &Arc<dyn Journal>) -> Result<Option<Self>, NotDefined> {
        let Some((tenant, name)) = carried_by(relay) else {
            return Ok(None);
        };
        let found = journal.value_state(&tenant, &value_name(&name)).await?;
        let value = found.and_then(|found| found.value);
        let value = value.ok_or_else(|| NotDefined::Absent { relay: relay.clone() })?;
        let definition = Definition::read(&tenant, &value).map_err(|source| NotDefined::Invalid {
            relay: relay.clone(),
            source,
        })?;
        Ok(Some(Self {
            tenant,
            name,
            definition,
        }))
    }
}
