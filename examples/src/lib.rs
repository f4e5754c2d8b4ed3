//! The shared parts of this crate's runnable agents.
//!
//! Each demonstration is a scenario with real processes: a *supervisor* starts an upstream, a model, the journal's server and the
//! agents, and kills agents and servers with `SIGKILL` at points planned beforehand. The parts:
//!
//! - [`journal`]: the small interface between an agent and its backing. [`taped`] is a run on Tape; [`notes`] is an agent's own notes file,
//!   its backing without Tape.
//! - [`upstream`]: a service that acts, with a durable [`ledger`] of its own; [`model`]: a service that decides and counts its questions;
//!   [`http`] calls them. [`non_idempotent_upstream`] is an upstream that ignores idempotency keys, and loses and delays answers.
//! - [`acts`]: an upstream in a file that programs in several languages write.
//! - [`stops`]: where a process will be killed, and how an agent reports it; [`child`] and [`parent`]: the two ends of the pipe
//!   between the supervisor and the processes it starts.
//! - [`processes`]: the common part of every supervisor.
//! - [`server`]: the journal's servers; [`copies`]: the workers and relays beside them; [`programs`]: where their programs come from;
//!   [`retry`]: retries their start until it succeeds; [`pubsub`]: messages that wake workers; [`recovery`]: Tape's recovery, which brings
//!   killed agents back.
//! - [`record`]: a journal read back and verified; [`seed`]: random choices that are the same on every machine.

pub mod acts;
mod built;
pub mod child;
pub mod copies;
pub mod http;
pub mod interrupt;
pub mod journal;
pub mod ledger;
pub mod model;
pub mod non_idempotent_upstream;
pub mod notes;
pub mod parent;
pub mod processes;
pub mod programs;
pub mod pubsub;
#[path = "../../tape-wal/relay/tests/pubsub_emulator/mod.rs"]
mod pubsub_emulator;
pub mod record;
pub mod recovery;
pub mod retry;
pub mod seed;
pub mod server;
pub mod stops;
pub mod taped;
pub mod upstream;
