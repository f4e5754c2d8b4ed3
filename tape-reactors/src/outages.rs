//! Outages of upstreams and agents: the log reports one once, and then rarely.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tape_core::outage::Outage;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How often the log repeats a lasting outage.
const AGAIN: Duration = Duration::from_secs(300);

/// Most names that are tracked; others only get debug lines. Some names are free text of tenants.
const NAMES_MAX: usize = 1_000;

/// The names with an outage at their last call.
#[derive(Debug)]
pub(crate) struct Outages<K> {
    /// The word for one of them in the log.
    what: &'static str,
    /// The log's words for an outage.
    away: &'static str,
    all: Mutex<HashMap<K, Outage>>,
}

impl<K: Eq + Hash + Clone + Display> Outages<K> {
    /// Without outages.
    pub(crate) fn new(what: &'static str, away: &'static str) -> Self {
        Self {
            what,
            away,
            all: Mutex::default(),
        }
    }

    /// Records an outage, a new or a lasting one. Returns whether the log reports it.
    pub(crate) fn lost(&self, name: &K, why: &str) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < NAMES_MAX && !all.contains_key(name) {
            all.insert(name.clone(), Outage::new(AGAIN));
        }
        let outage = all.get_mut(name);
        let said = outage.and_then(|outage| outage.lost(Instant::now().into_std(), why));
        let (what, away) = (self.what, self.away);
        if let Some(spell) = &said {
            warn!(%name, why, %spell, "the {what} {away}");
        } else {
            debug!(%name, why, "the {what} {away}");
        }
        said.is_some()
    }

    /// Records that the outage of a name is over.
    pub(crate) fn back(&self, name: &K) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // The name stays tracked: an outage that comes and goes is reported as rarely.
        let outage = all.get_mut(name);
        if let Some(spell) = outage.and_then(|outage| outage.back(Instant::now().into_std())) {
            info!(%name, %spell, "the {} is there again", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tape_core::id::ConnectorName;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_away_is_told_of_rarely() {
        let (outages, bank) = (
            Outages::new("upstream", "is away"),
            ConnectorName::new("bank").unwrap(),
        );
        let minute_by_minute = async |comes_back: bool| {
            let mut said = 0;
            for _ in 0..60 {
                said += u32::from(outages.lost(&bank, "no connection"));
                if comes_back {
                    outages.back(&bank);
                }
                tokio::time::advance(Duration::from_secs(60)).await;
            }
            said
        };
        assert_eq!(minute_by_minute(false).await, 12);
        outages.back(&bank);
        assert!(outages.lost(&bank, "no connection"), "another outage");
        tokio::time::advance(Duration::from_secs(300)).await;
        assert_eq!(minute_by_minute(true).await, 12, "it comes and goes");
        let post = ConnectorName::new("post").unwrap();
        assert!(outages.lost(&post, "no connection"), "each has its own");
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_bounded() {
        let outages = Outages::new("app", "is unknown");
        let said = (0..2 * NAMES_MAX)
            .filter(|name| outages.lost(name, "why"))
            .count();
        assert_eq!(said, NAMES_MAX);
        outages.back(&(2 * NAMES_MAX - 1));
    }
}
