//! Where relays are, over stores that read slowly, that change meanwhile, or that have what this build cannot read.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tape_api::relays::{ClaimAnswer, Control, LAG_ENTRIES_MAX, Lag, MoveAnswer, PartStatus, PlaceQuery};
use tape_api::{JournalError, Relays as _};
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Epoch, Holder, RelayPart, Tenant, ValueName};
use tape_core::limits::RELAYS_MAX;
use tape_core::payload::Payload;
use tape_core::relay::Progress;
use tape_core::reply::{Limit, Rejection};
use tape_engine::Engine;
use tape_store::contract::{Cursor, JournalStore, Shard, TailPage};
use tape_store::cursors::{CursorStore, Record, Swap};
use tape_store::error::StoreError;
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;

/// Longer than any test.
const LEASE: Duration = Duration::from_secs(600);

fn part(name: &str) -> RelayPart {
    name.parse().unwrap()
}

async fn claim(engine: &Engine, name: &str) -> Epoch {
    let claim = engine.claim(&part(name), &Holder::new("a").unwrap(), LEASE).await;
    let ClaimAnswer::Claimed { epoch, .. } = claim.unwrap() else {
        panic!("{name} is free");
    };
    epoch
}

async fn go_to(engine: &Engine, name: &str, epoch: Epoch, shards: &[u16]) {
    let progress = Progress {
        cursors: shards.iter().map(|shard| (*shard, Bytes::new())).collect(),
        ..Progress::default()
    };
    let moved = engine.advance(&part(name), epoch, progress, LEASE).await.unwrap();
    assert_eq!(moved, MoveAnswer::Moved);
}

async fn begin(engine: &Engine, name: &str, shards: &[u16]) {
    let epoch = claim(engine, name).await;
    go_to(engine, name, epoch, shards).await;
}

async fn control(engine: &Engine, relay: &str, control: Control) -> (u64, usize) {
    let done = engine.control(&relay.parse().unwrap(), &control).await.unwrap();
    (done.parts, done.unreadable.len())
}

async fn status(engine: &Engine, name: &str) -> PartStatus {
    let page = engine.places(&PlaceQuery::All, None, 64).await.unwrap();
    let found = page.parts.into_iter().find(|status| status.part == part(name));
    found.unwrap()
}

async fn put(engine: &Engine, tenant: &str, name: &str, bytes: usize) {
    let command = ValueCommand::Put {
        value: Payload::new("text/plain", vec![b'x'; bytes]).unwrap(),
        expected: None,
    };
    let command = Command::new(engine.request_id(), command);
    let (tenant, name) = (Tenant::new(tenant).unwrap(), ValueName::new(name).unwrap());
    engine.value(&tenant, &name, command).await.unwrap();
}

/// Writes a stream of each name at once.
async fn put_all(engine: &Engine, tenant: &str, names: usize, bytes: usize) {
    let names: Vec<String> = (0..names).map(|name| format!("v{name}")).collect();
    let puts = names.iter().map(|name| put(engine, tenant, name, bytes));
    futures::future::join_all(puts).await;
}

/// Counts the entries of the feed that are read, and their bytes.
struct Counted(MemoryStore, Arc<(AtomicUsize, AtomicUsize)>);

#[async_trait]
impl Layer for Counted {
    fn inner(&self) -> &dyn JournalStore {
        &self.0
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        let page = self.0.tail(shard, cursor, limit).await?;
        self.1.0.fetch_add(page.entries.len(), SeqCst);
        let bytes = page.entries.iter().map(|feed| feed.entry.size());
        self.1.1.fetch_add(bytes.sum(), SeqCst);
        Ok(page)
    }
}

