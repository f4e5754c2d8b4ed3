//! Reactors close the gap between what the journal says and what the world does: each looks for due work of one queue and
//! sees to it.
//!
//! - [`Reactor`] is what a reactor is; [`Driver`] runs it: woken by the feed, swept by the agenda, bounded, fair, drained.
//! - [`Access`] is what it needs of the journal, from a server or from a store.
//! - [`Recovery`] takes runs whose drivers are gone and has them driven again through a [`Redriver`].
//!
//! What this crate must not know: how entries are stored or sent, and what any agent does.

mod access;
mod driver;
#[cfg(feature = "http")]
mod http;
mod reactor;
mod recovery;
mod redrive;

pub use access::{Access, AccessError, DueWork};
pub use driver::{Driver, Options};
#[cfg(feature = "http")]
pub use http::HttpRedriver;
pub use reactor::{Reaction, ReactionError, Reactor};
pub use recovery::Recovery;
pub use redrive::{Redrive, RedriveError, Redriver, Registry};
