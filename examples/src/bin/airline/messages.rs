//! Messages of Pub/Sub that wake the workers, and the relays that publish them.

use crate::journals::{Plan, journal};
use anyhow::Result;
use std::path::Path;
use tape_examples::copies::{Copies, Setting};
use tape_examples::pubsub::Pubsub;
use tape_examples::server::Servers;

/// A topic with a message for each entry of the scenario's runs.
pub(crate) struct Messages {
    pubsub: Pubsub,
    topic: String,
    relays: Copies,
}

impl Messages {
    /// Starts `count` relays, which compete.
    pub(crate) async fn start(
        plan: &Plan<'_>,
        tenant: &str,
        servers: Option<&Servers>,
        count: usize,
    ) -> Result<Self> {
        let pubsub = Pubsub::start()?;
        let topic = pubsub.topic(tenant).await?;
        let config = plan.dir.join("relays.toml");
        std::fs::write(&config, configuration(tenant, &topic))?;
        let setting = |n| relay(journal(servers, plan.store, n), &config, &pubsub);
        let relays = Copies::relays((0..count).map(setting).collect(), plan.errors).await?;
        Ok(Self {
            pubsub,
            topic,
            relays,
        })
    }

    /// Lets the messages of a subscription of its own wake the n-th worker, and nothing else.
    pub(crate) async fn wake(&self, worker: &mut Setting, n: usize) -> Result<()> {
        let subscription = self
            .pubsub
            .subscription(&format!("worker-{n}"), &self.topic)
            .await?;
        let flags = [
            "--wake",
            "pubsub",
            "--sweep",
            "off",
            "--subscription",
            &subscription,
        ];
        worker.flags.extend(flags.map(str::to_owned));
        worker.env.push(self.pubsub.variable());
        Ok(())
    }

    pub(crate) const fn relays(&self) -> &Copies {
        &self.relays
    }
}

fn relay(journal: String, config: &Path, pubsub: &Pubsub) -> Setting {
    Setting {
        journal,
        config: config.to_owned(),
        flags: Vec::new(),
        env: vec![pubsub.variable()],
    }
}

/// A relay that is killed leaves its place to another one soon. A hint needs no order and no payload.
fn configuration(tenant: &str, topic: &str) -> String {
    format!(
        "[relays.\"{tenant}/hints\"]\n\
         start = \"beginning\"\n\
         payload = \"omit\"\n\
         lease_ms = 1000\n\
         backoff_max_ms = 1000\n\
         pubsub = {{ topic = \"{topic}\", ordered = false }}\n"
    )
}
