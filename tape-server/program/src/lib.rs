//! The common parts of Tape's programs: how they read their configuration, and how they log.

mod flags;
#[cfg(feature = "log")]
mod log;

pub use flags::without_empty_variables;
#[cfg(feature = "log")]
pub use log::start_log;
