//! Sinks that come with the crate.

pub mod broadcast;
pub mod json_lines;
pub mod null;
#[cfg(feature = "pubsub")]
pub mod pubsub;
#[cfg(feature = "webhook")]
pub mod webhook;
