//! What the process carries: the relays of the file, and the reactions of tenants.

use crate::flags::Run;
use std::sync::Arc;
use std::time::Duration;
use tape_client::Journal;
use tape_core::causes::Causes;
use tape_core::id::{Holder, RelayId};
use tape_relay::reactions::{ReactionCounts, Reactions, serve_outbox};
use tape_relay::{Relay, Running, Settings};
use tokio_util::sync::CancellationToken;

pub(crate) struct Carried {
    relays: Vec<(RelayId, Arc<Running>)>,
    reactions: Option<Reactions>,
}

impl Carried {
    /// Starts the relays, and the reactions of the tenants that the flags name.
    pub(crate) fn start(
        flags: &Run,
        relays: Vec<Relay>,
        journal: &Arc<dyn Journal>,
        holder: &Holder,
        stop: &CancellationToken,
    ) -> Self {
        let start = |relay: Relay| {
            let id = relay.id.clone();
            (id, Arc::new(relay.start(Arc::clone(journal), holder.clone())))
        };
        let relays = relays.into_iter().map(start).collect();
        let reactions = (!flags.reactions.is_empty()).then(|| {
            tokio::spawn(outbox(Arc::clone(journal), holder.clone(), stop.clone()));
            let settings = Settings {
                lease: Duration::from_millis(flags.reactions_lease_ms),
                ..Settings::default()
            };
            let (tenants, every) = (flags.reactions.clone(), Duration::from_millis(flags.reactions_ms));
            Reactions::start(Arc::clone(journal), holder.clone(), tenants, settings, every)
        });
        Self { relays, reactions }
    }

    /// The relays that run now, those of reactions among them.
    pub(crate) fn running(&self) -> Vec<(RelayId, Arc<Running>)> {
        let reactions = self.reactions.iter().flat_map(Reactions::running);
        self.relays.iter().cloned().chain(reactions).collect()
    }

    /// What became of the definitions of reactions, where the process carries any.
    pub(crate) fn reactions(&self) -> Option<ReactionCounts> {
        self.reactions.as_ref().map(Reactions::counts)
    }

    /// Finishes the calls that are under way, and gives everything back.
    pub(crate) async fn drain(&self) {
        let relays = futures::future::join_all(self.relays.iter().map(|(_, running)| running.drain()));
        let reactions = async {
            if let Some(reactions) = &self.reactions {
                reactions.drain().await;
            }
        };
        tokio::join!(relays, reactions);
    }
}

/// Has workers carry out the effects of reactions. Runs that are under way when the process stops are taken up by another.
async fn outbox(journal: Arc<dyn Journal>, holder: Holder, stop: CancellationToken) {
    if let Err(error) = serve_outbox(journal, holder, stop.cancelled_owned()).await {
        tracing::error!(error = %Causes(&error), "the effects of reactions are not carried out any more");
    }
}
