//! What the programs of Tape have in common: how they read what they are told, and what they say about themselves.

mod flags;
#[cfg(feature = "log")]
mod log;

pub use flags::without_empty_variables;
#[cfg(feature = "log")]
pub use log::start_log;
