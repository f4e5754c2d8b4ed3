//! The feed of the Tape journal: everything that was written, filtered by subject, with cursors to go on from.
//!
//! What this crate must not know: the rules of any stream, and who reads.

mod feed;
mod filter;

pub use feed::{Feed, FeedError, Page, Start};
pub use filter::Filter;
