//! Reactions: what they do to a journal, once for each entry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod again;
mod begun;
mod bounds;
mod chains;
mod debounced;
mod definitions;
mod meddled;
mod outbox;
#[cfg(unix)]
mod program;
mod signalled;
mod world;
