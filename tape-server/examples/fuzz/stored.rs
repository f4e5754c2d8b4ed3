//! Stored entries and snapshots, damaged and read back.

use crate::damage::damage;
use crate::message::Contract;
use crate::{Clock, Tally};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::Arc;
use std::time::Duration;
use tape_core::chain::{StreamTag, link};
use tape_core::codec::{StoredEntry, decode};
use tape_core::decider::{Decider, restore, snapshot};
use tape_core::id::StreamId;
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::value::Value;
use tape_engine::Engine;
use tape_proto::convert::{RunRequest, SessionChange, ValueChange};
use tape_proto::v1;
use tape_store::clock::SystemClock;
use tape_store::contract::{Cursor, Shard};
use tape_store::memory::MemoryStore;

/// The number of commands that make the journals to be damaged.
const COMMANDS: u32 = 4_000;

pub(crate) async fn fuzz(seed: u64, span: Duration) -> Tally {
    let mut rng = StdRng::seed_from_u64(seed);
    let (entries, snapshots) = corpus(&mut rng).await;
    assert!(entries.len() > 200, "only {} entries were made", entries.len());
    let (clock, mut tally) = (Clock::start(span), Tally::default());
    while !clock.is_over() {
        for _ in 0..1_000 {
            tally.rounds += 1;
            let entry = &entries[rng.random_range(0..entries.len())];
            let taken = damaged_entry(&mut rng, entry) | damaged_snapshot(&mut rng, &snapshots, entry);
            *(if taken {
                &mut tally.taken
            } else {
                &mut tally.refused
            }) += 1;
        }
    }
    tally
}

/// Reads a damaged entry: no panic, and the chain detects all damage.
fn damaged_entry(rng: &mut StdRng, (stream, entry): &(StreamId, StoredEntry)) -> bool {
    let mut wrong = entry.clone();
    match rng.random_range(0..3) {
        0 => wrong.envelope = damage(rng, wrong.envelope.to_vec()).into(),
        1 => wrong.payload = wrong.payload.map(|payload| damage(rng, payload.to_vec()).into()),
        _ => wrong.envelope = swapped_digits(rng, &wrong.envelope).into(),
    }
    let read = decode(&wrong).is_ok();
    let tag = StreamTag::of(stream);
    let (before, after) = (
        link(&tag, &entry.digest, &entry.envelope),
        link(&tag, &entry.digest, &wrong.envelope),
    );
    assert_eq!(
        before == after,
        entry.envelope == wrong.envelope,
        "the chain must show a changed envelope"
    );
    let same_payload = entry.payload == wrong.payload;
    assert!(
        !read || same_payload || entry.envelope != wrong.envelope,
        "changed payload bytes were taken"
    );
    read
}

/// Swaps digits, so that a text mostly stays JSON.
fn swapped_digits(rng: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let swap = |byte: &u8| {
        if byte.is_ascii_digit() && rng.random_bool(0.05) {
            rng.random_range(b'0'..=b'9')
        } else {
            *byte
        }
    };
    bytes.iter().map(swap).collect()
}

/// Restores a damaged snapshot and folds an entry onto it: no panic.
fn damaged_snapshot(rng: &mut StdRng, snapshots: &[Vec<u8>], (_, entry): &(StreamId, StoredEntry)) -> bool {
    let snapshot = &snapshots[rng.random_range(0..snapshots.len())];
    let wrong = if rng.random_bool(0.5) {
        damage(rng, snapshot.clone())
    } else {
        swapped_digits(rng, snapshot)
    };
    fold::<Run>(&wrong, entry) | fold::<Session>(&wrong, entry) | fold::<Value>(&wrong, entry)
}

fn fold<S: Decider>(snapshot: &[u8], entry: &StoredEntry) -> bool {
    let Some(mut state) = restore::<S>(snapshot) else {
        return false;
    };
    let _ = state.agenda();
    if let Ok(mut entry) = decode(entry) {
        entry.seq = tape_core::id::Seq(state.seq().0.saturating_add(1));
        // The rules decide whether the entry can follow; here only the absence of a panic matters.
        let _ = state.apply(&entry);
        let _ = state.summary();
    }
    true
}

/// Journals and states that commands of all kinds made.
async fn corpus(rng: &mut StdRng) -> (Vec<(StreamId, StoredEntry)>, Vec<Vec<u8>>) {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::new(store, Arc::new(SystemClock));
    let contract = Contract::load();
    for _ in 0..COMMANDS {
        command(rng, &contract, &engine).await;
    }
    let mut entries = Vec::new();
    for shard in (0..engine.store().capabilities().shards).map(Shard) {
        let mut place = Cursor::default();
        loop {
            let page = engine
                .store()
                .tail(shard, &place, 256)
                .await
                .expect("memory can be read");
            place = page.cursor;
            if page.entries.is_empty() {
                break;
            }
            entries.extend(page.entries.into_iter().map(|entry| (entry.stream, entry.entry)));
        }
    }
    let mut snapshots = Vec::new();
    let mut streams: Vec<StreamId> = entries.iter().map(|(stream, _)| stream.clone()).collect();
    streams.sort();
    streams.dedup();
    for stream in streams {
        match stream {
            StreamId::Run(run) => snapshots.extend(
                engine
                    .run_state(&run)
                    .await
                    .expect("it is there")
                    .map(|s| snapshot(&*s)),
            ),
            StreamId::Session(session) => {
                let state = engine.session_state(&session).await.expect("it is there");
                snapshots.extend(state.map(|state| snapshot(&*state.session)));
            }
            StreamId::Value { tenant, name } => {
                let state = engine.value_state(&tenant, &name).await.expect("it is there");
                snapshots.extend(state.map(|state| snapshot(&*state)));
            }
            StreamId::Relay(relay) => {
                let state = engine.relay_record(&relay).await.expect("it is there");
                snapshots.extend(state.map(|state| snapshot(&*state)));
            }
            StreamId::Shared { .. } | StreamId::KeyOwner { .. } => {}
        }
    }
    (entries, snapshots)
}

/// A command of any kind; those that are refused make nothing.
async fn command(rng: &mut StdRng, contract: &Contract, engine: &Engine) {
    fn read<W: prost::Message + Default>(rng: &mut StdRng, contract: &Contract, name: &str) -> Option<W> {
        W::decode(contract.message(rng, &format!(".tape.v1.{name}")).as_slice()).ok()
    }
    match rng.random_range(0..10) {
        0 => {
            let change = read::<v1::AppendEventRequest>(rng, contract, "AppendEventRequest");
            if let Some(Ok(change)) = change.map(SessionChange::try_from) {
                let _ = engine.session(&change.session, change.command).await;
            }
        }
        1 => {
            let change = read::<v1::CreateSessionRequest>(rng, contract, "CreateSessionRequest");
            if let Some(Ok(change)) = change.map(SessionChange::try_from) {
                let _ = engine.session(&change.session, change.command).await;
            }
        }
        2 => {
            let change = read::<v1::PutValueRequest>(rng, contract, "PutValueRequest");
            if let Some(Ok(change)) = change.map(ValueChange::try_from) {
                let _ = engine.value(&change.tenant, &change.name, change.command).await;
            }
        }
        _ => {
            let drive = read::<v1::DriveRequest>(rng, contract, "DriveRequest");
            if let Some(Ok(request)) = drive.map(RunRequest::try_from) {
                let _ = engine.run(&request.run, request.command).await;
            }
        }
    }
}
