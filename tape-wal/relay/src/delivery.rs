//! Hands events to the sink until each is confirmed or refused.

use crate::counts::{Waiting, add};
use crate::event::Event;
use crate::sink::{DELIVERY_BYTES_MAX, DELIVERY_EVENTS_MAX, REASON_BYTES_MAX, Sink, SinkError};
use std::collections::BTreeSet;
use std::time::Duration;
use tape_core::id::StreamId;
use tokio_util::sync::CancellationToken;

/// A call that takes longer counts as one whose answer was lost. The sinks here end theirs sooner.
const CALL_MAX: Duration = Duration::from_secs(300);

/// The events of a batch that are neither confirmed nor refused yet.
#[derive(Debug)]
pub(crate) struct Delivery {
    left: Vec<Offered>,
    waiting: Waiting,
}

#[derive(Debug)]
struct Offered {
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
    pub(crate) fn new(events: Vec<Event>, waiting: Waiting) -> Self {
        let offered = |event| Offered { event, attempts: 0 };
        Self {
            left: events.into_iter().map(offered).collect(),
            waiting,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Offers each event that is left to the sink once, but those behind one of their stream that fails. Begins no call once it is told to stop.
    pub(crate) async fn round(&mut self, sink: &dyn Sink, stop: &CancellationToken) -> Round {
        let mut round = Round::default();
        let mut blocked = BTreeSet::new();
        let mut left = std::mem::take(&mut self.left).into_iter().peekable();
        while round.disabled.is_none() && !stop.is_cancelled() {
            let mut call = Call::default();
            while let Some(offered) = left.next_if(|offered| call.takes(&offered.event)) {
                if blocked.contains(offered.event.stream()) {
                    self.left.push(offered);
                } else {
                    call.push(offered);
                }
            }
            if call.events.is_empty() {
                break;
            }
            self.offer(sink, call, &mut round, &mut blocked).await;
        }
        self.left.extend(left);
        round
    }

    async fn offer(
        &mut self,
        sink: &dyn Sink,
        call: Call,
        round: &mut Round,
        blocked: &mut BTreeSet<StreamId>,
    ) {
        let answers = tokio::time::timeout(CALL_MAX, sink.deliver(&call.events)).await;
        let answers = answers.unwrap_or_else(|_| {
            let problem = format!("the sink has not answered for {} s", CALL_MAX.as_secs());
            failed(call.events.len(), &problem)
        });
        let answers = if answers.len() == call.events.len() {
            answers
        } else {
            let problem = format!(
                "the sink gave {} answers for {} events",
                answers.len(),
                call.events.len()
            );
            failed(call.events.len(), &problem)
        };
        let offered = call.events.into_iter().zip(call.attempts);
        for ((event, attempts), answer) in offered.zip(answers) {
            let attempts = attempts.saturating_add(1);
            match answer {
                // One that the sink confirmed out of its order comes again, after the one before it.
                Ok(()) if !blocked.contains(event.stream()) => {
                    round.confirmed += 1;
                    add(&self.waiting.counters().events_delivered, 1);
                    self.waiting.one_less();
                }
                Err(SinkError::Refused { reason }) if !blocked.contains(event.stream()) => {
                    add(&self.waiting.counters().events_refused, 1);
                    self.waiting.one_less();
                    round.refused.push(Refusal {
                        event,
                        attempts,
                        reason: said(&reason),
                    });
                }
                failed => {
                    round.note(failed.err());
                    blocked.insert(event.stream().clone());
                    add(&self.waiting.counters().events_retried, 1);
                    self.left.push(Offered { event, attempts });
                }
            }
        }
    }
}

/// The answers of a sink of which nothing is known.
fn failed(events: usize, problem: &str) -> Vec<Result<(), SinkError>> {
    (0..events)
        .map(|_| Err(SinkError::unavailable(problem)))
        .collect()
}

/// What a sink says, as it can be put on record: it may give any text.
fn said(reason: &str) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    match reason[..end].trim() {
        "" => "the sink gave no reason".to_owned(),
        reason => reason.to_owned(),
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
            Some(SinkError::Disabled { reason }) => self.disabled = Some(said(&reason)),
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
        let fits = self.bytes.saturating_add(counted(event)) <= DELIVERY_BYTES_MAX;
        self.events.is_empty() || (fits && self.events.len() < DELIVERY_EVENTS_MAX)
    }

    fn push(&mut self, offered: Offered) {
        self.bytes = self.bytes.saturating_add(counted(&offered.event));
        self.events.push(offered.event);
        self.attempts.push(offered.attempts);
    }
}

/// The bytes that an event counts for in a call: its size, or a bound of it. A bound will do where a full call has room for so many bytes of
/// each event. Only a larger one is made before a sink asks for it.
fn counted(event: &Event) -> usize {
    let most = event.size_at_most();
    if most <= DELIVERY_BYTES_MAX / DELIVERY_EVENTS_MAX {
        most
    } else {
        event.size()
    }
}
