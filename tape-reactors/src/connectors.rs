//! Connectors for upstreams of any kind: over HTTP, through a command, and by messages to a subscriber.

mod answer;
mod bounded;
#[cfg(feature = "cloud-tasks")]
mod cloud_tasks;
#[cfg(feature = "command")]
mod command;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "pubsub")]
mod pubsub;
mod reading;
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
mod subscriber;

#[cfg(feature = "cloud-tasks")]
pub use cloud_tasks::CloudTasksConnector;
#[cfg(feature = "command")]
pub use command::CommandConnector;
#[cfg(feature = "http")]
pub use http::{HttpAnswers, HttpConnector, HttpEndpoints, HttpPattern};
#[cfg(feature = "pubsub")]
pub use pubsub::PubsubConnector;
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
pub use subscriber::Subscriber;
