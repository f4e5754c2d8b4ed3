//! Kills relays at random moments.

use super::Supervisor;
use crate::schedule::RelayKill;
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Supervisor {
    /// Kills relays as planned, one after the other.
    pub(super) async fn kill_relays(self: Arc<Self>, kills: Vec<RelayKill>) -> Result<()> {
        let mut progress = self.progress.subscribe();
        for kill in kills {
            // The supervisor lives as long as this.
            let _ = progress.wait_for(|made| *made >= kill.decisions).await;
            tokio::time::sleep(kill.moment).await;
            self.backing.journals()?.relays()?.kill(kill.relay).await?;
            self.relays.fetch_add(1, Ordering::SeqCst);
            self.hits.notify_one();
        }
        Ok(())
    }
}
