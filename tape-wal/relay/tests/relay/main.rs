//! A relay over an engine: what it delivers, what it records, and what becomes of its place.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod hanging;
mod held;
mod meddled;
mod redelivered;
mod refused;
mod resumed;
mod stopped;
mod stops;
mod taken;
mod troubled;
mod world;
