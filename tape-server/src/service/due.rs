//! Due work, pushed as it becomes due.

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
use tape_store::contract::{Hint, JournalStore, PageToken, Shard};
use tokio::time::Instant;

/// Work that is still due is pushed again after this long, where the caller does not set a time.
const REPEAT: Duration = Duration::from_secs(30);
/// Work that is read at once. A caller that wants little must not make the server read the backlog of others in little pages.
const SCAN: u32 = 1024;
/// Watches that read the store at a time: every commit wakes all of them, and others must find readers of the store free.
pub(super) const LOOKS_MAX: usize = 2;
/// The shortest pause between two reads under load.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends work as it becomes due, without end.
pub(super) async fn watch(
    context: Context,
    mut watch: DueWatch,
    sink: Arc<Sink<v1::WatchDueResponse>>,
) -> Result<(), Stop> {
    watch.hints_max = DUE.of(watch.hints_max);
    let repeat = watch.repeat_ms.map_or(REPEAT, Duration::from_millis);
    let mut pushed = Pushed {
        at: HashMap::new(),
        repeat,
    };
    loop {
        let changed = context.store().changed();
        let now = context.engine().due_until().await?;
        let (due, next) = look(&context, &watch, now).await?;
        let fresh = pushed.fresh(due, Instant::now());
        for hints in chunks(
            fresh.into_iter().map(write).collect(),
            prost::Message::encoded_len,
        ) {
            sink.send(v1::WatchDueResponse { hints }).await?;
        }
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

impl Context {
    /// A page of the work that is due now.
    pub(super) async fn due_page(&self, wire: v1::ListDueRequest) -> Result<v1::ListDueResponse, Failure> {
        let list = DueList::try_from(wire)?;
        let (queue, filter) = (list.filter.queue, filter(&list.filter));
        let from = list.page_token.map(PageToken);
        let now = self
            .engine()
            .due_until()
            .await
            .map_err(|error| of_store(&error))?;
        let mut limit = DUE.of(list.page_size);
        // Names may be long: a page is read again with fewer pieces until it fits a message.
        loop {
            let page = self
                .engine()
                .due_page_of(queue, &filter, now, from.as_ref(), limit)
                .await;
            let page = page.map_err(|error| of_store(&error))?;
            let hints: Vec<v1::Hint> = page.hints.into_iter().map(write).collect();
            let bytes: usize = hints.iter().map(prost::Message::encoded_len).sum();
            if bytes <= PAGE_BYTES_MAX || limit <= 1 {
                return Ok(v1::ListDueResponse {
                    hints,
                    next_page_token: page.next.map(|token| token.0).unwrap_or_default(),
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

/// The work that is due now, and when more becomes due. Waits for its turn.
async fn look(
    context: &Context,
    watch: &DueWatch,
    now: Timestamp,
) -> Result<(Vec<Hint>, Option<Timestamp>), Stop> {
    let turn = context.0.looks.acquire().await;
    let _turn = turn.expect("the turns are never closed");
    let filter = filter(&watch.filter);
    let mut due = context.engine().outlived(watch.filter.queue).await?;
    due.retain(|hint| filter.fits(&hint.stream));
    let mut next = None;
    for shard in (0..context.store().capabilities().shards).map(Shard) {
        let (found, later) = look_at(context.store().as_ref(), shard, watch, &filter, now).await?;
        due.extend(found);
        next = next.into_iter().chain(later).min();
    }
    Ok((due, next))
}

/// The same in one shard. Work that the filter passes over does not count towards the most hints: another tenant's backlog hides none.
async fn look_at(
    store: &dyn JournalStore,
    shard: Shard,
    watch: &DueWatch,
    filter: &DueFilter,
    now: Timestamp,
) -> Result<(Vec<Hint>, Option<Timestamp>), Stop> {
    let (queue, most) = (watch.filter.queue, watch.hints_max as usize);
    let (mut due, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .due(queue, shard, Timestamp::MAX, after.as_ref(), SCAN)
            .await?;
        let whole = page.len() >= SCAN as usize;
        after = page.last().cloned();
        for hint in page {
            // Hints come in the order of their times: the first that is not due yet says when to look again.
            if hint.due > now {
                return Ok((due, Some(hint.due)));
            }
            if due.len() < most && filter.fits(&hint.stream) {
                due.push(hint);
            }
        }
        if !whole || due.len() >= most {
            return Ok((due, None));
        }
    }
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

pub(super) fn write(hint: Hint) -> v1::Hint {
    let Hint {
        stream, item, due, ..
    } = hint;
    DueHint { stream, item, due }.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::{
        Context, DueWatch, Duration, HashMap, Hint, Instant, Item, JournalStore, LOOKS_MAX, Pushed, SCAN,
        Shard, Stop, StreamId, Tenants, Timestamp, filter, look, look_at,
    };
    use crate::shutdown::Gate;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use tape_core::agenda::Queue;
    use tape_core::id::RunId;
    use tape_store::error::StoreError;
    use tape_store::layer::Layer;
    use tape_store::memory::MemoryStore;

    fn hint(tenant: &str, due: i64) -> Hint {
        Hint {
            queue: Queue::Recovery,
            stream: StreamId::Run(RunId::new(tenant, "a", "u", "s", "i").unwrap()),
            item: Item::Run,
            due: Timestamp::from_micros(due),
        }
    }

    /// Due work of one tenant behind much of another. It counts how often it is read.
    struct Backlog {
        inner: MemoryStore,
        others: i64,
        reads: AtomicU32,
    }

    #[async_trait::async_trait]
    impl Layer for Backlog {
        fn inner(&self) -> &dyn JournalStore {
            &self.inner
        }

        async fn due(
            &self,
            _: Queue,
            _: Shard,
            _: Timestamp,
            after: Option<&Hint>,
            limit: u32,
        ) -> Result<Vec<Hint>, StoreError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let from = after.map_or(0, |hint| hint.due.as_micros() + 1);
            let upto = (from + i64::from(limit)).min(self.others + 1);
            let tenant = |due| if due < self.others { "theirs" } else { "mine" };
            Ok((from..upto).map(|due| hint(tenant(due), due)).collect())
        }
    }

    /// A store whose index is read slowly. It counts how many read it at a time.
    struct Slow {
        inner: MemoryStore,
        reading: AtomicUsize,
        most: Arc<AtomicUsize>,
    }

    #[async_trait::async_trait]
    impl Layer for Slow {
        fn inner(&self) -> &dyn JournalStore {
            &self.inner
        }

        async fn due(
            &self,
            queue: Queue,
            shard: Shard,
            until: Timestamp,
            after: Option<&Hint>,
            limit: u32,
        ) -> Result<Vec<Hint>, StoreError> {
            let reading = self.reading.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(reading, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.reading.fetch_sub(1, Ordering::Relaxed);
            self.inner.due(queue, shard, until, after, limit).await
        }
    }

    fn watch_of(tenant: &str) -> DueWatch {
        DueWatch {
            filter: tape_proto::convert::DueFilter {
                queue: Queue::Recovery,
                tenants: Tenants(Some(tenant.parse().unwrap())),
                app: None,
            },
            hints_max: 1,
            repeat_ms: None,
        }
    }

    #[tokio::test]
    async fn watches_that_wake_together_read_the_store_by_turns() {
        let most = Arc::new(AtomicUsize::new(0));
        let store = Slow {
            inner: MemoryStore::new(),
            reading: AtomicUsize::new(0),
            most: Arc::clone(&most),
        };
        let engine = tape_engine::Engine::start_in(Arc::new(store), tape_environment::machine());
        let (context, watch) = (Context::new(engine, Gate::default(), 0, 1), watch_of("mine"));
        // The engine looks for outlived work by itself, at the first look alone.
        let now = context.engine().due_until().await.unwrap();
        assert!(look(&context, &watch, now).await.is_ok());
        most.store(0, Ordering::Relaxed);
        let looks = (0..50).map(|_| look(&context, &watch, now));
        assert!(futures::future::join_all(looks).await.iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::Relaxed), LOOKS_MAX);
    }

    #[tokio::test]
    async fn a_caller_that_wants_little_reads_the_backlog_of_others_in_large_pages() {
        let store = Backlog {
            inner: MemoryStore::new(),
            others: 10_000,
            reads: AtomicU32::new(0),
        };
        let watch = watch_of("mine");
        let found = look_at(&store, Shard(0), &watch, &filter(&watch.filter), Timestamp::MAX).await;
        let (due, _) = found.unwrap_or_else(|_: Stop| panic!("the store fails no call"));
        assert_eq!(due, [hint("mine", 10_000)]);
        assert_eq!(store.reads.load(Ordering::Relaxed), 10_001_u32.div_ceil(SCAN));
    }

    #[test]
    fn a_hint_is_pushed_once_until_its_time_changes_or_it_lies_too_long() {
        let hint = |due| hint("t", due);
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
