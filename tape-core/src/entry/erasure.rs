//! Erasing payloads on request.

use super::words::has_words;
use crate::id::Seq;
use serde::{Deserialize, Serialize};

/// Payloads of entries of this stream were erased on request; the entry's principal says by whom. From here on, the stream is as if their
/// bytes had never been there, whether or not the store has removed them yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The requested entries, and the entries that repeat their contents.
    pub entries: Vec<Seq>,
    /// Why.
    pub reason: String,
}
has_words!(Erased: reason);

/// The store no longer returns any copy of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The last [`Erased`] entry that this holds for.
    pub through: Seq,
}
