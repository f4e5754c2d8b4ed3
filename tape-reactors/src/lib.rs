//! Reactors carry out what the journal records as due: each finds the due work of one queue and handles it.
//!
//! - [`Reactor`] is the trait of a reactor; [`Runner`] runs it: woken by the feed, with sweeps of the agenda, bounded, fair, and with a
//!   drain.
//! - [`Journal`](tape_api::Journal) is the journal that it works on: a server, or an engine in its process.
//! - [`Wake`] wakes runners by messages about what the journal recorded, instead of by the journal itself.
//! - [`Recovery`] takes runs whose drivers are gone and re-drives them through a [`Redriver`].
//! - [`Outbox`] dispatches effects, [`Reconciler`] asks for the outcome of those whose answer was lost, [`Compensation`] undoes them; all
//!   three through a [`Connector`], as a [`Worker`] that claims the work that it takes up.
//! - [`Timers`] ends gates and fires timers.
#![cfg_attr(
    feature = "cloud-tasks",
    doc = "- [`TimerTasks`] has Google Cloud Tasks wake them, wherever they run."
)]
//!
//! This crate must not know how entries are stored or sent, or what any agent does.

mod backlog;
mod backoff;
#[cfg(feature = "cloud-tasks")]
mod cloud_tasks;
mod compensation;
mod connector;
#[cfg(any(feature = "command", feature = "http"))]
mod connectors;
mod fair;
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
mod google;
#[cfg(feature = "http")]
mod http;
mod outages;
mod outbox;
#[cfg(feature = "command")]
mod program;
mod reactor;
mod reconciler;
mod recovery;
mod redrive;
mod runner;
#[cfg(feature = "cloud-tasks")]
mod timer_tasks;
mod timers;
mod told;
mod wake;
mod watched;
mod worker;

#[cfg(feature = "cloud-tasks")]
pub use cloud_tasks::{TaskIdentity, TaskQueue, TaskTarget};
pub use compensation::Compensation;
pub use connector::{Call, ConcurrencyLimit, Connector, Connectors, NotUndone, Observation, Place};
#[cfg(feature = "cloud-tasks")]
pub use connectors::CloudTasksConnector;
#[cfg(feature = "command")]
pub use connectors::CommandConnector;
#[cfg(feature = "pubsub")]
pub use connectors::PubsubConnector;
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
pub use connectors::Subscriber;
#[cfg(feature = "http")]
pub use connectors::{HttpAnswers, HttpConnector, HttpEndpoints, HttpPattern};
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
pub use google::GoogleError;
#[cfg(feature = "http")]
pub use http::HttpError;
pub use outbox::Outbox;
pub use reactor::{Reaction, ReactionError, Reactor, Task};
pub use reconciler::Reconciler;
pub use recovery::Recovery;
#[cfg(feature = "command")]
pub use redrive::CommandRedriver;
#[cfg(feature = "http")]
pub use redrive::{AgentEngineRedriver, HttpRedriver};
pub use redrive::{RedriveError, Redriver, Registry};
pub use runner::{Options, Runner};
#[cfg(feature = "cloud-tasks")]
pub use timer_tasks::TimerTasks;
pub use timers::Timers;
pub use wake::Wake;
#[cfg(feature = "pubsub")]
pub use wake::{PubsubError, PubsubWake};
#[cfg(feature = "push")]
pub use wake::{PushCounts, PushEndpoint};
pub use watched::Watched;
pub use worker::{Terms, Worker};

pub use tape_api as api;
pub use tape_api::recovery::Redrive;
#[cfg(feature = "http")]
pub use tape_api::signature::{SIGNATURE_HEADER, sign, verify};
pub use tape_core as core;
pub use tape_environment as environment;
