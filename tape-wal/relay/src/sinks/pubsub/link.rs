//! The connection to Pub/Sub.

use super::failure::Failure;
use super::message::REQUEST_BYTES_MAX;
use super::settings::{Settings, Topic};
use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_gax::retry_policy::RetryPolicyExt as _;
use google_cloud_pubsub::client::{BasePublisher, Publisher, TopicAdmin};
use google_cloud_pubsub::retry_policy::RetryableErrors;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Most messages of a request.
pub(super) const REQUEST_MESSAGES_MAX: usize = 1_000;
/// How often the client tries a request before the call fails; the relay then waits longer than the client would.
const ATTEMPTS: u32 = 3;
/// How long the client waits for further messages of a request. Calls end the wait by themselves, so it only has to be long enough for the
/// messages of one call to be together.
const WAIT: Duration = Duration::from_millis(5);

/// The client, made when it is needed, and again after a call that failed.
#[derive(Debug)]
pub(super) struct Link {
    endpoint: Option<String>,
    is_emulator: bool,
    topic: Topic,
    timeout: Duration,
    client: Mutex<Option<BasePublisher>>,
}

impl Link {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            endpoint: settings.reached_at(),
            is_emulator: settings.emulator.is_some(),
            topic: settings.topic.clone(),
            timeout: settings.timeout,
            client: Mutex::new(None),
        }
    }

    /// A publisher that has stopped no key. It ends by itself once it is dropped and what it was given is sent.
    pub(super) async fn publisher(&self) -> Result<Publisher, Failure> {
        let mut client = self.client.lock().await;
        let client = match &mut *client {
            Some(client) => client,
            none => none.insert(self.connect().await?),
        };
        let publisher = client.publisher(self.topic.as_str());
        Ok(publisher
            .set_message_count_threshold(u32::try_from(REQUEST_MESSAGES_MAX).unwrap_or(u32::MAX))
            .set_byte_threshold(u32::try_from(REQUEST_BYTES_MAX).unwrap_or(u32::MAX))
            .set_delay_threshold(WAIT)
            .build())
    }

    /// Lets the next call make another client, with credentials that are read anew.
    pub(super) async fn renew(&self) {
        *self.client.lock().await = None;
    }

    /// Creates a topic; returns whether it was missing.
    pub(super) async fn create_topic(&self, topic: &Topic) -> Result<bool, Failure> {
        use_ring();
        let mut builder = TopicAdmin::builder()
            .with_retry_policy(RetryableErrors.with_attempt_limit(ATTEMPTS))
            .with_credentials(self.credentials()?);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let admin = builder.build().await.map_err(client_failure)?;
        let create = admin.create_topic().set_name(topic.as_str()).send();
        let created = tokio::time::timeout(self.timeout, Box::pin(create)).await;
        let created = created.map_err(|_| Failure::Silent(self.timeout))?;
        match created.map_err(|error| Failure::Request(Arc::new(error))) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_already_there() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn connect(&self) -> Result<BasePublisher, Failure> {
        use_ring();
        let retries = RetryableErrors
            .with_time_limit(self.timeout)
            .with_attempt_limit(ATTEMPTS);
        let mut builder = BasePublisher::builder()
            .with_credentials(self.credentials()?)
            .with_retry_policy(retries);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await.map_err(client_failure)
    }

    fn credentials(&self) -> Result<Credentials, Failure> {
        if self.is_emulator {
            return Ok(anonymous::Builder::new().build());
        }
        let built = google_cloud_auth::credentials::Builder::default().build();
        built.map_err(client_failure)
    }
}

fn client_failure(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Client(Arc::new(error))
}

/// The libraries underneath take the TLS of the process, and panic where there is none. A TLS provider that is already set stays.
fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
