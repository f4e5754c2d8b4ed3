//! Finds a reaction by the relay that carries it.

use super::{Definition, InvalidDefinition, Reaction, carried_by, value_name};
use crate::Incarnation;
use futures::StreamExt as _;
use std::sync::Arc;
use tape_api::{Journal, JournalError};
use tape_core::codec::decode;
use tape_core::entry::EntryBody;
use tape_core::id::{RelayId, StreamId, Tenant, ValueName};

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
        let value = value_name(&name);
        let found = journal.value_state(&tenant, &value).await?;
        let version = found.as_ref().map_or(0, |found| found.version);
        let incarnation = incarnation(journal.as_ref(), &tenant, &value, version).await?;
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
            incarnation,
        }))
    }
}

/// Which of the reactions that had a name has a version of its definition: the version that removed the one before, zero where none was removed.
///
/// # Errors
/// Those of [`Journal::stream_entries`].
pub(super) async fn incarnation(
    journal: &dyn Journal,
    tenant: &Tenant,
    value: &ValueName,
    version: u64,
) -> Result<Incarnation, JournalError> {
    let stream = StreamId::Value {
        tenant: tenant.clone(),
        name: value.clone(),
    };
    let mut removed = 0;
    let mut pages = journal.stream_entries(&stream);
    while let Some(page) = pages.next().await {
        for entry in page? {
            match decode(&entry).map_err(JournalError::damaged)?.body {
                EntryBody::ValueDeleted(deleted) if deleted.version < version => removed = deleted.version,
                _ => {}
            }
        }
    }
    Ok(Incarnation(removed))
}
