//! Looks at the work that is due, shared by all watches of a queue.
//!
//! Any commit may make work due, and only the store's index says which. So one task looks at the index after commits while there
//! are watches of its queue, and hands each watch what changed for it. The cost is that of one look, however many watches there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tape_api::query::DueFilter;
use tape_core::agenda::Queue;
use tape_core::id::Tenant;
use tape_core::time::Timestamp;
use tape_engine::Engine;
use tape_store::contract::{Hint, JournalStore, Shard};
use tape_store::error::StoreError;
use tokio::sync::{Notify, watch};

/// Work that is read at once. A caller that wants little must not make the server read the backlog of others in little pages.
pub(super) const SCAN: u32 = 1024;
/// The shortest pause between two looks. What is written comes in bursts: after it, the next look sees more of them.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The pause before the next look after an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What a look found for a watch; none before the first.
type Found = Option<Result<Arc<[Hint]>, StoreError>>;

/// The looks at all queues. Cheap to clone.
#[derive(Clone)]
pub(in crate::service) struct Looks(Arc<BTreeMap<Queue, Arc<Looker>>>);

/// Looks at one queue.
struct Looker {
    engine: Engine,
    queue: Queue,
    state: Mutex<State>,
    /// Makes it look now.
    kick: Notify,
}

#[derive(Default)]
struct State {
    is_looking: bool,
    /// The watches by the tenant that they name; none for those of all.
    groups: BTreeMap<Option<Tenant>, Vec<Arc<Group>>>,
}

/// Watches that want the same.
struct Group {
    filter: DueFilter,
    /// The most hints of a shard.
    max: u32,
    found: watch::Sender<Found>,
    /// Whether one of them asked to be told again.
    asked: AtomicBool,
}

/// One watch; once it is dropped, the next look forgets it.
pub(super) struct DueWatch {
    looker: Arc<Looker>,
    group: Arc<Group>,
    found: watch::Receiver<Found>,
}

/// What a look has for a group so far.
struct Share {
    group: Arc<Group>,
    due: Vec<Hint>,
    /// Hints that it takes of the present shard.
    room: u32,
}

type Shares = BTreeMap<Option<Tenant>, Vec<Share>>;

impl Looks {
    pub(in crate::service) fn new(engine: &Engine) -> Self {
        let looker = |queue| {
            let looker = Looker {
                engine: engine.clone(),
                queue,
                state: Mutex::default(),
                kick: Notify::new(),
            };
            (queue, Arc::new(looker))
        };
        Self(Arc::new(Queue::ALL.into_iter().map(looker).collect()))
    }

    /// Watches the work of a queue that a filter fits, at most `max` pieces of each shard.
    pub(super) fn watch(&self, queue: Queue, filter: DueFilter, max: u32) -> DueWatch {
        let looker = self.0.get(&queue).expect("it has all queues");
        let watch = looker.join(filter, max);
        watch.ask();
        watch
    }
}

impl DueWatch {
    /// All due work, once that has changed since the last call, or was asked for. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Arc<[Hint]>, StoreError> {
        loop {
            // The group has the sender.
            let _ = self.found.changed().await;
            if let Some(found) = self.found.borrow_and_update().clone() {
                return found;
            }
        }
    }

    /// Asks to be told all due work again.
    pub(super) fn ask(&self) {
        self.group.asked.store(true, Ordering::Release);
        self.looker.kick.notify_one();
    }
}

