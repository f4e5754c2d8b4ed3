//! What the runnable agents of this crate share.
//!
//! Each demonstration is a scenario with real processes: a *supervisor* starts an upstream, a model, the journal's server and the
//! agents, and kills agents and servers with `SIGKILL` at points planned beforehand. The parts:
//!
//! - [`journal`]: the small seam between an agent and what it stands on. [`taped`] is a run on Tape; [`notes`] is an agent's own
//!   notes file, which is what it has without.
//! - [`upstream`]: a service that acts, with a durable [`ledger`] of its own; [`model`]: a service that decides and counts how
//!   often it is asked what; [`http`] calls them.
//!   [`non_idempotent_upstream`] is an upstream that heeds no keys, loses answers and delays them.
//! - [`stops`]: where a process is to be killed, and how an agent gets there; [`child`] and [`parent`]: the two ends of the pipe
//!   between the supervisor and the processes it starts.
//! - [`processes`]: what every supervisor does, whatever is played.
//! - [`server`]: the journal's servers; [`reactors`]: the workers beside them; [`programs`]: where their programs come from; [`retry`]: what
//!   starts them until they stand;
//!   [`recovery`]: Tape's recovery, which brings killed agents back.
//! - [`record`]: a journal read back and verified; [`seed`]: random choices that are the same on every machine.

pub mod child;
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
pub mod reactors;
pub mod record;
pub mod recovery;
pub mod retry;
pub mod seed;
pub mod server;
pub mod stops;
pub mod taped;
pub mod upstream;
