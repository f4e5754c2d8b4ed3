//! What an adversary found. Each test fails where the finding holds.

use crate::meddled::Meddled;
use crate::world::{Told, World, quick, relay, start};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tape_api::relays::{ClaimAnswer, Control, MoveAnswer, PlaceQuery};
use tape_api::{Journal as _, Relays as _};
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayName, RelayPart, Seq, StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::relay::Progress;
use tape_engine::Engine;
use tape_relay::event::Event;
use tape_relay::event_format::EventFormat;
use tape_relay::payload_rule::PayloadRule;
use tape_relay::redaction::Redaction;
use tape_relay::sink::{Sink, SinkError};
use tape_relay::sinks::json_lines::{JsonLines, JsonLinesSettings};
use tape_relay::{Relay, Settings, Start};
use tape_store::contract::{Cursor, JournalStore, Shard, TailPage};
use tape_store::cursors::{CursorStore, Record, Swap};
use tape_store::error::StoreError;
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;
use tokio::time::{Instant, sleep, timeout};

/// Long for a relay over a store in memory.
const LONG: Duration = Duration::from_secs(20);

fn one_shard() -> World {
    World::over(Arc::new(MemoryStore::with_shards(1)))
}

fn holder(name: &str) -> Holder {
    Holder::new(name).unwrap()
}

fn is_of(event: &Event, stream: &str) -> bool {
    event.stream().to_string() == stream
}

/// Panics in its first call.
#[derive(Debug)]
struct PanicsOnce(AtomicUsize, Arc<Told>);

