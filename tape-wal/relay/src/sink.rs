//! Sinks: where a relay delivers events.

use crate::event::Event;
use async_trait::async_trait;
use std::fmt::Debug;
use std::time::Duration;
use tape_core::time::Timestamp;

/// Most events that a relay hands to a sink in one call.
pub const DELIVERY_EVENTS_MAX: usize = 256;
/// Most bytes of events that a relay hands to a sink in one call, unless a single event has more.
pub const DELIVERY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest reason that a sink gives, in bytes of UTF-8: reasons of refusals are recorded, and the texts of an endpoint have no bound.
pub const REASON_BYTES_MAX: usize = 1_024;

/// Another system that takes events.
///
/// # Behavior
/// - A call gets at most [`DELIVERY_EVENTS_MAX`] events and [`DELIVERY_BYTES_MAX`] bytes, or one event. Events of one stream are in order.
/// - The answer has one result for each event, in the order of the events. An answer of another length counts as a defect of the sink: the
///   relay takes none of the events as delivered.
/// - `Ok` means that the other system has the event durably, as far as it can say. The relay may then move its place past it, and the
///   event is not delivered again on purpose.
/// - Delivery is at least once. After a crash, a lost answer or a dropped future the same event comes again, with the same
///   [`id`](Event::id). A sink does not look for repetitions: consumers drop them by `id` or by stream and sequence number.
/// - Order within a stream is kept: a sink begins an event only when the event before it in the stream is confirmed or refused. Where an
///   event fails as [`Unavailable`](SinkError::Unavailable), later events of its stream in the call are not begun and answer
///   [`Behind`](SinkError::Behind). There is no order among streams, and an event that fails holds up no other stream.
///   The same holds for events after one that [waits](SinkError::Waits).
/// - Where an event fails as [`Disabled`](SinkError::Disabled), no further event of the call is begun. Those answer `Disabled` too, or
///   `Behind`.
/// - A [refused](SinkError::Refused) event holds up nothing: the sink goes on with later events of its stream.
/// - Cancellation: dropping the future may leave any of the events delivered or not delivered. It leaves the sink usable, and what was
///   confirmed by an earlier call stays confirmed.
/// - One relay calls a sink once at a time. A sink that several relays share must be safe to call concurrently; then order within a stream
///   holds within each call.
/// - A sink has its own time limits, and returns within them. A call that has not returned after five minutes is dropped, and its events count
///   as unavailable.
#[async_trait]
pub trait Sink: Debug + Send + Sync + 'static {
    /// Delivers events; see [the behavior](Sink#behavior).
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>>;

    /// The relay was claimed at a time of the journal, and calls of [`deliver`](Self::deliver) follow. A sink whose rules are about the times of
    /// entries learns the journal's clock by it: that of this machine may be any.
    fn claimed(&self, _at: Timestamp) {}

    /// Lets go of what the sink holds, such as files and connections, once no call is under way. Nothing that was confirmed depends on it,
    /// so a process that is killed without it loses nothing. Calls to [`deliver`](Self::deliver) after it answer
    /// [`Unavailable`](SinkError::Unavailable) or take up what was let go.
    ///
    /// # Errors
    /// [`SinkError`] where something could not be let go of in order.
    async fn close(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Why an event was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// It is not delivered now, or nothing is known of it; the same event is delivered again later. This is the answer to everything that
    /// may pass: no connection, no space, too many requests, a lost answer.
    #[error("not delivered, to be tried again: {reason}")]
    Unavailable {
        /// What happened, in at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
        /// How long the other system asks to wait; none where it did not say.
        retry_after: Option<Duration>,
    },
    /// It is not its time yet, by a rule of the sink's own: nothing failed. The same event is delivered again after the wait.
    #[error("not delivered yet: {reason}")]
    Waits {
        /// For what, in at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
        /// When to deliver it again. The relay waits no longer than its longest wait.
        retry_after: Duration,
    },
    /// It was not begun: an earlier event of its stream in this call failed.
    #[error("not delivered: an earlier event of the stream was not")]
    Behind,
    /// The other system will never take this event. The relay records it as refused and passes it.
    #[error("refused for good: {reason}")]
    Refused {
        /// What the other system says, in at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
    /// The sink must not be called again until a person changes something, such as a webhook whose endpoint is gone. The event is not
    /// delivered, and the relay's place stays before it.
    #[error("the sink is disabled: {reason}")]
    Disabled {
        /// Why, in at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
}

impl SinkError {
    /// [`SinkError::Unavailable`] without a hint. A longer reason is cut.
    pub fn unavailable(reason: impl std::fmt::Display) -> Self {
        Self::Unavailable {
            reason: cut(reason.to_string()),
            retry_after: None,
        }
    }

    /// [`SinkError::Refused`]. A longer reason is cut.
    pub fn refused(reason: impl std::fmt::Display) -> Self {
        Self::Refused {
            reason: cut(reason.to_string()),
        }
    }

    /// [`SinkError::Disabled`]. A longer reason is cut.
    pub fn disabled(reason: impl std::fmt::Display) -> Self {
        Self::Disabled {
            reason: cut(reason.to_string()),
        }
    }
}

/// The beginning of a reason.
fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}
