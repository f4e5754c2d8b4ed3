//! Delivering one event at a time, in order within each stream and many streams at once.

use crate::event::Event;
use crate::sink::SinkError;
use futures::stream::{self, StreamExt as _};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use tape_core::id::StreamId;

/// Delivers events by a function of one event, as [`Sink`](crate::sink::Sink#behavior) demands: the next event of a stream is begun once
/// the one before it is confirmed or refused, at most `concurrency` streams are under way at once, and nothing is begun once an event
/// answered [`Disabled`](SinkError::Disabled).
///
/// A sink whose other system takes single events needs no more than this and the function.
pub async fn by_stream<'a, F>(
    events: &'a [Event],
    concurrency: usize,
    deliver: impl Fn(&'a Event) -> F,
) -> Vec<Result<(), SinkError>>
where
    F: Future<Output = Result<(), SinkError>>,
{
    let mut streams: BTreeMap<&StreamId, Vec<usize>> = BTreeMap::new();
    for (n, event) in events.iter().enumerate() {
        streams.entry(event.stream()).or_default().push(n);
    }
    let mut answers = vec![Err(SinkError::Behind); events.len()];
    let disabled: OnceLock<SinkError> = OnceLock::new();
    let (deliver, known) = (&deliver, &disabled);
    let each = streams.into_values().map(|stream| async move {
        let mut answered = Vec::with_capacity(stream.len());
        for n in stream {
            let answer = match known.get() {
                Some(disabled) => Err(disabled.clone()),
                None => deliver(&events[n]).await,
            };
            let goes_on = matches!(answer, Ok(()) | Err(SinkError::Refused { .. }));
            if let Err(error @ SinkError::Disabled { .. }) = &answer {
                known.get_or_init(|| error.clone());
            }
            answered.push((n, answer));
            if !goes_on {
                break;
            }
        }
        answered
    });
    let mut done = stream::iter(each).buffer_unordered(concurrency.max(1));
    while let Some(answered) = done.next().await {
        for (n, answer) in answered {
            answers[n] = answer;
        }
    }
    answers
}
