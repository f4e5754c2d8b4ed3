//! What is on record of a relay.

use super::words::has_words;
use crate::id::{Seq, StreamId, SubscriberName};
use crate::payload::Digest;
use serde::{Deserialize, Serialize};

/// An entry that a relay sends, as the feed has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentEntry {
    /// Its stream.
    pub stream: StreamId,
    /// The entry.
    pub seq: Seq,
    /// The chain of that stream up to and with the entry. It says which entry was meant, should the stream ever be another.
    pub digest: Digest,
}

/// The entry of any stream that records an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedErasure {
    /// The stream whose payloads were erased.
    pub stream: StreamId,
    /// The entry that recorded it.
    pub seq: Seq,
}

/// The sink refused an entry for good. The relay goes on behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The entry.
    pub entry: SentEntry,
    /// How often it was sent until then, from 1.
    pub attempts: u32,
    /// Why, as the sink or the relay says it.
    pub reason: String,
}
has_words!(Refused: reason);

/// An entry that was refused was sent again, and the sink took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivered {
    /// The [`Refused`] entry.
    pub refusal: Seq,
}

/// A subscriber confirmed that it erased what was erased here; the entry's principal says who brought its word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The subscriber.
    pub subscriber: SubscriberName,
    /// What it erased.
    pub erasure: RecordedErasure,
}
