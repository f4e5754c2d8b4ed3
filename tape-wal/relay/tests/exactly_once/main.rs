//! A consumer that remembers, for each stream, how far it is sees each entry exactly once and in order, whatever fails in between.
//!
//! 32 writers write values and runs into a journal. Two processes of `tape-relay` compete for one relay and publish to the emulator of Pub/Sub.
//! As the consumer gets on, the process that carries the relay is killed with SIGKILL, connections are cut, answers are lost, and the
//! emulator is killed and started again. At the end, what the consumer has is compared with the journal, read once from its beginning.
//!
//! The emulator keeps everything in memory, which Pub/Sub does not: a message that was confirmed is durable there. So before the emulator is
//! killed, nothing more is sent to it, and the consumer takes all messages that it has confirmed. Requests fail meanwhile, and until the new
//! emulator has the topic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../../tape-store/tests/bigtable_emulator/mod.rs"]
#[cfg(feature = "bigtable")]
mod bigtable_emulator;
mod consumer;
#[path = "../../../../tape-store/tests/postgres_server/mod.rs"]
#[cfg(feature = "postgres")]
mod postgres_server;
#[path = "../../../../tape-store/tests/proxy/mod.rs"]
mod proxy;
#[path = "../pubsub_emulator/mod.rs"]
mod pubsub_emulator;
#[path = "../pubsub_front/mod.rs"]
mod pubsub_front;
#[path = "../pubsub_inbox/mod.rs"]
mod pubsub_inbox;
#[path = "../relays/mod.rs"]
mod relays;
#[path = "../../../../tape-store/tests/spanner_emulator/mod.rs"]
#[cfg(feature = "spanner")]
mod spanner_emulator;
mod topic;
mod writers;

use consumer::{Consumer, Seen};
use futures::StreamExt as _;
use relays::Relays;
use std::path::Path;
use tape_api::Journal;
use tape_engine::Engine;
use topic::Topic;

/// How many entries are written, at least.
const ENTRIES: &str = "TAPE_RELAY_ENTRIES";
const ENTRIES_DEFAULT: u64 = 3_000;
/// After how many entries something fails, and how often at least.
const UNDISTURBED: u64 = 20_000;
const DISTURBANCES_MIN: u64 = 8;
/// Of a hundred messages, how many may be repetitions.
const REPEATED_PERCENT_MAX: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "sqlite")]
async fn each_entry_of_sqlite_is_seen_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    prove(&format!("sqlite:{}", file.display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "postgres")]
async fn each_entry_of_postgres_is_seen_once() {
    if let Some(database) = postgres_server::Database::create() {
        prove(&database.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "spanner")]
async fn each_entry_of_spanner_is_seen_once() {
    if let Some(database) = spanner_emulator::Database::create() {
        prove(&database.url()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "bigtable")]
async fn each_entry_of_bigtable_is_seen_once() {
    if let Some(table) = bigtable_emulator::Table::new() {
        prove(&table.url()).await;
    }
}

async fn prove(url: &str) {
    let Some(mut topic) = Topic::start().await else {
        return;
    };
    let entries = std::env::var(ENTRIES).map_or(ENTRIES_DEFAULT, |text| text.parse().unwrap());
    let journal = open(url).await;
    let mut consumer = Consumer::start(topic.inbox().await);
    let program = Path::new(env!("CARGO_BIN_EXE_tape-relay"));
    let to = format!("topic = \"{}\"", topic.name());
    let mut relays = Relays::start(program, url, "acme/proof", &to, &topic.address());
    let writing = writers::start(&journal, entries, &consumer);
    let disturbances = DISTURBANCES_MIN.max(entries / UNDISTURBED);
    for n in 0..disturbances {
        consumer.has_seen(entries * (n + 1) / (disturbances + 2)).await;
        match n % 4 {
            0 => relays.kill_the_holder(&journal).await,
            1 => topic.cut(),
            2 => topic.lose_an_answer(),
            _ => {
                consumer.has_received(topic.pause().await).await;
                consumer.stop();
                topic.start_again();
                consumer.go_on(topic.inbox().await);
                topic.go_on();
            }
        }
    }
    writing.await;
    let expected = recorded(&journal).await;
    consumer.has_seen(expected.entries()).await;
    let seen = consumer.end();
    assert_eq!(
        seen.streams(),
        expected.streams(),
        "the consumer has what the journal has"
    );
    seen.report();
    let repeated = seen.repeated_percent();
    assert!(
        repeated <= REPEATED_PERCENT_MAX,
        "{repeated} % of the messages were repetitions"
    );
}

async fn open(url: &str) -> Engine {
    Engine::start(tape_store::open::open(url).await.unwrap())
}

/// What the journal has, read once.
async fn recorded(journal: &dyn Journal) -> Seen {
    let mut tail = tape_api::query::Tail::new("acme.>".parse().unwrap());
    (tail.from_start, tail.follow) = (true, false);
    let mut pages = journal.tail(&tail);
    let mut recorded = Seen::default();
    while let Some(page) = pages.next().await {
        for (stream, entry) in page.unwrap().entries {
            recorded.entry(&stream.to_string(), entry.seq.0, &entry.digest.to_string());
        }
    }
    recorded
}
