//! Connectors for upstreams of any kind: over HTTP, and through a command.

mod answer;
#[cfg(feature = "command")]
mod command;
#[cfg(feature = "http")]
mod http;

#[cfg(feature = "command")]
pub use command::CommandConnector;
#[cfg(feature = "http")]
pub use http::{HttpAbsent, HttpConnector, HttpEndpoints};
