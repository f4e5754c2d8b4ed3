//! The client of the Tape journal.
//!
//! An agent that is written against [`Run`] survives the death of its process: decisions of its model are replayed, effects that happened
//! are not repeated, and effects that were about to happen are carried out. The same code runs over a server (`tape://host:port`) and over
//! a store in the agent's own process (`sqlite:PATH`, `memory:`).
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `sqlite` (default) | journals at `sqlite:PATH`, `memory:` |
//! | `remote` | journals at `tape://host:port`, behind a server; adds a gRPC client to the build |
//! | `postgres`, `bigtable`, `spanner` | journals in these stores |
//! | `embedded` | journals at `memory:`, and nothing else |
//! | `testing` | the module `testing`: a test kit that kills an agent at each write and each await |
//! | `signal` | `Host::serve`, which ends at SIGTERM |
//! | `serve` | an endpoint of a [`Host`] that takes signed re-drives over HTTP |
//!
//! # JSON
//!
//! A value that an agent gives as `impl Serialize` is written as JSON once, the members of its objects sorted by name. This text is
//! recorded, sent and compared. Floats are written by a rule of Tape's own, and a text has one form, however it was escaped. A hash set
//! has no fixed order and causes drift in the next process: use a sorted set. Numbers keep their digits; to keep them in the agent too, read
//! a value as a type that holds them, such as `f64`, `u128` or `serde_json::value::RawValue`. A `serde_json::Value` reads `1.10` as `1.1`
//! and has no `1e400`.
//!
//! Cargo features of `serde_json` apply to the whole program, whichever crate enables them. Tape switches on `float_roundtrip`, so that
//! floats are read exactly, and `raw_value`. A program that switches on `arbitrary_precision` or `preserve_order` changes what its own
//! types read; Tape's journals stay the same.
//!
//! What this crate must not know: how a journal stores its entries, and the rules of what may follow what.

mod budget;
mod client;
mod connect;
mod decision;
mod effect;
mod error;
mod gate;
mod host;
mod json;
mod lease;
mod lists;
mod open;
mod patch;
mod relays;
#[cfg(feature = "remote")]
mod remote;
mod retry;
mod run;
mod sample;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod timer;
mod url;
mod value;
mod watched;

pub use client::{EffectOutcome, Tape};
pub use connect::Connect;
pub use decision::{Answer, Asking, Decision};
pub use effect::{Call, CallError, Effect};
pub use error::Error;
pub use gate::{Gate, GateAnswer};
pub use host::Host;
pub use open::{open, open_existing};
#[cfg(feature = "remote")]
pub use remote::Remote;
pub use run::{Begun, Run, RunBuilder, RunResult};
pub use session::{Event, Session};
pub use timer::Timer;
pub use url::StoreUrl;
pub use value::Value;

pub use tape_api as api;
pub use tape_api::query::{
    DamagedEntry, DamagedStream, FeedPage, GatePage, GateQuery, IndexFinding, IndexPage, KeyOwnership,
    OlderEvents, OpenGate, QueueSummary, RecordedEvent, RetiredPage, Retirement, RunCounts, RunPage,
    RunQuery, SessionEvents, SessionPage, SessionQuery, SessionSummary, SessionView, StreamEnd, StreamPage,
    Tail, Transition, ValuePage, ValueQuery, ValueSummary, Versioned,
};
pub use tape_api::{Journal, JournalError, Source};
pub use tape_core as core;
pub use tape_core::budget::Currency;
pub use tape_core::effect::EffectPolicy;
pub use tape_core::entry::decision::Usage;
pub use tape_core::id::{AgentVersion, RunId, SessionId};
pub use tape_core::payload::Payload;
pub use tape_environment as environment;

/// The agent of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
