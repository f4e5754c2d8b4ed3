//! Relays: what sends the feed of the Tape journal to other systems.
//!
//! A relay reads the feed, turns entries into [events](event::Event) and delivers them to a [sink](sink::Sink).

pub mod by_stream;
mod carried;
#[cfg(feature = "testing")]
pub mod conformance;
mod counts;
mod delivery;
pub mod event;
mod event_attributes;
mod event_data;
pub mod event_format;
mod failing;
pub mod filter;
mod health;
mod held;
mod incarnation;
mod kept;
mod offer;
mod owned;
mod part;
pub mod payload_rule;
pub mod reactions;
mod reader;
pub mod redaction;
mod redelivery;
mod refusals;
mod relay;
mod repeats;
mod settings;
pub mod sink;
pub mod sinks;
mod unmoved;
mod window;

pub use counts::{COUNT_NAMES, Counts};
pub use incarnation::Incarnation;
pub use redelivery::{Redelivered, RedeliveryError, RedeliveryStep, UNAVAILABLE_MAX, redeliver};
pub use relay::{Relay, Running};
pub use settings::{Settings, Start};
