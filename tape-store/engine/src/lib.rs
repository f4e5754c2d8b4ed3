//! The engine of a journal: commands on streams, over any store.
//!
//! [`Engine`] executes commands and reads state; it is a [`Journal`](tape_api::Journal). Beneath it, a stream service for each kind of
//! stream loads, decides and seals, and one committer groups what they write into commits of the store.
//!
//! This crate must not know which store it runs over, or which crate calls it.

pub mod committer;
#[cfg(feature = "testing")]
pub mod conformance;
mod engine;
mod journal;

mod stream_service;

pub use engine::{
    DuePage, Engine, EventsFrom, EventsPage, IndexFinding, IndexPage, IndexProblem, RetiredPage, Retirement,
    SessionState,
};
pub use stream_service::{EngineError, StreamService, page_to_end};

#[cfg(feature = "testing")]
#[doc(hidden)]
pub use tape_store::conformance::run as __run;
