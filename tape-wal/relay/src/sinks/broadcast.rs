//! Events for parts of the same process.

use crate::event::Event;
use crate::sink::{Sink, SinkError};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

/// Most events that a broadcast keeps for its subscribers.
pub const CAPACITY_MAX: usize = 65_536;

/// Gives every event to all subscribers of this process.
///
/// An event is confirmed once it is in the queue. Nothing is durable: a subscriber gets what is delivered from its subscription on, and
/// events that are delivered while there is none are gone. What must not be missed needs a sink of its own, or a reader of the feed.
#[derive(Clone, Debug)]
pub struct Broadcast {
    events: broadcast::Sender<Arc<Event>>,
}

/// What a subscriber gets.
#[derive(Debug)]
pub struct Subscription {
    events: broadcast::Receiver<Arc<Event>>,
}

/// Why a subscriber has no next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The subscriber was too slow, and the queue is full: these oldest events are dropped. The next call has the oldest one that is left.
    #[error("the subscriber was too slow and missed {events} events")]
    Missed {
        /// How many.
        events: u64,
    },
    /// The broadcast is gone.
    #[error("the broadcast has ended")]
    Ended,
}

/// A capacity that a broadcast cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a broadcast keeps 1 to {CAPACITY_MAX} events, not {0}")]
pub struct InvalidCapacity(usize);

impl Broadcast {
    /// A broadcast that keeps at least `capacity` events for subscribers that are slower than the relay.
    ///
    /// # Errors
    /// [`InvalidCapacity`] where that is zero or above [`CAPACITY_MAX`].
    pub fn new(capacity: usize) -> Result<Self, InvalidCapacity> {
        if !(1..=CAPACITY_MAX).contains(&capacity) {
            return Err(InvalidCapacity(capacity));
        }
        let (events, _) = broadcast::channel(capacity);
        Ok(Self { events })
    }

    /// Everything that is delivered from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        let events = self.events.subscribe();
        Subscription { events }
    }
}

impl Subscription {
    /// The next event; waits for one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`SubscriptionError::Missed`] once, where events were dropped; [`SubscriptionError::Ended`] after the last event.
    pub async fn next(&mut self) -> Result<Arc<Event>, SubscriptionError> {
        self.events.recv().await.map_err(|error| match error {
            RecvError::Lagged(events) => SubscriptionError::Missed { events },
            RecvError::Closed => SubscriptionError::Ended,
        })
    }
}

#[async_trait]
impl Sink for Broadcast {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        for event in events {
            // An error says that there is no subscriber.
            drop(self.events.send(Arc::new(event.clone())));
        }
        vec![Ok(()); events.len()]
    }
}
