//! Hands events to the sink until each is confirmed or refused.

use crate::counts::{Counters, add, change};
use crate::event::Event;
use crate::sink::{DELIVERY_BYTES_MAX, DELIVERY_EVENTS_MAX, Sink, SinkError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::StreamId;

/// The events of a batch that are neither confirmed nor refused yet.
#[derive(Debug)]
pub(crate) struct Delivery {
    left: Vec<Waiting>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    attempts: u32,
}

/// An event that the sink refused for good.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) event: Event,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
}

/// What came of offering each event once.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) confirmed: u64,
    pub(crate) refused: Vec<Refusal>,
    /// Why events are left; none where none is.
    pub(crate) failure: Option<String>,
    /// For what the sink waits, where nothing failed with some events that are left.
    pub(crate) waits: Option<String>,
    /// How long the sink asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// Why the sink must not be called again.
    pub(crate) disabled: Option<String>,
}

impl Delivery {
    pub(crate) fn new(events: Vec<Event>, counters: Arc<Counters>) -> Self {
        let waiting = |event| Waiting { event, attempts: 0 };
        Self {
            left: events.into_iter().map(waiting).collect(),
            counters,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Offers each event that is left to the sink once, but those behind one of their stream that fails.
    pub(crate) async fn round(&mut self, sink: &dyn Sink) -> Round {
        let mut round = Round::default();
        let mut blocked = BTreeSet::new();
        let mut offered = std::mem::take(&mut self.left).into_iter().peekable();
        while round.disabled.is_none() {
            let mut call = Call::default();
            while let Some(waiting) = offered.next_if(|waiting| call.takes(&waiting.event)) {
                if blocked.contains(waiting.event.stream()) {
                    self.left.push(waiting);
                } else {
                    call.push(waiting);
                }
            }
            if call.events.is_empty() {
                break;
            }
            self.offer(sink, call, &mut round, &mut blocked).await;
        }
        self.left.extend(offered);
        round
    }

    async fn offer(
        &mut self,
        sink: &dyn Sink,
        call: Call,
        round: &mut Round,
        blocked: &mut BTreeSet<StreamId>,
    ) {
        let answers = sink.deliver(&call.events).await;
        let answers = if answers.len() == call.events.len() {
            answers
        } else {
            let problem = format!(
                "the sink gave {} answers for {} events",
                answers.len(),
                call.events.len()
            );
            call.events
                .iter()
                .map(|_| Err(SinkError::unavailable(&problem)))
                .collect()
        };
        let offered = call.events.into_iter().zip(call.attempts);
        for ((event, attempts), answer) in offered.zip(answers) {
            let attempts = attempts.saturating_add(1);
            match answer {
                // One that the sink confirmed out of its order comes again, after the one before it.
                Ok(()) if !blocked.contains(event.stream()) => {
                    round.confirmed += 1;
                    add(&self.counters.events_delivered, 1);
                    change(&self.counters.events_waiting, -1);
                }
                Err(SinkError::Refused { reason }) if !blocked.contains(event.stream()) => {
                    add(&self.counters.events_refused, 1);
                    change(&self.counters.events_waiting, -1);
                    round.refused.push(Refusal {
                        event,
                        attempts,
                        reason,
                    });
                }
                failed => {
                    round.note(failed.err());
                    blocked.insert(event.stream().clone());
                    add(&self.counters.events_retried, 1);
                    self.left.push(Waiting { event, attempts });
                }
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let left = i64::try_from(self.left.len()).unwrap_or(i64::MAX);
        change(&self.counters.events_waiting, -left);
    }
}

impl Round {
    fn note(&mut self, failure: Option<SinkError>) {
        match failure {
            Some(SinkError::Unavailable { reason, retry_after }) => {
                self.retry_after = self.retry_after.max(retry_after);
                self.failure = Some(reason);
            }
            Some(SinkError::Waits { reason, retry_after }) => {
                self.retry_after = self.retry_after.max(Some(retry_after));
                self.waits = Some(reason);
            }
            // Behind one that waits, as far as nothing else failed.
            Some(SinkError::Behind) if self.waits.is_some() => {}
            Some(SinkError::Disabled { reason }) => self.disabled = Some(reason),
            other => {
                let other =
                    other.map_or_else(|| "its order was not kept".to_owned(), |error| error.to_string());
                self.failure.get_or_insert(other);
            }
        }
    }
}

/// Events for one call of a sink.
#[derive(Default)]
struct Call {
    events: Vec<Event>,
    attempts: Vec<u32>,
    bytes: usize,
}

impl Call {
    fn takes(&self, event: &Event) -> bool {
        let fits = self.bytes.saturating_add(event.size()) <= DELIVERY_BYTES_MAX;
        self.events.is_empty() || (fits && self.events.len() < DELIVERY_EVENTS_MAX)
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes = self.bytes.saturating_add(waiting.event.size());
        self.events.push(waiting.event);
        self.attempts.push(waiting.attempts);
    }
}
