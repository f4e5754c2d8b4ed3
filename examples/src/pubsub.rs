//! The emulator of Pub/Sub, for messages that wake workers.

use crate::pubsub_emulator::Emulator;
use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

/// Where all clients of Pub/Sub find an emulator.
pub const EMULATOR_HOST: &str = "PUBSUB_EMULATOR_HOST";
/// The project of the topics and subscriptions. The emulator takes any.
const PROJECT: &str = "tape-examples";

/// An emulator. One that this has started ends with it.
#[derive(Debug)]
pub struct Pubsub {
    host: String,
    http: reqwest::Client,
    _own: Option<Emulator>,
}

impl Pubsub {
    /// The emulator that `PUBSUB_EMULATOR_HOST` names as `HOST:PORT`, or else one that is started here.
    ///
    /// # Errors
    /// Where none is named and none is installed; the error says what to install.
    pub fn start() -> Result<Self> {
        let named = std::env::var(EMULATOR_HOST).ok().filter(|host| !host.is_empty());
        let own = match &named {
            Some(_) => None,
            None => {
                let missing =
                    |missing| anyhow!("{missing}; or name a running one by {EMULATOR_HOST}=HOST:PORT");
                Some(Emulator::try_start().map_err(missing)?)
            }
        };
        let host = named.or_else(|| own.as_ref().map(Emulator::address));
        Ok(Self {
            host: host.context("there is an emulator")?,
            http: crate::http::client(),
            _own: own,
        })
    }

    /// The emulator's host and port, for the environment of a process that is to use it.
    #[must_use]
    pub fn variable(&self) -> (String, String) {
        (EMULATOR_HOST.to_owned(), self.host.clone())
    }

    /// Creates a topic. Returns its full name.
    ///
    /// # Errors
    /// Where the emulator cannot be reached or has the topic already.
    pub async fn topic(&self, id: &str) -> Result<String> {
        self.create(format!("projects/{PROJECT}/topics/{id}"), json!({}))
            .await
    }

    /// Creates a subscription to a topic. Returns its full name.
    ///
    /// # Errors
    /// Where the emulator cannot be reached or has the subscription already.
    pub async fn subscription(&self, id: &str, topic: &str) -> Result<String> {
        let settings = json!({ "topic": topic, "ackDeadlineSeconds": 10 });
        self.create(format!("projects/{PROJECT}/subscriptions/{id}"), settings)
            .await
    }

    async fn create(&self, name: String, settings: Value) -> Result<String> {
        let url = format!("http://{}/v1/{name}", self.host);
        let sent = self.http.put(url).json(&settings).send().await;
        let answer =
            sent.with_context(|| format!("the emulator of Pub/Sub at {} does not answer", self.host))?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "{name} cannot be created: {status} {}",
            answer.text().await.unwrap_or_default()
        );
        Ok(name)
    }
}
