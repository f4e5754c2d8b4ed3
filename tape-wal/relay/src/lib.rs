//! Relays: what sends the feed of the Tape journal to other systems.
//!
//! A relay reads the feed, turns entries into [events](event::Event) and delivers them to a [sink](sink::Sink).

pub mod by_stream;
#[cfg(feature = "testing")]
pub mod conformance;
pub mod event;
mod event_data;
pub mod event_format;
pub mod filter;
pub mod payload_rule;
pub mod redaction;
pub mod sink;
pub mod sinks;
