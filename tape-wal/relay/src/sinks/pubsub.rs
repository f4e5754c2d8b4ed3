//! Google Cloud Pub/Sub as a sink: each event is one message of a topic.
//!
//! What the client library does, and what follows from it here:
//!
//! - It keeps a task for every ordering key it has seen, and streams are without number. So each call has a publisher of its own over the
//!   shared connection, which ends with the call; the client's state of keys never outlives it.
//! - It stops a key after a failure, so that nothing overtakes the message that failed. Later events of that stream are then behind. Within a
//!   call a key is only resumed past an event that was refused; the next call has a publisher that has stopped no key.
//! - A request is taken or refused as a whole. Where one of several messages is not valid, the request is sent again in halves, until the
//!   event that is refused stands alone.
//! - Its credentials stop refreshing after an error that they take for lasting, and a connection that swallows everything is used until the
//!   system gives it up. So a call that fails throws the client away, and the next makes another.

mod delivery;
mod failure;
mod link;
mod message;
mod settings;

pub use message::ordering_key;
pub use settings::{Content, InvalidSettings, Settings, Topic};

use crate::event::Event;
use crate::sink::{Sink, SinkError};
use async_trait::async_trait;
use delivery::Delivery;
use failure::Failure;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use link::Link;
use tokio::time::{Instant, timeout_at};

/// A topic of Pub/Sub, to which events are published.
///
/// `docs/relays.md` says what a message has. The topic must be there: [`create_topic`](Self::create_topic) makes it.
#[derive(Debug)]
pub struct PubSub {
    settings: Settings,
    link: Link,
}

impl PubSub {
    /// A sink. It connects when the first events are delivered.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let link = Link::new(&settings);
        Self { settings, link }
    }

    /// Creates the topic. Returns whether it was missing.
    ///
    /// # Errors
    /// [`SinkError::Unavailable`] where Pub/Sub does not do it now, and says why.
    pub async fn create_topic(&self) -> Result<bool, SinkError> {
        let created = self.link.create_topic(&self.settings.topic).await;
        created.map_err(|failure| failure.unavailable(&self.settings))
    }

    /// Delivers what it can by the deadline.
    async fn publish(&self, delivery: &mut Delivery<'_>, deadline: Instant) -> Result<(), Failure> {
        let late = |_| Failure::Silent(self.settings.timeout);
        let publisher = timeout_at(deadline, self.link.publisher()).await;
        let publisher = publisher.map_err(late)??;
        while delivery.is_under_way() {
            let requests = delivery.requests();
            let answers = timeout_at(deadline, send(&publisher, requests));
            let answers = answers.await.map_err(late)?;
            for key in delivery.take(answers) {
                publisher.resume_publish(key);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for PubSub {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut delivery = Delivery::new(&self.settings, events);
        let published = self.publish(&mut delivery, deadline).await;
        if let Err(failure) = published {
            delivery.fail(&failure);
        }
        if delivery.has_failed() {
            self.link.renew().await;
        }
        delivery.answers()
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.link.renew().await;
        Ok(())
    }
}

/// Sends one request for each list of messages, side by side, and waits for the answers. Messages of a list have the same key.
async fn send(publisher: &Publisher, requests: Vec<Vec<Message>>) -> Vec<Vec<Result<String, PublishError>>> {
    let publish = |messages: Vec<Message>| {
        let each = messages.into_iter().map(|message| publisher.publish(message));
        each.collect::<Vec<_>>()
    };
    let begun: Vec<_> = requests.into_iter().map(publish).collect();
    // Without it, the client waits for more messages.
    publisher.flush().await;
    let each = begun.into_iter().map(futures::future::join_all);
    futures::future::join_all(each).await
}
