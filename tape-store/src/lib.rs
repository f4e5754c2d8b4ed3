//! The storage contract of the Tape journal, its backends, and the layers above them.

// The harnesses of the tests of Postgres and Bigtable are used from within the crate too.
#[cfg(all(test, any(feature = "postgres", feature = "bigtable")))]
extern crate self as tape_store;

mod anchor;
pub mod announce;
#[cfg(feature = "bigtable")]
pub mod bigtable;
pub mod clock;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod contract;
pub mod cursors;
pub mod error;
#[cfg(any(
    feature = "sqlite",
    feature = "postgres",
    feature = "bigtable",
    feature = "spanner"
))]
mod group;
pub mod layer;
mod listing;
pub mod memory;
pub mod migrated;
mod named;
pub mod open;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "spanner")]
pub mod spanner;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod unreadable;
pub mod upkeep;
mod wake;
