//! A connector for upstreams that subscribe to a topic of Google Cloud Pub/Sub.

use super::subscriber::{Subscriber, attributes, body, ending, in_time, undoing};
use crate::connector::{Call, Connector, NotUndone, Observation};
use crate::google::{GoogleError, endpoint};
use async_trait::async_trait;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_pubsub::client::BasePublisher;
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use sha2::{Digest as _, Sha256};
use tape_core::command::AttemptOutcome;
use tape_core::id::StreamId;
use tape_core::payload::Payload;

/// Longest ordering key, in bytes.
const ORDERING_KEY_BYTES_MAX: usize = 1_024;

/// Publishes a message for each effect. Its data are the arguments, unchanged; its attributes are the headers of
/// [`HttpConnector`](crate::HttpConnector), in lower case, and the content type. The ordering key is the run.
///
/// The effect is UNKNOWN until its [`Subscriber`] confirms it: an acknowledged message says nothing to the journal. Only idempotent effects
/// are published, since a message may be delivered more than once, and is published again where an answer was lost or a worker died; its
/// subscriber has to act once under each `idempotency-key`.
#[derive(Clone, Debug)]
pub struct PubsubConnector {
    publisher: BasePublisher,
    /// `projects/PROJECT/topics/TOPIC`.
    topic: String,
    subscriber: Subscriber,
}

impl PubsubConnector {
    /// Publishes to the topic `projects/PROJECT/topics/TOPIC`, with the credentials that Google's libraries find. `emulator` is the host and
    /// port of an emulator, which is reached without credentials and without TLS. Nothing is sent before an effect is.
    ///
    /// # Errors
    /// [`GoogleError::Invalid`] where that is no name of a topic, [`GoogleError::Unreached`] where the process has no credentials.
    pub async fn open(
        topic: &str,
        emulator: Option<&str>,
        subscriber: Subscriber,
    ) -> Result<Self, GoogleError> {
        check_name(topic)?;
        // Each attempt is the journal's to repeat.
        let mut publisher = BasePublisher::builder().with_retry_policy(NeverRetry);
        if let Some((endpoint, credentials)) = endpoint(emulator) {
            publisher = publisher.with_endpoint(endpoint).with_credentials(credentials);
        }
        let publisher = publisher.build().await;
        Ok(Self {
            publisher: publisher.map_err(|error| GoogleError::Unreached(error.to_string()))?,
            topic: topic.to_owned(),
            subscriber,
        })
    }

    /// Returns the id of the message, for people.
    async fn publish(&self, call: &Call, body: Vec<u8>, is_undo: bool) -> Result<String, GoogleError> {
        let message = Message::new()
            .set_data(body)
            .set_attributes(attributes(call, is_undo))
            .set_ordering_key(ordering_key(&StreamId::Run(call.run.clone())));
        // One for each message: a publisher that is kept remembers every run, and holds back all messages of one after an error.
        let publisher = self.publisher.publisher(&self.topic);
        let publisher = publisher.set_message_count_threshold(1).build();
        match publisher.publish(message).await {
            Ok(id) => Ok(format!("message {id} to {}", self.topic)),
            Err(PublishError::Rpc(error)) => Err(GoogleError::of(&error)),
            Err(other) => Err(GoogleError::Lost(other.to_string())),
        }
    }
}

/// The run, or where its name is too long, a hash of it.
fn ordering_key(run: &StreamId) -> String {
    let name = run.to_string();
    if name.len() <= ORDERING_KEY_BYTES_MAX {
        return name;
    }
    hex::encode(Sha256::digest(name))
}

fn check_name(topic: &str) -> Result<(), GoogleError> {
    let parts: Vec<&str> = topic.split('/').collect();
    let fits =
        matches!(parts[..], ["projects", project, "topics", name] if !project.is_empty() && !name.is_empty());
    let form = "is no name of a topic, such as `projects/PROJECT/topics/TOPIC`";
    fits.then_some(())
        .ok_or_else(|| GoogleError::Invalid(form.to_owned()))
}

#[async_trait]
impl Connector for PubsubConnector {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        match body(call) {
            Ok(body) => ending(in_time(call, self.publish(call, body, false)).await),
            Err(error) => AttemptOutcome::Refused { error, detail: None },
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        self.subscriber.observe(call).await
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        match body(call) {
            Ok(body) => Err(undoing(in_time(call, self.publish(call, body, true)).await)),
            Err(error) => Err(NotUndone::Refused { error }),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        self.subscriber.observe_undo(call).await
    }
}

#[cfg(test)]
mod tests {
    use super::{ORDERING_KEY_BYTES_MAX, check_name, ordering_key};
    use tape_core::id::{RunId, StreamId};

    #[test]
    fn a_topic_is_named_in_full() {
        assert!(check_name("projects/p/topics/payments").is_ok());
        for wrong in ["", "payments", "projects/p/topics/", "projects/p/subscriptions/s"] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_ordering_key_of_a_run_fits() {
        let of = |name: &str| {
            let run = RunId::new("t", "a", name, name, name).unwrap();
            ordering_key(&StreamId::Run(run))
        };
        assert!(of("i").contains("/run/"));
        let long = "%".repeat(200);
        assert!(of(&long).len() <= ORDERING_KEY_BYTES_MAX && of(&long) != of(&"%".repeat(199)));
    }
}
