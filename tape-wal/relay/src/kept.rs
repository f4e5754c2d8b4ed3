//! What a part keeps beside its place, for the process that carries it next.

use crate::event::Event;
use crate::incarnation::Incarnation;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tape_core::id::{Seq, StreamId};
use tape_core::payload::ContentDigest;

/// The form that this build writes. What is kept saves repetitions, so one that it does not know is nothing.
const FORM: u32 = 1;
/// Of how many streams it is kept how far they are done with beyond the place. As many as a place has room for.
pub(crate) const STREAMS_MAX: usize = 500;
/// The digest of a stream's name and a number.
const RECORD_BYTES: usize = 24;

type Name = [u8; 16];

#[derive(Deserialize, Serialize)]
struct Stored {
    form: u32,
    failed_ms: u64,
    done: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incarnation: Option<u64>,
}

/// What a place says beside its cursors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// For how long the sink had taken nothing.
    pub(crate) failed: Duration,
    /// How far streams are done with, beyond the place.
    done: BTreeMap<Name, u64>,
    /// Of which of the relays of its name the place is; none where it does not say.
    pub(crate) incarnation: Option<Incarnation>,
}

impl Kept {
    pub(crate) fn read(state: &Bytes) -> Self {
        let stored: Option<Stored> = serde_json::from_slice(state).ok();
        let Some(stored) = stored.filter(|stored| stored.form == FORM) else {
            return Self::default();
        };
        let bytes = STANDARD_NO_PAD.decode(&stored.done).unwrap_or_default();
        let records = bytes.as_chunks::<RECORD_BYTES>().0.iter().map(|record| {
            let name = *record.first_chunk().expect("a record is longer than a digest");
            let seq = *record.last_chunk().expect("a record is longer than a number");
            (name, u64::from_be_bytes(seq))
        });
        Self {
            failed: Duration::from_millis(stored.failed_ms),
            done: records.collect(),
            incarnation: stored.incarnation.map(Incarnation),
        }
    }

    /// What to keep. Of more streams than there is room for, those that are left out are delivered again.
    pub(crate) fn write(
        failed: Duration,
        beyond: &BTreeMap<StreamId, Seq>,
        incarnation: Option<Incarnation>,
    ) -> Bytes {
        if failed.is_zero() && beyond.is_empty() && incarnation.is_none() {
            return Bytes::new();
        }
        let records = beyond.iter().take(STREAMS_MAX).flat_map(|(stream, seq)| {
            let (name, seq) = (name(stream), seq.0.to_be_bytes());
            name.into_iter().chain(seq)
        });
        let stored = Stored {
            form: FORM,
            failed_ms: u64::try_from(failed.as_millis()).unwrap_or(u64::MAX),
            done: STANDARD_NO_PAD.encode(records.collect::<Vec<u8>>()),
            incarnation: incarnation.map(|Incarnation(number)| number),
        };
        serde_json::to_vec(&stored)
            .expect("numbers and texts have a JSON form")
            .into()
    }

    /// The events that need not be delivered again, where no more than `events` were in the window of the process before.
    pub(crate) fn into_skip(self, events: u64) -> Skip {
        Skip {
            left: if self.done.is_empty() { 0 } else { events },
            done: self.done,
        }
    }
}

/// Events that a process before has delivered beyond the place.
#[derive(Debug)]
pub(crate) struct Skip {
    done: BTreeMap<Name, u64>,
    /// After so many events of the feed there are none any more.
    left: u64,
}

impl Skip {
    /// Whether an event, the next of the feed, is one of them.
    pub(crate) fn is_done(&mut self, event: &Event) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        let done = self.done.get(&name(event.stream()));
        done.is_some_and(|done| event.seq().0 <= *done)
    }
}

fn name(stream: &StreamId) -> Name {
    ContentDigest::of(stream).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tape_core::limits::RELAY_STATE_BYTES_MAX;

    #[test]
    fn what_is_kept_reads_back_and_fits_into_a_place() {
        let stream = |n: usize| format!("acme/value/v{n:04}").parse::<StreamId>().unwrap();
        let beyond: BTreeMap<StreamId, Seq> =
            (0..2 * STREAMS_MAX).map(|n| (stream(n), Seq(u64::MAX))).collect();
        let state = Kept::write(
            Duration::from_millis(u64::MAX),
            &beyond,
            Some(Incarnation(u64::MAX)),
        );
        assert!(state.len() <= RELAY_STATE_BYTES_MAX, "{} bytes", state.len());
        let kept = Kept::read(&state);
        assert_eq!(kept.done.len(), STREAMS_MAX);
        assert_eq!(kept.done[&name(&stream(3))], u64::MAX);
        assert_eq!(kept.failed, Duration::from_millis(u64::MAX));
    }

    #[test]
    fn nothing_and_what_is_of_another_build_is_nothing() {
        assert_eq!(Kept::write(Duration::ZERO, &BTreeMap::new(), None), Bytes::new());
        for state in ["", "{}", r#"{"form":2,"failed_ms":7,"done":""}"#] {
            assert_eq!(Kept::read(&Bytes::from(state)), Kept::default(), "{state}");
        }
    }
}
