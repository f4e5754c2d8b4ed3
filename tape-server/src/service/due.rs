//! Due work, pushed as it becomes due.

use super::read::chunks;
use super::{Context, Sink, Stop};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tape_api::argument::DUE;
use tape_core::agenda::Item;
use tape_core::id::StreamId;
use tape_core::time::Timestamp;
use tape_proto::convert::DueQuery;
use tape_proto::v1;
use tape_store::contract::{Hint, PageToken, Shard};
use tokio::time::Instant;

/// Work that is still due is pushed again after this long, where the caller does not set a time.
const REPEAT: Duration = Duration::from_secs(30);
/// The shortest pause between two reads under load.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends hints without end, or a page of them.
pub(super) async fn serve(
    context: Context,
    mut query: DueQuery,
    sink: Arc<Sink<v1::DueResponse>>,
) -> Result<(), Stop> {
    query.limit = DUE.of(query.limit);
    if query.once {
        return page(&context, query, &sink).await;
    }
    let repeat = query.repeat_ms.map_or(REPEAT, Duration::from_millis);
    let mut pushed = Pushed {
        at: HashMap::new(),
        repeat,
    };
    loop {
        let changed = context.store().changed();
        let now = context.engine().due_until().await?;
        let (due, next) = look(&context, &query, now).await?;
        let fresh = pushed.fresh(due, Instant::now());
        send(&sink, fresh, String::new()).await?;
        let next = next.map_or(repeat, |at| {
            Duration::from_millis(at.millis_since(now) + 1).min(repeat)
        });
        tokio::select! {
            // What is written comes in bursts: the pause after it lets the next look see more of them.
            biased;
            () = changed => tokio::time::sleep(PAUSE).await,
            () = tokio::time::sleep(next.max(PAUSE)) => {}
        }
    }
}

/// Sends the work due now, from the caller's place on.
async fn page(context: &Context, query: DueQuery, sink: &Sink<v1::DueResponse>) -> Result<(), Stop> {
    let from = query.page_token.map(PageToken);
    let now = context.engine().due_until().await?;
    let page = context
        .engine()
        .due_page(query.queue, now, from.as_ref(), query.limit);
    let page = page.await?;
    let next = page.next.map(|token| token.0).unwrap_or_default();
    if page.hints.is_empty() {
        let hints = Vec::new();
        return sink
            .send(v1::DueResponse {
                hints,
                next_page_token: next,
            })
            .await;
    }
    send(sink, page.hints, next).await
}

/// Sends hints in messages of bounded size; the last one has the token.
async fn send(sink: &Sink<v1::DueResponse>, hints: Vec<Hint>, next: String) -> Result<(), Stop> {
    let hints: Vec<v1::Hint> = hints.into_iter().map(write).collect();
    let mut left = chunks(hints, prost::Message::encoded_len).into_iter().peekable();
    while let Some(hints) = left.next() {
        let next_page_token = if left.peek().is_none() {
            next.clone()
        } else {
            String::new()
        };
        sink.send(v1::DueResponse {
            hints,
            next_page_token,
        })
        .await?;
    }
    Ok(())
}

/// The work that is due now, and when more becomes due.
async fn look(
    context: &Context,
    query: &DueQuery,
    now: Timestamp,
) -> Result<(Vec<Hint>, Option<Timestamp>), Stop> {
    let (mut due, mut next) = (context.engine().outlived(query.queue).await?, None);
    for shard in (0..context.store().capabilities().shards).map(Shard) {
        // Hints come in the order of their times: the first that is not due yet says when to look again.
        let hints = context
            .store()
            .due(query.queue, shard, Timestamp::MAX, None, query.limit)
            .await?;
        let (ripe, later): (Vec<_>, Vec<_>) = hints.into_iter().partition(|hint| hint.due <= now);
        due.extend(ripe);
        next = next.into_iter().chain(later.first().map(|hint| hint.due)).min();
    }
    Ok((due, next))
}

/// The pushed work that is still due.
struct Pushed {
    at: HashMap<(StreamId, Item), (Timestamp, Instant)>,
    repeat: Duration,
}

impl Pushed {
    /// The work that was not pushed yet with this time, or long ago. Forgets work that is no longer due, so this never grows beyond one
    /// read.
    fn fresh(&mut self, due: Vec<Hint>, now: Instant) -> Vec<Hint> {
        let mut before = std::mem::take(&mut self.at);
        let mut fresh = Vec::new();
        for hint in due {
            let key = (hint.stream.clone(), hint.item.clone());
            let last = before
                .remove(&key)
                .filter(|(at, pushed)| *at == hint.due && now - *pushed < self.repeat);
            self.at.insert(key, last.unwrap_or((hint.due, now)));
            if last.is_none() {
                fresh.push(hint);
            }
        }
        fresh
    }
}

fn write(hint: Hint) -> v1::Hint {
    v1::Hint {
        stream: hint.stream.to_string(),
        item: hint.item.to_string(),
        due_us: hint.due.as_micros(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, HashMap, Hint, Instant, Item, Pushed, StreamId, Timestamp};
    use tape_core::agenda::Queue;
    use tape_core::id::RunId;

    #[test]
    fn a_hint_is_pushed_once_until_its_time_changes_or_it_lies_too_long() {
        let stream = StreamId::Run(RunId::new("t", "a", "u", "s", "i").unwrap());
        let hint = |due| Hint {
            queue: Queue::Recovery,
            stream: stream.clone(),
            item: Item::Run,
            due: Timestamp::from_micros(due),
        };
        let mut pushed = Pushed {
            at: HashMap::new(),
            repeat: Duration::from_secs(1),
        };
        let start = Instant::now();
        assert_eq!(pushed.fresh(vec![hint(1)], start).len(), 1);
        assert_eq!(pushed.fresh(vec![hint(1)], start).len(), 0);
        assert_eq!(pushed.fresh(vec![hint(2)], start).len(), 1);
        assert_eq!(
            pushed.fresh(vec![hint(2)], start + Duration::from_secs(1)).len(),
            1
        );
        assert_eq!(pushed.fresh(Vec::new(), start).len(), 0);
        assert!(pushed.at.is_empty());
    }
}
