//! The place of a relay in the feed, and the rules by which it is held and moved.
//!
//! A relay's part is carried by one process at a time: the holder of its lease. Each change of holder has a greater epoch, and a move names the
//! epoch it was made under, so a process that lost its lease moves nothing, whatever it believes. The feed may be delivered twice around such
//! a change, never skipped: a place moves only after what lies before it was confirmed.

mod place;

pub use place::{Claim, Disabled, Held, NotMoved, Place, Progress};