impl Looker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the watches")
    }

    fn join(self: &Arc<Self>, filter: DueFilter, max: u32) -> DueWatch {
        let mut state = self.state();
        let groups = state.groups.entry(filter.tenant.clone()).or_default();
        let same = groups
            .iter()
            .find(|group| group.max == max && group.filter == filter);
        let group = same.cloned().unwrap_or_else(|| {
            let group = Group {
                filter,
                max,
                found: watch::Sender::new(None),
                asked: AtomicBool::new(false),
            };
            let group = Arc::new(group);
            groups.push(Arc::clone(&group));
            group
        });
        // It is subscribed while the state is held, so that the group stays.
        let found = group.found.subscribe();
        if !state.is_looking {
            state.is_looking = true;
            tokio::spawn(Arc::clone(self).run());
        }
        DueWatch {
            looker: Arc::clone(self),
            group,
            found,
        }
    }

    /// Looks while there are watches.
    async fn run(self: Arc<Self>) {
        let store = Arc::clone(self.engine.store());
        while let Some(shares) = self.shares() {
            // This is requested before the look, so that a commit in between is not missed.
            let changed = store.changed();
            match self.look(shares).await {
                Ok(next) => tokio::select! {
                    biased;
                    () = changed => tokio::time::sleep(PAUSE).await,
                    () = self.kick.notified() => {}
                    () = tokio::time::sleep(next.max(PAUSE)) => {}
                },
                Err(error) => {
                    self.fail(&error);
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    /// What each group is given by the next look; none where there is no watch any more.
    fn shares(&self) -> Option<Shares> {
        let mut state = self.state();
        state.groups.retain(|_, groups| {
            groups.retain(|group| group.found.receiver_count() > 0);
            !groups.is_empty()
        });
        state.is_looking = !state.groups.is_empty();
        let share = |group: &Arc<Group>| Share {
            group: Arc::clone(group),
            due: Vec::new(),
            room: 0,
        };
        let shares = state.groups.iter();
        let shares = shares.map(|(tenant, groups)| (tenant.clone(), groups.iter().map(share).collect()));
        let shares = shares.collect();
        state.is_looking.then_some(shares)
    }

    /// Looks once, and tells those for whom something changed. Returns the time until more becomes due.
    async fn look(&self, mut shares: Shares) -> Result<Duration, StoreError> {
        let now = self.engine.due_until().await?;
        for hint in self.engine.outlived(self.queue).await? {
            deal(&mut shares, &hint, |share| share.due.push(hint.clone()));
        }
        let store = self.engine.store().as_ref();
        let mut next = None;
        for shard in (0..store.capabilities().shards).map(Shard) {
            let later = look_at(store, self.queue, shard, &mut shares, now).await?;
            next = next.into_iter().chain(later).min();
        }
        for share in shares.into_values().flatten() {
            share.group.tell(share.due);
        }
        let next = next.map(|at: Timestamp| Duration::from_millis(at.millis_since(now) + 1));
        Ok(next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY)))
    }

    fn fail(&self, error: &StoreError) {
        for group in self.state().groups.values().flatten() {
            group.found.send_replace(Some(Err(error.clone())));
        }
    }
}

impl Group {
    fn tell(&self, due: Vec<Hint>) {
        let asked = self.asked.swap(false, Ordering::AcqRel);
        let is_same = |found: &Found| matches!(found, Some(Ok(before)) if before[..] == due[..]);
        if asked || !is_same(&self.found.borrow()) {
            self.found.send_replace(Some(Ok(due.into())));
        }
    }
}

/// Calls `give` with each share that a hint is for.
fn deal(shares: &mut Shares, hint: &Hint, mut give: impl FnMut(&mut Share)) {
    for tenant in [Some(hint.stream.tenant().clone()), None] {
        for share in shares.get_mut(&tenant).into_iter().flatten() {
            if share.group.filter.fits(&hint.stream) {
                give(share);
            }
        }
    }
}

/// Looks at one shard, and returns when more becomes due there. Work that a filter passes over does not count towards its most hints: another
/// tenant's backlog hides none.
async fn look_at(
    store: &dyn JournalStore,
    queue: Queue,
    shard: Shard,
    shares: &mut Shares,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let mut open = 0;
    for share in shares.values_mut().flatten() {
        share.room = share.group.max;
        open += usize::from(share.room > 0);
    }
    let mut after = None;
    loop {
        let page = store
            .due(queue, shard, Timestamp::MAX, after.as_ref(), SCAN)
            .await?;
        let whole = page.len() >= SCAN as usize;
        after = page.last().cloned();
        for hint in page {
            // Hints come in the order of their times: the first that is not due yet says when to look again.
            if hint.due > now {
                return Ok(Some(hint.due));
            }
            deal(shares, &hint, |share| {
                if share.room > 0 {
                    share.due.push(hint.clone());
                    share.room -= 1;
                    open -= usize::from(share.room == 0);
                }
            });
        }
        if !whole || open == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::{DueFilter, Hint, JournalStore, Looks, Queue, SCAN, Shard, Timestamp};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use tape_core::agenda::Item;
    use tape_core::id::{RunId, StreamId};
    use tape_engine::Engine;
    use tape_store::error::StoreError;
    use tape_store::layer::Layer;
    use tape_store::memory::MemoryStore;

    fn hint(tenant: &str, due: i64) -> Hint {
        Hint {
            queue: Queue::Outbox,
            stream: StreamId::Run(RunId::new(tenant, "a", "u", "s", "i").unwrap()),
            item: Item::Run,
            due: Timestamp::from_micros(due),
        }
    }

    /// Due work of one tenant behind much of another. It counts how often it is read.
    struct Backlog {
        inner: MemoryStore,
        others: i64,
        reads: Arc<AtomicU32>,
    }

    #[async_trait::async_trait]
    impl Layer for Backlog {
        fn inner(&self) -> &dyn JournalStore {
            &self.inner
        }

        async fn due(
            &self,
            queue: Queue,
            _: Shard,
            _: Timestamp,
            after: Option<&Hint>,
            limit: u32,
        ) -> Result<Vec<Hint>, StoreError> {
            if queue != Queue::Outbox {
                return Ok(Vec::new());
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            let from = after.map_or(0, |hint| hint.due.as_micros() + 1);
            let upto = (from + i64::from(limit)).min(self.others + 1);
            let tenant = |due| if due < self.others { "theirs" } else { "mine" };
            Ok((from..upto).map(|due| hint(tenant(due), due)).collect())
        }
    }

    fn looks(others: i64) -> (Looks, Arc<AtomicU32>) {
        let reads = Arc::new(AtomicU32::new(0));
        let store = Backlog {
            inner: MemoryStore::new(),
            others,
            reads: Arc::clone(&reads),
        };
        let engine = Engine::start_in(Arc::new(store), tape_environment::machine());
        (Looks::new(&engine), reads)
    }

    fn of(tenant: &str) -> DueFilter {
        DueFilter {
            tenant: Some(tenant.parse().unwrap()),
            app: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_wants_little_sees_past_the_backlog_of_others_in_large_pages() {
        let (looks, reads) = looks(10_000);
        let mut watch = looks.watch(Queue::Outbox, of("mine"), 1);
        assert_eq!(watch.next().await.unwrap()[..], [hint("mine", 10_000)]);
        // The engine looks for outlived work by itself, at first alone.
        tokio::time::sleep(Duration::from_secs(1)).await;
        reads.store(0, Ordering::Relaxed);
        watch.ask();
        assert_eq!(watch.next().await.unwrap()[..], [hint("mine", 10_000)]);
        assert_eq!(reads.load(Ordering::Relaxed), 10_001_u32.div_ceil(SCAN));
    }

    #[tokio::test(start_paused = true)]
    async fn all_watches_of_a_queue_share_a_look_and_each_has_its_own() {
        let (looks, reads) = looks(5);
        let all = DueFilter::default();
        let mut first = looks.watch(Queue::Outbox, all.clone(), 100);
        assert_eq!(first.next().await.unwrap().len(), 6);
        let one = reads.swap(0, Ordering::Relaxed);
        let mut watches: Vec<_> = (0..1_000)
            .map(|n| match n % 3 {
                0 => (looks.watch(Queue::Outbox, of("mine"), 100), 1),
                1 => (looks.watch(Queue::Outbox, of("theirs"), 2), 2),
                _ => (looks.watch(Queue::Outbox, all.clone(), 100), 6),
            })
            .collect();
        for (watch, due) in &mut watches {
            assert_eq!(watch.next().await.unwrap().len(), *due);
        }
        assert!(reads.load(Ordering::Relaxed) <= one + 1);
        // What is the same is told again only where it is asked for.
        let silent = tokio::time::timeout(Duration::from_secs(3_600), watches[0].0.next());
        assert!(silent.await.is_err());
        watches[0].0.ask();
        assert_eq!(watches[0].0.next().await.unwrap().len(), 1);
        drop((first, watches));
        // The index is not looked at without a watch.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let before = reads.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(reads.load(Ordering::Relaxed), before);
    }
}
