//! The feed of the Tape journal: all entries, filtered by subject, with cursors to continue from. [`Feed`] is a reader of its own;
//! [`SharedFeed`] is read once for all followers of a process.
//!
//! This crate must not know the rules of any stream, or its readers.

mod feed;
mod filter;
mod shared;

pub use feed::{Feed, FeedError, Page, Start};
pub use filter::Filter;
pub use shared::{LiveFeed, SharedFeed, StreamWatch};