#[async_trait]
impl Sink for PanicsOnce {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        assert!(
            self.0.fetch_add(1, SeqCst) > 0,
            "a defect of a sink, on one event"
        );
        self.1.deliver(events).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_panics_once_does_not_end_the_relay() {
    let (world, told) = (World::new(), Told::all());
    let own = Relay {
        sink: Arc::new(PanicsOnce(AtomicUsize::new(0), Arc::clone(&told))),
        ..relay("acme/lake", &told, quick())
    };
    let running = own.start(world.journal(), holder("one"));
    let names: Vec<String> = (0..12).map(|n| format!("v{n}")).collect();
    for name in &names {
        world.put("acme", name).await;
    }
    let all = timeout(Duration::from_secs(8), told.has(12)).await;
    let counts = running.counts();
    drop(running);
    assert!(
        all.is_ok(),
        "{} of 12 were delivered: {counts:?}",
        told.seen().len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_stays_unavailable_holds_up_no_other_stream() {
    let world = one_shard();
    let sink = Told::by(|event| {
        if is_of(event, "acme/value/poison") {
            return Err(SinkError::unavailable("500 Internal Server Error"));
        }
        Ok(())
    });
    let settings = Settings {
        disable_after: Some(Duration::from_secs(2)),
        ..quick()
    };
    let running = relay("*/lake", &sink, settings).start(world.journal(), holder("one"));
    world.put("acme", "poison").await;
    sink.was_called(3).await;
    for n in 0..30 {
        world.put("beta", &format!("v{n}")).await;
        sleep(Duration::from_millis(100)).await;
    }
    let delivered = sink.seen().len();
    let places = world.places("*/lake").await;
    running.drain().await;
    assert_eq!(
        places[0].place.disabled, None,
        "{delivered} of beta's 30 events were delivered"
    );
    assert_eq!(delivered, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_on_after_its_part_went_to_another_process() {
    let world = one_shard();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let lines = || {
        let settings = JsonLinesSettings::new(&path, 1 << 20, Duration::from_secs(3_600)).unwrap();
        Arc::new(JsonLines::new(settings, world.journal().environment()))
    };
    let process = |name: &str, lease| {
        let settings = Settings { lease, ..quick() };
        let own = Relay {
            sink: lines() as Arc<dyn Sink>,
            ..relay("acme/lake", &Told::all(), settings)
        };
        own.start(world.journal(), holder(name))
    };
    let written = || std::fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    let one = process("one", Duration::from_secs(60));
    world.put("acme", "a").await;
    timeout(LONG, async {
        while written() < 1 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    // Its lease is lost, as where it was suspended or cut off from the journal, and another process takes the part.
    let two = process("two", Duration::from_millis(600));
    let relay = "acme/lake".parse().unwrap();
    world.engine.control(&relay, &Control::ToEnd).await.unwrap();
    timeout(LONG, async {
        while world.places("acme/lake").await[0].place.holder != Some(holder("two")) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    world.put("acme", "a").await;
    timeout(LONG, async {
        while one.counts().takeovers == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    world.put("acme", "a").await;
    sleep(Duration::from_secs(8)).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let place = world.places("acme/lake").await.remove(0).place;
    drop((one, two));
    assert!(
        text.contains("acme/value/a/3"),
        "held by {:?}, failing since {:?}",
        place.holder,
        place.failing
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_newer_build_is_not_skipped_by_an_older_one() {
    let world = one_shard();
    let (sink, journal) = (Told::all(), Meddled::over(world.journal()));
    journal.is_older.store(true, SeqCst);
    world.put_all("acme", &["a", "new", "b"], 1).await;
    let older = relay("acme/lake", &sink, quick()).start(journal, holder("older"));
    timeout(LONG, sink.has(2)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    older.drain().await;
    // The program is brought up to date.
    let newer = start(&world, "acme/lake", &sink, "newer");
    let all = timeout(Duration::from_secs(5), sink.has(3)).await;
    let refusals = world.refusals("acme/relay/own/lake").await;
    newer.drain().await;
    assert!(
        all.is_ok() || !refusals.is_empty(),
        "delivered {:?} and nothing on record: {:?}",
        sink.seen(),
        world.places("acme/lake").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_stands_still_is_seen_in_the_lag_while_others_work() {
    let world = World::new();
    let sink = Told::by(|event| {
        if is_of(event, "acme/value/stuck") {
            return Err(SinkError::unavailable("500"));
        }
        Ok(())
    });
    let running = start(&world, "acme/lake", &sink, "one");
    world.put("acme", "stuck").await;
    sink.was_called(3).await;
    let names: Vec<String> = (0..20).map(|n| format!("v{n}")).collect();
    for name in &names {
        world.put("acme", name).await;
    }
    timeout(LONG, sink.has(5)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let counts = running.counts();
    drop(running);
    assert!(counts.events_waiting > 0, "{counts:?}");
    assert!(
        counts.oldest_waiting_us > 0,
        "an event has waited for over a second: {counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_none_where_no_part_is_carried() {
    let world = one_shard();
    world.put_all("acme", &["a", "b"], 3).await;
    let sink = Told::by(|_| Err(SinkError::unavailable("500")));
    let running = start(&world, "acme/lake", &sink, "one");
    sink.was_called(3).await;
    let relay = "acme/lake".parse().unwrap();
    let reason = "maintenance".to_owned();
    world.put_all("acme", &["c"], 3).await;
    world
        .engine
        .control(&relay, &Control::Disable { reason })
        .await
        .unwrap();
    timeout(LONG, async {
        while running.counts().parts > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    sleep(Duration::from_millis(300)).await;
    let counts = running.counts();
    drop(running);
    assert_eq!(
        (counts.events_waiting, counts.oldest_waiting_us),
        (0, 0),
        "{counts:?}"
    );
    assert_eq!(
        counts.takeovers, 0,
        "no other process has it: a person stopped it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_damaged_record_stops_no_other_tenant() {
    let world = World::new();
    let journal = Meddled::over(world.journal());
    journal.acme_is_damaged.store(true, SeqCst);
    let sink = Told::by(|event| {
        if is_of(event, "acme/value/poison") {
            return Err(SinkError::refused("422"));
        }
        Ok(())
    });
    let running = relay("*/lake", &sink, quick()).start(journal, holder("one"));
    world.put("acme", "poison").await;
    sink.was_called(2).await;
    let names: Vec<String> = (0..20).map(|n| format!("v{n}")).collect();
    for name in &names {
        world.put("beta", name).await;
    }
    sleep(Duration::from_secs(4)).await;
    let delivered: std::collections::BTreeSet<_> = sink.seen().into_iter().collect();
    drop(running);
    assert_eq!(delivered.len(), 20, "of beta's entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_relay_begins_now_is_recorded_before_anything_is_delivered() {
    let world = one_shard();
    let (sink, journal) = (Told::all(), Meddled::over(world.journal()));
    journal.no_moves.store(true, SeqCst);
    let from_now = Settings {
        start: Start::Now,
        lease: Duration::from_secs(5),
        // As by default, it is longer than what comes first takes.
        pass_every: Duration::from_secs(3),
        ..quick()
    };
    let first = relay("acme/lake", &sink, from_now).start(journal, holder("one"));
    timeout(LONG, async {
        while world.places("acme/lake").await.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    sleep(Duration::from_millis(300)).await;
    world.put("acme", "a").await;
    let delivered = timeout(Duration::from_secs(2), sink.has(1)).await.is_ok();
    // It is killed, and another one takes over once the lease is over.
    drop(first);
    world.put("acme", "a").await;
    let from_now = Settings {
        lease: Duration::from_millis(600),
        ..from_now
    };
    let second = relay("acme/lake", &sink, from_now).start(world.journal(), holder("two"));
    timeout(LONG, async {
        while world.places("acme/lake").await[0].place.cursors.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    world.put("acme", "a").await;
    timeout(LONG, sink.has(1 + usize::from(delivered))).await.unwrap();
    let seen: Vec<u64> = sink.seen().into_iter().map(|(_, seq)| seq).collect();
    drop(second);
    assert!(!delivered, "entry 1 was delivered, and after it: {seen:?}");
}

/// Takes its time for each call.
#[derive(Debug, Default)]
struct Slow(AtomicUsize);

#[async_trait]
impl Sink for Slow {
    async fn deliver(&self, events: &[Event]) -> Vec<Result<(), SinkError>> {
        self.0.fetch_add(1, SeqCst);
        sleep(Duration::from_secs(1)).await;
        vec![Ok(()); events.len()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_call_that_is_under_way_and_begins_no_other() {
    let world = one_shard();
    let names: Vec<String> = (0..1_000).map(|n| format!("v{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.put_all("acme", &names, 1).await;
    let sink = Arc::new(Slow::default());
    let own = Relay {
        sink: Arc::clone(&sink) as Arc<dyn Sink>,
        ..relay("acme/lake", &Told::all(), quick())
    };
    let running = own.start(world.journal(), holder("one"));
    while sink.0.load(SeqCst) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    running.drain().await;
    assert_eq!(
        sink.0.load(SeqCst),
        1,
        "calls; the stop took {:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_with_a_long_or_odd_reason_is_recorded_as_well() {
    for reason in ["x".repeat(10_000), "no\u{0}\u{1b}[31m".to_owned()] {
        let world = one_shard();
        let given = reason.clone();
        let sink = Told::by(move |event| {
            if is_of(event, "acme/value/poison") {
                let reason = given.clone();
                return Err(SinkError::Refused { reason });
            }
            Ok(())
        });
        let running = start(&world, "acme/lake", &sink, "one");
        world.put_all("acme", &["poison", "a"], 1).await;
        sleep(Duration::from_secs(2)).await;
        let refusals = world.refusals("acme/relay/own/lake").await.len();
        drop(running);
        assert_eq!(refusals, 1, "a reason of {} bytes", reason.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_disables_without_a_reason_is_not_called_again() {
    let world = one_shard();
    let sink = Told::by(|_| Err(SinkError::disabled("")));
    let running = start(&world, "acme/lake", &sink, "one");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    sink.now(move |_| {
        counted.fetch_add(1, SeqCst);
        Err(SinkError::disabled(""))
    });
    world.put("acme", "a").await;
    sleep(Duration::from_secs(2)).await;
    let place = world.places("acme/lake").await.remove(0).place;
    drop(running);
    assert!(
        place.disabled.is_some(),
        "called {} times: {place:?}",
        calls.load(SeqCst)
    );
    assert_eq!(calls.load(SeqCst), 1);
}

/// Counts the entries of the feed that are read.
struct Counted(MemoryStore, Arc<AtomicUsize>);

#[async_trait]
impl Layer for Counted {
    fn inner(&self) -> &dyn JournalStore {
        &self.0
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        let page = self.0.tail(shard, cursor, limit).await?;
        self.1.fetch_add(page.entries.len(), SeqCst);
        Ok(page)
    }
}

async fn put_at_beginning(world: &World, part: &str, cursor: &'static [u8]) {
    let part: RelayPart = part.parse().unwrap();
    let lease = Duration::from_secs(1);
    let claim = world.engine.claim(&part, &holder("one"), lease).await.unwrap();
    let ClaimAnswer::Claimed { epoch, .. } = claim else {
        panic!("{claim:?}")
    };
    let progress = Progress {
        cursors: [(0, Bytes::from_static(cursor))].into(),
        ..Progress::default()
    };
    world.engine.advance(&part, epoch, progress, lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_quiet_tenants_relay_does_not_read_the_feed_of_all_others() {
    let read = Arc::new(AtomicUsize::new(0));
    let world = World::over(Arc::new(Counted(MemoryStore::with_shards(1), Arc::clone(&read))));
    // Written 64 at a time, so that it takes seconds.
    let names: Vec<String> = (0..64).map(|n| format!("v{n}")).collect();
    for _ in 0..400 {
        futures::future::join_all(names.iter().map(|name| world.put("flood", name))).await;
    }
    put_at_beginning(&world, "acme/quiet/0", b"").await;
    let before = read.load(SeqCst);
    // What `/readyz` asks, every few seconds, of each copy.
    world.engine.places(&PlaceQuery::All, None, 1).await.unwrap();
    let read = read.load(SeqCst) - before;
    assert!(
        read <= 10_000 + 4_096,
        "{read} entries of another tenant were read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_one_tenant_that_makes_no_sense_does_not_hide_those_of_others() {
    let world = one_shard();
    world.put("acme", "a").await;
    put_at_beginning(&world, "beta/lake/0", b"").await;
    let part: RelayPart = "acme/lake/0".parse().unwrap();
    let lease = Duration::from_secs(1);
    let claim = world.engine.claim(&part, &holder("one"), lease).await.unwrap();
    let ClaimAnswer::Claimed { epoch, .. } = claim else {
        panic!("{claim:?}")
    };
    let progress = Progress {
        cursors: [(0, Bytes::from_static(b"of another journal"))].into(),
        ..Progress::default()
    };
    // Either this is refused, or the list goes on.
    let moved = world.engine.advance(&part, epoch, progress, lease).await;
    let listed = world.engine.places(&PlaceQuery::All, None, 64).await;
    assert!(
        moved.is_err() || listed.is_ok(),
        "moved {moved:?}, listed {listed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_names_are_valid_has_places() {
    let world = one_shard();
    let name = ".".repeat(200);
    let part = RelayPart {
        relay: RelayId {
            tenant: Some(Tenant::new(&name).unwrap()),
            name: RelayName::new(&name).unwrap(),
        },
        part: 0,
    };
    let claim = world
        .engine
        .claim(&part, &holder("one"), Duration::from_secs(1))
        .await;
    assert!(matches!(claim, Ok(ClaimAnswer::Claimed { .. })), "{claim:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_member_does_not_get_round_the_redaction() {
    let world = one_shard();
    let text = r#"{"card":{"number":"4111111111111111"},"card":{"brand":"visa"}}"#;
    let command = ValueCommand::Put {
        value: Payload::new(Payload::JSON, text).unwrap(),
        expected: None,
    };
    let command = Command::new(world.engine.request_id(), command);
    let (tenant, name) = (Tenant::new("acme").unwrap(), ValueName::new("card").unwrap());
    world.engine.value(&tenant, &name, command).await.unwrap();
    let stream: StreamId = "acme/value/card".parse().unwrap();
    let stored = world
        .engine
        .store()
        .read(&stream, Seq::ZERO, 10)
        .await
        .unwrap()
        .remove(0);
    let rule = PayloadRule::Redact(Redaction::new(&["/card/number"]).unwrap());
    let event = EventFormat::new("tape", rule, 1 << 20)
        .unwrap()
        .event(&stream, &stored)
        .unwrap();
    let data = String::from_utf8(event.data().to_vec()).unwrap();
    assert!(!data.contains("4111111111111111"), "{data}");
}

/// A part moves right after its record was listed.
struct Racing {
    inner: MemoryStore,
    engine: OnceLock<Engine>,
    part: RelayPart,
    epoch: OnceLock<Epoch>,
}

#[async_trait]
impl CursorStore for Racing {
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
        if let (Some(engine), Some(epoch)) = (self.engine.get(), self.epoch.get()) {
            let progress = Progress {
                cursors: [(1, Bytes::new())].into(),
                ..Progress::default()
            };
            let lease = Duration::from_secs(60);
            let moved = engine.advance(&self.part, *epoch, progress, lease).await.unwrap();
            assert_eq!(moved, MoveAnswer::Moved);
        }
        listed
    }
}

/// The store with its cursors.
struct Raced(Arc<Racing>);

#[async_trait]
impl Layer for Raced {
    fn inner(&self) -> &dyn JournalStore {
        &self.0.inner
    }

    fn cursors(&self) -> &dyn CursorStore {
        &*self.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_does_not_unbegin_a_shard_that_the_part_began_meanwhile() {
    let part: RelayPart = "acme/lake/0".parse().unwrap();
    let racing = Arc::new(Racing {
        inner: MemoryStore::with_shards(2),
        engine: OnceLock::new(),
        part: part.clone(),
        epoch: OnceLock::new(),
    });
    let world = World::over(Arc::new(Raced(Arc::clone(&racing))));
    let lease = Duration::from_secs(60);
    let claim = world.engine.claim(&part, &holder("one"), lease).await.unwrap();
    let ClaimAnswer::Claimed { epoch, .. } = claim else {
        panic!("{claim:?}")
    };
    let progress = Progress {
        cursors: [(0, Bytes::new())].into(),
        ..Progress::default()
    };
    world.engine.advance(&part, epoch, progress, lease).await.unwrap();
    racing.epoch.set(epoch).unwrap();
    drop(racing.engine.set(world.engine.clone()));
    let relay = "acme/lake".parse().unwrap();
    world.engine.control(&relay, &Control::ToBeginning).await.unwrap();
    let record = racing
        .inner
        .cursors()
        .record("relay/acme/lake/0")
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(record.bytes.to_vec()).unwrap();
    assert!(
        text.contains(r#""1":"""#),
        "shard 1 has no place any more, and a relay that begins now skips what is there: {text}"
    );
}
