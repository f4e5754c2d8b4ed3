//! The storage contract of the Tape journal, its backends, and what is written once above them.

pub mod contract;
pub mod error;
