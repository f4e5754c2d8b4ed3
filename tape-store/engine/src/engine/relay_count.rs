//! How many relays have a place: a caller that claims parts makes records, and must not fill the store.

use super::Engine;
use super::places::PREFIX;
use crate::journal::failure::of_store;
use std::collections::BTreeSet;
use tape_api::JournalError;
use tape_core::id::RelayId;
use tape_core::limits::{PAGE_ENTRIES_MAX, RELAYS_MAX};
use tape_core::reply::{Limit, Rejection};

/// What a name of a record has behind that of its relay.
const PART: char = '/';
/// The character that follows [`PART`] in the order of bytes. No name has it right behind that of its relay.
const AFTER_PARTS: char = '0';

impl Engine {
    /// Checks that a relay has a place, or that its tenant has room for another one. Servers that check at the same moment may each let one in.
    ///
    /// # Errors
    /// [`Rejection::LimitExceeded`].
    pub(super) async fn check_room(&self, relay: &RelayId) -> Result<(), JournalError> {
        let own = format!("{PREFIX}{relay}{PART}");
        if !self.relay_names(&own, None, 1).await?.is_empty() {
            return Ok(());
        }
        let all = scope(&own);
        let (mut relays, mut after) = (BTreeSet::new(), None::<String>);
        loop {
            let page = self.relay_names(all, after.as_deref(), PAGE_ENTRIES_MAX).await?;
            relays.extend(page.iter().map(|name| of_relay(name).to_owned()));
            if relays.len() >= RELAYS_MAX {
                let (max, given) = (RELAYS_MAX as u64, RELAYS_MAX as u64 + 1);
                let limit = Limit::Relays;
                return Err(Rejection::LimitExceeded { limit, max, given }.into());
            }
            // Fewer mean the end.
            if page.len() < PAGE_ENTRIES_MAX as usize {
                return Ok(());
            }
            after = page.last().map(|last| format!("{}{AFTER_PARTS}", of_relay(last)));
        }
    }

    async fn relay_names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>, JournalError> {
        let records = self.0.store.cursors().records(prefix, after, limit).await;
        let records = records.map_err(of_store)?.into_iter();
        Ok(records.map(|(name, _)| name).collect())
    }
}

/// The name of a record without the number of the part.
fn of_relay(name: &str) -> &str {
    name.rsplit_once(PART).map_or(name, |(relay, _)| relay)
}

/// What the names of all relays of the same tenant begin with.
fn scope(name: &str) -> &str {
    let tenant = name[PREFIX.len()..].find(PART);
    tenant.map_or(name, |tenant| &name[..=PREFIX.len() + tenant])
}

#[cfg(test)]
mod tests {
    use super::{of_relay, scope};

    #[test]
    fn a_name_of_a_record_has_its_tenant_and_its_relay() {
        assert_eq!(scope("relay/acme/lake/"), "relay/acme/");
        assert_eq!(scope("relay/*/lake/"), "relay/*/");
        assert_eq!(of_relay("relay/acme/lake/17"), "relay/acme/lake");
    }
}
