//! Cursors and page tokens of stores that number streams and entries as they come.

use crate::contract::{Cursor, PageToken, RunFilter};
use crate::error::StoreError;
use bytes::Bytes;
use tape_core::id::RunId;
use tape_core::stream::Summary;
use tape_core::time::Timestamp;

/// The place of a run in the list of runs, which is read from its greatest place down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) begun_at: Timestamp,
    pub(crate) stream: u64,
}

impl Place {
    pub(crate) fn token(self) -> PageToken {
        PageToken(format!("{}.{}", self.begun_at.as_micros(), self.stream))
    }

    pub(crate) fn read(token: &PageToken) -> Result<Self, StoreError> {
        let place = token.0.split_once('.').and_then(|(begun_at, stream)| {
            let begun_at = Timestamp::from_micros(begun_at.parse().ok()?);
            Some(Self {
                begun_at,
                stream: stream.parse().ok()?,
            })
        });
        let problem = || "it was not made by this store".to_owned();
        place.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: problem(),
        })
    }
}

/// The cursor after the feed's entry at `position`.
pub(crate) fn cursor(position: u64) -> Cursor {
    Cursor(Bytes::copy_from_slice(&position.to_be_bytes()))
}

/// The position a cursor stands for; zero is the beginning.
pub(crate) fn read_cursor(cursor: &Cursor) -> Result<u64, StoreError> {
    if cursor.0.is_empty() {
        return Ok(0);
    }
    let bytes = <[u8; 8]>::try_from(cursor.0.as_ref()).map(u64::from_be_bytes);
    let problem = || "it was not made by this store".to_owned();
    // Positions are kept as signed integers in some stores.
    let position = bytes.ok().filter(|position| i64::try_from(*position).is_ok());
    position.ok_or_else(|| StoreError::Invalid {
        what: "cursor",
        problem: problem(),
    })
}

impl RunFilter {
    /// Whether a run of the filter's tenant fits it.
    #[must_use]
    pub fn fits(&self, run: &RunId, summary: &Summary) -> bool {
        let label = |(key, value): &(_, String)| summary.labels.get(key) == Some(value);
        self.app.as_ref().is_none_or(|app| *app == run.app)
            && self.status.is_none_or(|status| status == summary.status)
            && self.label.as_ref().is_none_or(label)
            && self.begun_from.is_none_or(|from| summary.begun_at >= from)
            && self.begun_before.is_none_or(|before| summary.begun_at < before)
    }
}
