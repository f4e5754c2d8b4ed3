//! The rules of Tape, the durable journal under agents that act. Pure: no I/O, no clock, no async, no randomness.
//!
//! A *stream* (a run, a session, state that sessions share, a value, the owner of a business key) is a sequence of immutable [`entry::Entry`]s. A [`command::Command`] is decided
//! against the state folded from them ([`decider::Decider::decide`]) and becomes new entries and a reply, or a
//! rejection. Time, ids and randomness come in as arguments.
//!
//! What this crate must not know: how entries are stored, sent or scheduled; what time it is; where a random number
//! comes from; any upstream. The workspace's tests check that none of these is reachable from here.

pub mod agenda;
pub mod agent_version;
pub mod budget;
pub mod causes;
pub mod chain;
pub mod codec;
pub mod command;
pub mod decider;
pub mod effect;
pub mod entry;
pub mod erasure;
pub mod fingerprint;
pub mod id;
pub mod json;
pub mod key_owner;
pub mod limits;
mod number;
pub mod outage;
pub mod payload;
pub mod reaction;
pub mod relay;
pub mod relay_record;
pub mod replay;
mod replies;
pub mod reply;
pub mod run;
pub mod session;
pub mod shared;
pub mod state;
pub mod status;
pub mod subject;
pub mod time;
pub mod value;
pub mod verify;
