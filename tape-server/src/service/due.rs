//! Due work, pushed as it becomes due.

mod looks;

pub(super) use looks::Looks;

use super::read::{chunks, named};
use super::{Context, PAGE_BYTES_MAX, Sink, Stop};
use crate::failure::{of_query, of_store};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tape_api::argument::DUE;
use tape_api::query::{DueFilter, QueueSummary};
use tape_core::agenda::Item;
use tape_core::id::StreamId;
use tape_core::time::Timestamp;
use tape_proto::convert::{DueHint, DueList, DueWatch, Tenants};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_store::contract::{Hint, PageToken};
use tokio::time::Instant;

/// Work that is still due is pushed again after this long, where the caller does not set a time.
const REPEAT: Duration = Duration::from_secs(30);
/// Sends work as it becomes due, without end.
pub(super) async fn watch(
    context: Context,
    watch: DueWatch,
    sink: Arc<Sink<v1::WatchDueResponse>>,
) -> Result<(), Stop> {
    let (queue, filter, max) = (watch.filter.queue, filter(&watch.filter), DUE.of(watch.hints_max));
    let mut pushed = Pushed {
        at: HashMap::new(),
        repeat: watch.repeat_ms.map_or(REPEAT, Duration::from_millis),
    };
    let mut watch = context.0.looks.watch(queue, filter, max);
    loop {
        let due = match pushed.repeat_at() {
            None => watch.next().await?,
            Some(at) => match tokio::time::timeout_at(at, watch.next()).await {
                Ok(due) => due?,
                Err(_) => {
                    watch.ask();
                    watch.next().await?
                }
            },
        };
        let fresh = pushed.fresh(due.to_vec(), Instant::now());
        let hints = fresh.into_iter().map(write).collect();
        for hints in chunks(hints, prost::Message::encoded_len) {
            sink.send(v1::WatchDueResponse { hints }).await?;
        }
    }
}

impl Context {
    /// A page of the work that is due now, or also of what becomes due later.
    pub(super) async fn due_page(&self, wire: v1::ListDueRequest) -> Result<v1::ListDueResponse, Failure> {
        let list = DueList::try_from(wire)?;
        let (queue, filter) = (list.filter.queue, filter(&list.filter));
        let from = list.page_token.map(PageToken);
        let now = self.engine().due_until().await;
        let now = now.map_err(|error| of_store(&error))?;
        let until = if list.pending { Timestamp::MAX } else { now };
        let mut limit = DUE.of(list.page_size);
        // Names may be long: a page is read again with fewer pieces until it fits a message.
        loop {
            let page = self
                .engine()
                .due_page_of(queue, &filter, until, from.as_ref(), limit)
                .await;
            let page = page.map_err(|error| of_store(&error))?;
            let hints: Vec<v1::Hint> = page.hints.into_iter().map(write).collect();
            let bytes: usize = hints.iter().map(prost::Message::encoded_len).sum();
            if bytes <= PAGE_BYTES_MAX || limit <= 1 {
                return Ok(v1::ListDueResponse {
                    hints,
                    next_page_token: page.next.map(|token| token.0).unwrap_or_default(),
                    now_us: Some(now.as_micros()),
                });
            }
            limit /= 2;
        }
    }

    /// How much work of each queue is due.
    pub(super) async fn queues(
        &self,
        wire: v1::ListQueuesRequest,
    ) -> Result<v1::ListQueuesResponse, Failure> {
        let Tenants(tenant) = named("tenants", wire.tenants)?;
        let queues = self.engine().queues(tenant.as_ref()).await.map_err(of_query)?;
        let summary = |summary: QueueSummary| v1::list_queues_response::QueueSummary {
            queue: v1::Queue::from(summary.queue).into(),
            due: summary.due,
            more: summary.more,
            oldest_due_us: summary.oldest_due.map(Timestamp::as_micros),
        };
        Ok(v1::ListQueuesResponse {
            queues: queues.into_iter().map(summary).collect(),
        })
    }
}

fn filter(wire: &tape_proto::convert::DueFilter) -> DueFilter {
    DueFilter {
        tenant: wire.tenants.0.clone(),
        app: wire.app.clone(),
    }
}

/// The pushed work that is still due.
struct Pushed {
    at: HashMap<(StreamId, Item), (Timestamp, Instant)>,
    repeat: Duration,
}

impl Pushed {
    /// When some of it is to be pushed again; none where there is nothing.
    fn repeat_at(&self) -> Option<Instant> {
        let first = self.at.values().map(|(_, pushed)| *pushed).min();
        first.map(|pushed| pushed + self.repeat)
    }

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

pub(super) fn write(hint: Hint) -> v1::Hint {
    let Hint {
        stream, item, due, ..
    } = hint;
    DueHint { stream, item, due }.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::{Duration, HashMap, Hint, Instant, Pushed, StreamId, Timestamp};
    use tape_core::agenda::{Item, Queue};
    use tape_core::id::RunId;

    #[test]
    fn a_hint_is_pushed_once_until_its_time_changes_or_it_lies_too_long() {
        let hint = |due| Hint {
            queue: Queue::Recovery,
            stream: StreamId::Run(RunId::new("t", "a", "u", "s", "i").unwrap()),
            item: Item::Run,
            due: Timestamp::from_micros(due),
        };
        let mut pushed = Pushed {
            at: HashMap::new(),
            repeat: Duration::from_secs(1),
        };
        let start = Instant::now();
        assert_eq!(pushed.repeat_at(), None);
        assert_eq!(pushed.fresh(vec![hint(1)], start).len(), 1);
        assert_eq!(pushed.repeat_at(), Some(start + Duration::from_secs(1)));
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
