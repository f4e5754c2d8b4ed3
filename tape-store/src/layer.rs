//! Layers over any store, each written once: counting, faults on purpose, trying again.

mod faults;
mod metrics;
mod retry;

pub use faults::{Fault, FaultyStore, Paused, Point};
pub use metrics::{Counts, MeteredStore};
pub use retry::RetryingStore;
