//! Reactions through servers, while everything that takes part in them is killed: each event begins one run, and each run is driven to its end.
//!
//! Writers put values through a server. Two processes of `tape-relay` compete for the reactions, two of `tape-reactor` have the begun runs driven
//! and carry out their effects, and two agents drive them. All of them, the servers too, are killed with SIGKILL at moments that a seed
//! chooses, and started again. In the same journal, one reaction is paused and resumed, one is bounded, one is debounced, and two
//! cause each other. At the end, the journal is read once from its beginning and compared with what the definitions say, and an upstream
//! that acts at each request compares its ledger.
//!
//! At full size: `TAPE_REACTION_EVENTS=10000 cargo test --release -p tape-examples --test reactions each_event_of_sqlite`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
#[path = "../../../tape-store/tests/bigtable_emulator/mod.rs"]
#[cfg(feature = "bigtable")]
mod bigtable_emulator;
mod copies;
mod definitions;
mod kills;
mod ledger;
#[path = "../../../tape-store/tests/postgres_server/mod.rs"]
#[cfg(feature = "postgres")]
mod postgres_server;
#[path = "../../../tape-store/tests/spanner_emulator/mod.rs"]
#[cfg(feature = "spanner")]
mod spanner_emulator;
mod story;
mod told;
mod verdict;
mod world;

use story::Size;
use world::World;

/// How many events the reaction has whose runs act, on SQLite; fewer on stores whose emulators are slow.
const EVENTS: &str = "TAPE_REACTION_EVENTS";
const EVENTS_DEFAULT: usize = 300;
/// The seed of the moments and the victims.
const SEED: &str = "TAPE_REACTION_SEED";
const SEED_DEFAULT: usize = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_sqlite_begins_one_run_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("tape.db").display());
    play(&url, 1, 1).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_postgres_begins_one_run_whatever_is_killed() {
    if let Some(database) = postgres_server::Database::create() {
        play(&database.url(), 2, 3).await;
    }
}

#[cfg(feature = "bigtable")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes over the emulator: --run-ignored only"]
async fn each_event_of_bigtable_begins_one_run_whatever_is_killed() {
    if let Some(table) = bigtable_emulator::Table::new() {
        play(&table.url(), 2, 5).await;
    }
}

#[cfg(feature = "spanner")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes over the emulator: --run-ignored only"]
async fn each_event_of_spanner_begins_one_run_whatever_is_killed() {
    if let Some(database) = spanner_emulator::Database::create() {
        play(&database.url(), 2, 8).await;
    }
}

/// Plays over a store behind so many servers, with a part of the events.
async fn play(store: &str, servers: usize, part: usize) {
    let events = number(EVENTS, EVENTS_DEFAULT) / part;
    let seed = u64::try_from(number(SEED, SEED_DEFAULT)).unwrap();
    let size = Size::of(events);
    let world = World::start(store, servers).await;
    definitions::define(&world).await;
    let (kills, ()) = tokio::join!(kills::kill(&world, seed, &size), story::tell(&world, &size));
    world.all_is_done(&size).await;
    let told = told::read(&world).await;
    verdict::on(&told, &world, &size);
    #[expect(clippy::print_stdout, reason = "at full size people read what came of it")]
    {
        println!("{}, seed={seed}, killed: {kills}", told.summary());
    }
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}
