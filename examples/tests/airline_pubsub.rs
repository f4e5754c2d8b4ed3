//! The airline scenario with workers that messages of Pub/Sub wake, and nothing else: neither the journal nor a sweep. Agents, servers, workers
//! and the relays that publish the messages are killed.
//!
//! At full size: `TAPE_AIRLINE_TRAJECTORIES=FILE cargo nextest run --workspace --features tape-examples/pubsub,tape-reactors/pubsub,tape-relay/pubsub
//! --test airline_pubsub` replays the recorded runs of the file with 400 kills of agents, 50 of servers, 200 of workers and 100 of relays.

#![cfg(feature = "pubsub")]

#[path = "../../tape-wal/relay/tests/pubsub_emulator/mod.rs"]
mod pubsub_emulator;
mod trajectories;
mod workers;

use pubsub_emulator::Emulator;
use workers::Over;

#[test]
fn with_relays_that_are_killed_too_everything_is_done_once() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    workers::everything_is_done_once(Over {
        servers: 1,
        emulator: Some(&emulator.address()),
        ..Over::default()
    });
}

#[test]
fn whatever_is_restarted_the_ledger_and_the_journals_agree() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    workers::ledger_and_journals_agree(Over {
        servers: 1,
        emulator: Some(&emulator.address()),
        ..Over::default()
    });
}
