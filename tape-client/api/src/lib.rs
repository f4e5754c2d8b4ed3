//! The interface of a journal for everything above it.
//!
//! [`Journal`] is the one interface: commands, state, entries, the feed, due work and lists. The engine implements it over a store in the
//! same process, the remote client over a server. The run API, the reactors and the tools are written against it, so that they
//! work the same over both. [`Layer`] decorates one. [`recovery`] is how a run without a driver is taken and handed to an agent.
//!
//! What this crate must not know: how a journal stores or sends anything, and the rules of what may follow what.

pub mod argument;
pub mod backoff;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod due;
mod error;
mod journal;
mod layer;
pub mod query;
pub mod recovery;
pub mod relays;
pub mod sending;
#[cfg(feature = "signature")]
pub mod signature;

pub use error::{JournalError, Source};
pub use journal::{Journal, Pages};
pub use layer::Layer;
pub use relays::Relays;
