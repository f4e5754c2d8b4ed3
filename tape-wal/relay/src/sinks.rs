//! Sinks that come with the crate.

#[cfg(feature = "pubsub")]
pub mod pubsub;
