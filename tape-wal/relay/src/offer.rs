//! One call of the sink.

use crate::delivery::Offered;
use crate::event::Event;
use crate::sink::{DELIVERY_BYTES_MAX, DELIVERY_EVENTS_MAX, REASON_BYTES_MAX, Sink, SinkError};
use crate::window::PageId;
use std::time::Duration;

/// A call that takes longer counts as one whose answer was lost. The sinks here end theirs sooner.
const CALL_MAX: Duration = Duration::from_secs(300);

/// Events for one call of a sink.
#[derive(Debug, Default)]
pub(crate) struct Call {
    events: Vec<Event>,
    sent: Vec<(u32, PageId)>,
    /// So many of them, the first, are of streams that are held.
    probes: usize,
    bytes: usize,
}

impl Call {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn takes(&self, event: &Event) -> bool {
        let fits = self.bytes.saturating_add(counted(event)) <= DELIVERY_BYTES_MAX;
        self.events.is_empty() || (fits && self.events.len() < DELIVERY_EVENTS_MAX)
    }

    pub(crate) fn push(&mut self, offered: Offered) {
        self.bytes = self.bytes.saturating_add(counted(&offered.event));
        self.events.push(offered.event);
        self.sent.push((offered.attempts, offered.page));
    }

    /// Whether it takes an event of a stream that is held. These have half of a call at most, so that what fails leaves room for others.
    pub(crate) fn takes_probe(&self, event: &Event) -> bool {
        let fits = self.bytes.saturating_add(counted(event)) <= DELIVERY_BYTES_MAX / 2;
        self.events.is_empty() || (fits && self.events.len() < DELIVERY_EVENTS_MAX / 2)
    }

    /// Adds the first event of a stream that is held, before all others.
    pub(crate) fn push_probe(&mut self, offered: Offered) {
        self.push(offered);
        self.probes += 1;
    }

    /// Offers the events to the sink: an answer for each.
    pub(crate) async fn offer(&self, sink: &dyn Sink) -> Vec<Result<(), SinkError>> {
        let answers = tokio::time::timeout(CALL_MAX, sink.deliver(&self.events)).await;
        let problem = match answers {
            Ok(answers) if answers.len() == self.events.len() => return answers,
            Ok(answers) => format!(
                "the sink gave {} answers for {} events",
                answers.len(),
                self.events.len()
            ),
            Err(_) => format!("the sink has not answered for {} s", CALL_MAX.as_secs()),
        };
        let failed = |_: &Event| Err(SinkError::unavailable(&problem));
        self.events.iter().map(failed).collect()
    }

    /// The events, each with whether it is the first of a stream that is held.
    pub(crate) fn into_offered(self) -> impl Iterator<Item = (Offered, bool)> {
        let probes = self.probes;
        let sent = self.events.into_iter().zip(self.sent).enumerate();
        sent.map(move |(n, (event, (attempts, page)))| {
            let offered = Offered {
                event,
                attempts,
                page,
            };
            (offered, n < probes)
        })
    }
}

/// What a sink says, as it can be put on record: it may give any text.
pub(crate) fn said(reason: &str) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    match reason[..end].trim() {
        "" => "the sink gave no reason".to_owned(),
        reason => reason.to_owned(),
    }
}

/// The bytes that an event counts for: its size, or a bound of it. A bound will do where a full call has room for so many bytes of each event.
/// Only a larger one is made before a sink asks for it.
pub(crate) fn counted(event: &Event) -> usize {
    let most = event.size_at_most();
    if most <= DELIVERY_BYTES_MAX / DELIVERY_EVENTS_MAX {
        most
    } else {
        event.size()
    }
}
