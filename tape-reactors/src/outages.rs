//! Upstreams that are not reached: the log says so once, and then rarely.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tape_core::id::Connector;
use tape_core::outage::Outage;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// While an upstream is away, the log says so this often.
const AGAIN: Duration = Duration::from_secs(300);

/// The upstreams that were not reached the last time.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<HashMap<Connector, Outage>>);

impl Outages {
    /// The upstream was not reached. Whether the log says so.
    pub(crate) fn unreached(&self, connector: &Connector, why: &str) -> bool {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = outages
            .entry(connector.clone())
            .or_insert_with(|| Outage::new(AGAIN));
        let said = outage.lost(Instant::now().into_std(), why);
        if let Some(spell) = &said {
            warn!(%connector, why, %spell, "the upstream is not reached: its work waits, and no attempt counts");
        } else {
            debug!(%connector, why, "the upstream is not reached");
        }
        said.is_some()
    }

    /// The upstream was reached.
    pub(crate) fn reached(&self, connector: &Connector) {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outage = outages.remove(connector);
        if let Some(spell) = outage.and_then(|mut outage| outage.back(Instant::now().into_std())) {
            info!(%connector, %spell, "the upstream is reached again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_away_is_told_of_rarely() {
        let (outages, bank) = (Outages::default(), Connector::new("bank").unwrap());
        let minute_by_minute = async || {
            let mut said = 0;
            for _ in 0..60 {
                said += u32::from(outages.unreached(&bank, "no connection"));
                tokio::time::advance(Duration::from_secs(60)).await;
            }
            said
        };
        assert_eq!(minute_by_minute().await, 12);
        outages.reached(&bank);
        assert!(outages.unreached(&bank, "no connection"), "another outage");
    }
}
