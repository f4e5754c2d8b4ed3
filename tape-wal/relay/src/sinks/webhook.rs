//! An endpoint that takes events by HTTP, signed as Standard Webhooks says.

mod answer;
mod settings;
mod signature;

pub use settings::{
    CONCURRENCY_MAX, DEFAULT_CONCURRENCY, DEFAULT_DISABLED_AFTER, DEFAULT_TIMEOUT, InvalidWebhook,
    SECRETS_MAX, TIMEOUT_MAX, WebhookSettings,
};
pub use signature::{InvalidSecret, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret, message_id, signature};

use crate::by_stream::by_stream;
use crate::event::{EVENT_CONTENT_TYPE, Event};
use crate::sink::{Sink, SinkError};
use answer::Answer;
use async_trait::async_trait;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use std::sync::Arc;
use std::time::Duration;
use tape_environment::Environment;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// After this time no further event of a call is begun: a call ends, also where an endpoint answers nothing.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);

/// Posts each event to a URL, in structured mode, with the headers `webhook-id`, `webhook-timestamp` and `webhook-signature` of
/// [Standard Webhooks](https://www.standardwebhooks.com).
///
/// The page `docs/relays.md` says what each answer of the endpoint means. Events of one stream are posted one after the other, several
/// streams at once. How many is a bound of the endpoint: all calls of this sink together keep to it, so those of all parts of a relay do.
/// Redirects are not followed, and at most a little of an answer is read.
pub struct Webhook {
    settings: WebhookSettings,
    client: Client,
    environment: Arc<dyn Environment>,
    /// A turn for each request that may be under way. They are given in the order in which they are asked for, so no part starves another.
    turns: Semaphore,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// A sink that posts to the endpoint of some settings. Nothing is sent yet.
    ///
    /// # Errors
    /// [`InvalidWebhook::NoClient`] where TLS cannot be set up.
    pub fn new(settings: WebhookSettings, environment: Arc<dyn Environment>) -> Result<Self, InvalidWebhook> {
        // Where another part of the program has set it already, that one works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_WITHIN)
            .timeout(settings.timeout())
            .pool_max_idle_per_host(settings.concurrency())
            .build();
        let client = client.map_err(|error| InvalidWebhook::NoClient {
            problem: error.to_string(),
        })?;
        Ok(Self {
            turns: Semaphore::new(settings.concurrency()),
            settings,
            client,
            environment,
        })
    }

    /// Waits until a request may be sent, for as long as the call that began at some time may begin one.
    async fn turn(&self, begun: Duration) -> Result<SemaphorePermit<'_>, SinkError> {
        let too_slow = || SinkError::unavailable("not begun: the endpoint is too slow for so many events");
        let waited = self.environment.elapsed().saturating_sub(begun);
        let left = BEGIN_WITHIN.checked_sub(waited).ok_or_else(too_slow)?;
        let turn = tokio::time::timeout(left, self.turns.acquire()).await;
        turn.map_err(|_| too_slow())?.map_err(SinkError::unavailable)
    }

    async fn post(&self, event: &Event, begun: Duration) -> Result<(), SinkError> {
        let _turn = self.turn(begun).await?;
        let body = event.to_json();
        let id = message_id(event);
        let seconds = self
            .environment
            .wall()
            .as_micros()
            .div_euclid(1_000_000)
            .to_string();
        let signed = self
            .settings
            .secrets()
            .iter()
            .map(|secret| signature(secret, &id, &seconds, &body));
        let request = self
            .client
            .post(self.settings.url())
            .header(CONTENT_TYPE, EVENT_CONTENT_TYPE)
            .header("webhook-id", &id)
            .header("webhook-timestamp", &seconds)
            .header("webhook-signature", signed.collect::<Vec<_>>().join(" "))
            .body(body);
        match request.send().await {
            Ok(response) => Answer::read(response)
                .await
                .meaning(self.settings.refused(), &*self.environment),
            Err(error) => Err(SinkError::unavailable(problem(error))),
        }
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        let begun = self.environment.elapsed();
        by_stream(events, self.settings.concurrency(), |event| {
            self.post(event, begun)
        })
        .await
    }
}

/// What went wrong with a request, with its causes and without the URL, which may have a secret.
fn problem(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
