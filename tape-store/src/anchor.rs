//! Ties a cursor of the feed to its journal.
//!
//! A cursor holds the digest of the last entry before it, but not its stream, which may be another tenant's. Where a journal has another
//! entry at that place, or ends before it, the journal is a different one, or was restored from a backup after the cursor was made. Its
//! feed would skip what was written after the restore, so such a cursor is refused. Cursors that this process made itself are not looked
//! up.

use crate::contract::{Cursor, TailPage};
use crate::error::StoreError;
use bytes::{BufMut as _, Bytes, BytesMut};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard};
use tape_core::payload::Digest;

/// Most cursors that are remembered as known to be of this journal.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");
/// How much of the entry's digest a cursor holds.
const DIGEST_BYTES: usize = 16;

/// A cursor as a reader has it: a place of the store's own, and the digest of the last entry before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anchored {
    /// The store's place; empty for the beginning.
    pub(crate) place: Cursor,
    digest: Option<[u8; DIGEST_BYTES]>,
    /// Whether the journal is known to have that entry.
    known: bool,
}

/// What a store has at the place of a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The entry with this digest.
    Entry(Digest),
    /// The entry was dropped; the feed continues after it.
    Dropped,
    /// The feed ends before this place.
    Beyond,
}

impl Anchored {
    /// A place that was read from the store, with the digest of the entry there.
    pub(crate) fn new(place: Cursor, digest: Option<Digest>) -> Self {
        Self {
            place,
            digest: digest.map(short),
            known: true,
        }
    }

    fn read(cursor: &Cursor) -> Result<Self, StoreError> {
        if cursor.0.is_empty() {
            return Ok(Self::default());
        }
        Self::parse(&cursor.0).ok_or_else(|| invalid("it was not made by this store"))
    }

    /// The length of the place, the place, and the digest where there is one.
    fn parse(bytes: &Bytes) -> Option<Self> {
        let (length, rest) = bytes.split_first()?;
        let (place, digest) = rest.split_at_checked(usize::from(*length))?;
        let digest = match digest {
            [] => None,
            digest => Some(digest.try_into().ok()?),
        };
        Some(Self {
            place: Cursor(Bytes::copy_from_slice(place)),
            digest,
            known: false,
        })
    }

    fn cursor(&self) -> Cursor {
        let place = &self.place.0;
        if place.is_empty() {
            return Cursor::default();
        }
        let length = u8::try_from(place.len()).expect("a place takes a few numbers");
        let mut bytes = BytesMut::with_capacity(1 + place.len() + DIGEST_BYTES);
        bytes.put_u8(length);
        bytes.put_slice(place);
        bytes.put_slice(self.digest.as_ref().map_or(&[], |digest| digest));
        Cursor(bytes.freeze())
    }

    /// Whether the store must be asked which entry it has at the place.
    pub(crate) const fn is_unknown(&self) -> bool {
        self.digest.is_some() && !self.known
    }

    /// Compares the cursor with what the store has at its place.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where it is of another journal.
    pub(crate) fn check(&self, found: Found) -> Result<(), StoreError> {
        let fits = match found {
            Found::Entry(digest) => self.digest == Some(short(digest)),
            Found::Dropped => true,
            Found::Beyond => false,
        };
        if fits {
            return Ok(());
        }
        Err(invalid(
            "this journal does not have the entry that it follows: it is of another journal, or of this one before it was restored from \
             a backup; read the feed from an earlier cursor, or from its beginning",
        ))
    }
}

fn short(digest: Digest) -> [u8; DIGEST_BYTES] {
    let (short, _) = digest.0.split_first_chunk().expect("a digest is longer");
    *short
}

fn invalid(problem: &str) -> StoreError {
    StoreError::Invalid {
        what: "cursor",
        problem: problem.to_owned(),
    }
}

/// The cursors of one store in one process.
#[derive(Debug)]
pub(crate) struct Anchors(Mutex<LruCache<Cursor, ()>>);

impl Anchors {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(KNOWN_MAX)))
    }

    /// The store's place of a cursor, and whether it still has to be checked.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where no store made it.
    pub(crate) fn open(&self, cursor: &Cursor) -> Result<Anchored, StoreError> {
        let anchored = Anchored::read(cursor)?;
        let known = self.known().get(cursor).is_some();
        Ok(Anchored { known, ..anchored })
    }

    /// The page after `before` as a reader gets it: its cursor has the digest of the last entry.
    pub(crate) fn page(&self, before: Anchored, page: TailPage) -> TailPage {
        let digest = match page.entries.last() {
            Some(last) => Some(short(last.entry.digest)),
            None if before.place == page.cursor => before.digest,
            // The last entry before the place is damaged or dropped, so there is no digest to check.
            None => None,
        };
        let after = Anchored {
            place: page.cursor,
            digest,
            known: true,
        };
        TailPage {
            cursor: self.note(&after),
            ..page
        }
    }

    /// The cursor of a place that was just read from the store.
    pub(crate) fn note(&self, anchored: &Anchored) -> Cursor {
        let cursor = anchored.cursor();
        self.known().put(cursor.clone(), ());
        cursor
    }

    /// Makes every cursor be looked up again: the connection may now lead to another database.
    #[cfg(feature = "postgres")]
    pub(crate) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Cursor, ()>> {
        self.0.lock().expect("no code panics while it holds the cursors")
    }
}

#[cfg(test)]
mod tests {
    use super::{Anchored, Anchors, Found};
    use crate::contract::Cursor;
    use bytes::Bytes;
    use tape_core::payload::Digest;

    #[test]
    fn a_cursor_reads_as_what_it_was_made_of_and_is_checked_where_another_process_made_it() {
        let place = Cursor(Bytes::from_static(b"somewhere"));
        let (made, elsewhere) = (Anchors::new(), Anchors::new());
        let cursor = made.note(&Anchored::new(place.clone(), Some(Digest([9; 32]))));
        assert!(!made.open(&cursor).unwrap().is_unknown());
        let read = elsewhere.open(&cursor).unwrap();
        assert_eq!(read.place, place);
        assert!(read.is_unknown());
        assert!(read.check(Found::Entry(Digest([9; 32]))).is_ok());
        assert!(read.check(Found::Dropped).is_ok());
        assert!(read.check(Found::Entry(Digest([8; 32]))).is_err());
        assert!(read.check(Found::Beyond).is_err());
        assert_eq!(made.open(&Cursor::default()).unwrap(), Anchored::default());
        for garbage in [&b"\x09x"[..], &[0, 1, 2], &[0xff; 300]] {
            assert!(made.open(&Cursor(Bytes::copy_from_slice(garbage))).is_err());
        }
    }
}
