//! Messages that are pulled from Pub/Sub.

use super::Wake;
use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::subscriber::MessageStream;
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tape_core::causes::Causes;
use tape_core::outage::Outage;
use tape_environment::Environment;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Most messages that are under way at a time, and their bytes. Each is acknowledged as soon as it is read.
const MESSAGES_MAX: i64 = 1_000;
const BYTES_MAX: i64 = 16 * 1024 * 1024;

/// The wait after the subscription was lost for good, such as one that is not there: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The longest time to send the last acknowledgements. A message whose acknowledgement is lost comes again.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// How often the log repeats that a subscription is out of reach.
const AGAIN: Duration = Duration::from_secs(60);

/// The subscription cannot be pulled from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PubsubError {
    /// Its name is none.
    #[error("the subscription is named `projects/PROJECT/subscriptions/NAME`")]
    Name,
    /// There are no credentials, or TLS cannot be set up.
    #[error("Pub/Sub cannot be set up")]
    NoClient(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A subscription of Pub/Sub whose messages are hints ([`Wake`]). What a message says is not read.
///
/// Each message goes to one of those that pull from a subscription. So processes whose reactors are configured alike may share one, with a
/// sweep for the work of one that died; processes that are configured differently need one each.
#[derive(Debug)]
pub struct PubsubWake {
    subscriber: Subscriber,
    subscription: String,
    environment: Arc<dyn Environment>,
    outage: Outage,
}

impl PubsubWake {
    /// A subscription by its full name, `projects/PROJECT/subscriptions/NAME`, with the credentials that Google's libraries find. `emulator`
    /// is the host and port of an emulator, which is reached without credentials and without TLS. Nothing is sent before [`run`](Self::run).
    ///
    /// # Errors
    /// The name is no name of a subscription, or there are no credentials.
    pub async fn new(
        subscription: &str,
        emulator: Option<&str>,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, PubsubError> {
        if !is_name(subscription) {
            return Err(PubsubError::Name);
        }
        // Where another part of the program has set it already, that one works as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Subscriber::builder();
        if let Some(emulator) = emulator {
            builder = builder
                .with_endpoint(format!("http://{emulator}"))
                .with_credentials(anonymous::Builder::new().build());
        }
        let subscriber = builder.build().await;
        Ok(Self {
            subscriber: subscriber.map_err(|error| PubsubError::NoClient(error.into()))?,
            subscription: subscription.to_owned(),
            environment,
            outage: Outage::new(AGAIN),
        })
    }

    /// Wakes by each message until `stop`. While the subscription is out of reach, it is tried again and again.
    pub async fn run(mut self, wake: Wake, stop: CancellationToken) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            let messages = self.subscriber.subscribe(self.subscription.as_str());
            let messages = messages
                .set_max_outstanding_messages(MESSAGES_MAX)
                .set_max_outstanding_bytes(BYTES_MAX)
                .build();
            let flushed = messages.shutdown_token();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.pull(messages, &wake, &mut backoff) => {}
            }
            if stop.is_cancelled() {
                // Acknowledgements are sent in batches: the last one, too.
                let _ = tokio::time::timeout(FLUSH_MAX, flushed.shutdown()).await;
                return;
            }
            let pause = backoff.next(self.environment.chance());
            let _ = tokio::time::timeout(pause, stop.cancelled()).await;
            // Messages may have been lost with the subscription.
            wake.hint();
        }
    }

    /// Wakes by each message until the subscription is lost.
    async fn pull(&mut self, mut messages: MessageStream, wake: &Wake, backoff: &mut Backoff) {
        while let Some(message) = messages.next().await {
            match message {
                Ok((_, handler)) => {
                    wake.hint();
                    handler.ack();
                    self.back();
                    *backoff = Backoff::new(PAUSE.0, PAUSE.1);
                }
                Err(error) => self.lost(&Causes(&error).to_string()),
            }
        }
    }

    fn lost(&mut self, error: &str) {
        if let Some(spell) = self.outage.lost(Instant::now().into_std(), error) {
            let subscription = &self.subscription;
            warn!(subscription, error, %spell, "the subscription that wakes reactors is out of reach; trying again");
        }
    }

    fn back(&mut self) {
        if let Some(spell) = self.outage.back(Instant::now().into_std()) {
            info!(subscription = self.subscription, %spell, "the subscription that wakes reactors is back");
        }
    }
}

fn is_name(subscription: &str) -> bool {
    let parts: Vec<&str> = subscription.split('/').collect();
    matches!(parts[..], ["projects", project, "subscriptions", name] if !project.is_empty() && !name.is_empty())
}
