//! Erasing payloads on request.

use super::words::has_words;
use crate::id::Seq;
use serde::{Deserialize, Serialize};

/// Somebody had payloads of entries of this stream erased; the entry's principal says who. From here on the stream is as if their
/// bytes had never been there, whether the store has got rid of them already or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The entries: those that were asked for, and those that repeat what they say.
    pub entries: Vec<Seq>,
    /// Why.
    pub reason: String,
}
has_words!(Erased: reason);

/// No copy of the bytes is left that the store still gives out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The last [`Erased`] entry of which that is so.
    pub through: Seq,
}