fn counted() -> (Engine, Arc<(AtomicUsize, AtomicUsize)>) {
    let read = Arc::default();
    let store = Counted(MemoryStore::with_shards(2), Arc::clone(&read));
    (Engine::start(Arc::new(store)), read)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_quiet_tenant_does_not_read_what_all_others_wrote() {
    let (engine, read) = counted();
    put(&engine, "acme", "first", 1).await;
    for _ in 0..60 {
        put_all(&engine, "flood", 200, 1).await;
    }
    put(&engine, "acme", "last", 1).await;
    begin(&engine, "acme/quiet/0", &[0, 1]).await;
    begin(&engine, "*/lake/0", &[0, 1]).await;
    read.0.store(0, SeqCst);
    let quiet = status(&engine, "acme/quiet/0").await.lag.unwrap();
    let of_both = read.0.load(SeqCst);
    // And one entry of a shard, which says that there is more.
    let max = usize::try_from(LAG_ENTRIES_MAX).unwrap();
    assert!(of_both <= 2 * (max + 1), "{of_both} entries were read");
    assert!(quiet.is_more, "{quiet:?}");
    assert_eq!(quiet.entries, 1, "the last is further on");
    let lake = status(&engine, "*/lake/0").await.lag.unwrap();
    assert_eq!((lake.entries, lake.is_more), (LAG_ENTRIES_MAX, true));
    assert_eq!(lake.oldest, quiet.oldest, "of both shards, the oldest is found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_relay_does_not_read_large_payloads_without_end() {
    let (engine, read) = counted();
    for _ in 0..4 {
        put_all(&engine, "flood", 64, 256 * 1024).await;
    }
    begin(&engine, "*/lake/0", &[0, 1]).await;
    read.1.store(0, SeqCst);
    let lag = status(&engine, "*/lake/0").await.lag.unwrap();
    assert!(lag.is_more && lag.entries > 0, "{lag:?}");
    let read = read.1.load(SeqCst);
    assert!(read <= 32 * 1024 * 1024, "{read} of 64 MiB were read");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_part_is_told_to_its_last_entry() {
    let (engine, _) = counted();
    put_all(&engine, "acme", 150, 1).await;
    put_all(&engine, "other", 150, 1).await;
    for (name, entries) in [("acme/lake/0", 150), ("*/lake/0", 300), ("none/lake/0", 0)] {
        begin(&engine, name, &[0, 1]).await;
        let Lag {
            entries: counted,
            is_more,
            oldest,
            ..
        } = status(&engine, name).await.lag.unwrap();
        assert_eq!(
            (counted, is_more, oldest.is_some()),
            (entries, false, entries > 0),
            "{name}"
        );
    }
}

/// A store one of whose parts moves right after its record was listed, and one of whose shards cannot be read.
struct Meddled {
    inner: MemoryStore,
    engine: OnceLock<Engine>,
    moves: OnceLock<Epoch>,
    is_cut: OnceLock<Shard>,
}

impl Meddled {
    fn new() -> (Arc<Self>, Engine) {
        let meddled = Arc::new(Self {
            inner: MemoryStore::with_shards(2),
            engine: OnceLock::new(),
            moves: OnceLock::new(),
            is_cut: OnceLock::new(),
        });
        let engine = Engine::start(Arc::new(Store(Arc::clone(&meddled))));
        drop(meddled.engine.set(engine.clone()));
        (meddled, engine)
    }

    async fn write(&self, name: &str, text: &'static str) {
        let record = Record {
            version: 1,
            bytes: Bytes::from_static(text.as_bytes()),
        };
        let made = self.inner.cursors().swap_record(name, &Swap::Make(record)).await;
        assert!(made.unwrap());
    }
}

#[async_trait]
impl CursorStore for Meddled {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        self.inner.cursors().record(name).await
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        self.inner.cursors().swap_record(name, swap).await
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let listed = self.inner.cursors().records(prefix, after, limit).await;
        if let (Some(engine), Some(epoch)) = (self.engine.get(), self.moves.get())
            && listed.as_ref().is_ok_and(|listed| !listed.is_empty())
        {
            let progress = Progress {
                cursors: [(1, Bytes::new())].into(),
                ..Progress::default()
            };
            // After the reset it is fenced.
            engine
                .advance(&part("acme/lake/0"), *epoch, progress, LEASE)
                .await
                .unwrap();
        }
        listed
    }
}

/// The store with its records.
struct Store(Arc<Meddled>);

#[async_trait]
impl Layer for Store {
    fn inner(&self) -> &dyn JournalStore {
        &self.0.inner
    }

    fn cursors(&self) -> &dyn CursorStore {
        &*self.0
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        if self.0.is_cut.get() == Some(&shard) {
            return Err(StoreError::unavailable(
                "reads the feed",
                "the shard is out of reach",
            ));
        }
        self.0.inner.tail(shard, cursor, limit).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_keeps_the_shard_that_the_part_began_meanwhile() {
    let (store, engine) = Meddled::new();
    let epoch = claim(&engine, "acme/lake/0").await;
    go_to(&engine, "acme/lake/0", epoch, &[0]).await;
    // Not alone, so it does not carry all shards.
    claim(&engine, "acme/lake/1").await;
    store.moves.set(epoch).unwrap();
    assert_eq!(control(&engine, "acme/lake", Control::ToBeginning).await, (2, 0));
    let record = store.record("relay/acme/lake/0").await.unwrap().unwrap();
    let text = String::from_utf8(record.bytes.to_vec()).unwrap();
    assert!(text.contains(r#""cursors":{"0":"","1":""}"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_cannot_be_read_hides_no_other_part() {
    let (store, engine) = Meddled::new();
    for name in ["a/lake/1", "b/lake/0"] {
        begin(&engine, name, &[part(name).part]).await;
    }
    store.is_cut.set(Shard(1)).unwrap();
    let cut = status(&engine, "a/lake/1").await.lag;
    assert!(
        cut.clone().is_err_and(|problem| problem.contains("out of reach")),
        "{cut:?}"
    );
    assert_eq!(status(&engine, "b/lake/0").await.lag, Ok(Lag::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_keeps_no_other_part_from_what_is_done_and_can_be_forgotten() {
    let (store, engine) = Meddled::new();
    for name in ["t/lake/0", "t/lake/1"] {
        begin(&engine, name, &[part(name).part]).await;
    }
    store.write("relay/t/lake/00", "no part has this name").await;
    store
        .write("relay/t/lake/2", r#"{"form":2,"place":"of a newer build"}"#)
        .await;
    let reason = "maintenance".to_owned();
    assert_eq!(
        control(&engine, "t/lake", Control::Disable { reason }).await,
        (2, 2)
    );
    assert!(status(&engine, "t/lake/1").await.place.disabled.is_some());
    assert_eq!(control(&engine, "t/lake", Control::ToEnd).await, (2, 2));
    assert_eq!(control(&engine, "t/lake", Control::Enable).await, (2, 2));
    assert!(status(&engine, "t/lake/1").await.place.disabled.is_none());
    assert_eq!(control(&engine, "t/lake", Control::Forget).await, (4, 0));
    let page = engine.places(&PlaceQuery::All, None, 64).await.unwrap();
    assert!(page.parts.is_empty() && page.unreadable.is_empty(), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_of_no_relay_is_removed_by_its_name() {
    let (store, engine) = Meddled::new();
    begin(&engine, "t/lake/0", &[0]).await;
    let strays = ["relay/nonsense", "relay/t/la.ke/0", "relay/t/lake/00"];
    for name in strays {
        store.write(name, "no relay has this name").await;
    }
    store.write("others/x", "not of a relay").await;
    for name in strays {
        assert!(engine.forget_record(name).await.unwrap());
        assert!(!engine.forget_record(name).await.unwrap(), "it is gone");
    }
    for (wrong, problem) in [
        ("relay/t/lake/0", "record: can be read: forget its relay"),
        ("others/x", "record: is not the name of a record of a relay"),
        ("", "record: is not the name of a record of a relay"),
    ] {
        let refused = engine.forget_record(wrong).await.unwrap_err();
        assert!(
            matches!(&refused, JournalError::Invalid(said) if said == problem),
            "{refused:?}"
        );
    }
    assert!(store.record("others/x").await.unwrap().is_some());
    let page = engine.places(&PlaceQuery::All, None, 64).await.unwrap();
    assert_eq!((page.parts.len(), page.unreadable.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_so_many_relays_and_no_more_whatever_others_have() {
    let (engine, _) = counted();
    for n in 0..RELAYS_MAX {
        claim(&engine, &format!("acme/lake-{n}/0")).await;
    }
    let holder = Holder::new("a").unwrap();
    let one_more = engine.claim(&part("acme/one-more/0"), &holder, LEASE).await;
    let Err(JournalError::Rejected(Rejection::LimitExceeded { limit, max, given })) = one_more else {
        panic!("{one_more:?}");
    };
    assert_eq!((limit, max, given), (Limit::Relays, 512, 513));
    // What they have stays theirs, with its other parts. Other tenants have their own room.
    for name in ["acme/lake-7/0", "acme/lake-7/1", "acm/one-more/0", "*/one-more/0"] {
        claim(&engine, name).await;
    }
    assert_eq!(control(&engine, "acme/lake-8", Control::Forget).await, (1, 0));
    claim(&engine, "acme/one-more/0").await;
}
