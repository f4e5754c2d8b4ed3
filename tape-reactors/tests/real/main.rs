//! The real program `tape-reactor`, really killed, between a journal that processes share and an upstream that keeps its own ledger.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "cloud-tasks")]
mod alarmed;
mod answers;
#[cfg(feature = "pubsub")]
#[path = "../../../examples/src/built.rs"]
mod built;
#[cfg(feature = "cloud-tasks")]
#[path = "../cloud_tasks/mod.rs"]
mod cloud_tasks;
mod commanded;
mod gates;
#[cfg(feature = "pubsub")]
mod hints;
mod killed;
mod observed;
#[cfg(feature = "postgres")]
#[path = "../../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;
mod process;
mod program;
#[cfg(feature = "pubsub")]
mod proxy;
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
mod published;
#[cfg(feature = "pubsub")]
#[path = "../../../tape-wal/relay/tests/pubsub_emulator/mod.rs"]
mod pubsub_emulator;
mod pushed;
#[cfg(all(feature = "cloud-tasks", feature = "pubsub"))]
mod pushes;
mod race;
mod recovered;
#[cfg(feature = "pubsub")]
#[path = "../../../tape-wal/relay/tests/relays/mod.rs"]
mod relays;
mod served;
mod undone;
mod undone_once;
mod upstream;
#[cfg(feature = "pubsub")]
mod woken;
mod world;
