//! Connectors for upstreams of any kind: over HTTP, and through a command.

mod answer;
mod bounded;
#[cfg(feature = "command")]
mod command;
#[cfg(feature = "http")]
mod http;
mod reading;

#[cfg(feature = "command")]
pub use command::CommandConnector;
#[cfg(feature = "http")]
pub use http::{HttpConnector, HttpEndpoints, HttpPattern};
