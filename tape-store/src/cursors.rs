//! Durable records of readers of the feed: where each of them is. Beside the contract of streams, since a reader moves far more often than
//! anything that has to be proved.

use crate::error::StoreError;
use async_trait::async_trait;
use bytes::Bytes;

/// Longest name of a record, in bytes: that of a part of a relay has two names of [`NAME_BYTES_MAX`](tape_core::limits::NAME_BYTES_MAX),
/// each byte of them escaped as three, and some more. Keys of the databases have at most 2,700.
pub const RECORD_NAME_BYTES_MAX: usize = 1_280;
/// Largest record, in bytes.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Greatest version of a record: databases have signed numbers.
pub const VERSION_MAX: u64 = i64::MAX as u64;

/// The part of a store that keeps the places of readers of the feed.
///
/// A record is changed only by [`CursorStore::swap_record`], which compares its version first: of several processes that change the same
/// version, one does.
#[async_trait]
pub trait CursorStore: Send + Sync {
    /// A record; none where there is none.
    ///
    /// # Behavior
    /// Reads committed data: a change that any process got acknowledged is visible.
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError>;

    /// Makes, replaces or removes a record, if its version is still the one that the swap expects. Returns whether it did.
    ///
    /// # Behavior
    /// Atomic, and durable once it returns true. After an error, the change may have been made, or may still be made: the caller reads the record and compares.
    /// What [`Swap::check`] refuses changes nothing.
    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError>;

    /// Records whose names begin with `prefix` and come after `after`, in the order of the bytes of their names, at most `limit` of them.
    ///
    /// # Behavior
    /// The cost is that of the records with the prefix. Fewer records than `limit`, which is at most
    /// [`PAGE_ENTRIES_MAX`](tape_core::limits::PAGE_ENTRIES_MAX), mean the end.
    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError>;
}

/// A record and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows with each change. The caller chooses it, so that a record that is removed and made again can have a version that no record of
    /// that name had before.
    pub version: u64,
    /// Its contents. The store does not look into them.
    pub bytes: Bytes,
}

/// A change of a record, under the version that it is to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// Makes a record where there is none.
    Make(Record),
    /// Replaces a record.
    Replace {
        /// Its version.
        expected: u64,
        /// What stands there from then on.
        next: Record,
    },
    /// Removes a record.
    Remove {
        /// Its version.
        expected: u64,
    },
}

impl Swap {
    /// The version before; none where there must be no record.
    #[must_use]
    pub const fn expected(&self) -> Option<u64> {
        match self {
            Self::Make(_) => None,
            Self::Replace { expected, .. } | Self::Remove { expected } => Some(*expected),
        }
    }

    /// The record afterwards; none where there is none then.
    #[must_use]
    pub const fn next(&self) -> Option<&Record> {
        match self {
            Self::Make(next) | Self::Replace { next, .. } => Some(next),
            Self::Remove { .. } => None,
        }
    }

    /// Checks what every store requires, independent of the record.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where the name is empty, over [`RECORD_NAME_BYTES_MAX`] or has a control character, the bytes are over
    /// [`RECORD_BYTES_MAX`], or the new version is not greater than the one before and at most [`VERSION_MAX`].
    pub fn check(&self, name: &str) -> Result<(), StoreError> {
        let before = self.expected().unwrap_or(0);
        let problem = match self.next() {
            _ if name.is_empty() || name.len() > RECORD_NAME_BYTES_MAX => {
                format!(
                    "its name has {} bytes, not 1 to {RECORD_NAME_BYTES_MAX}",
                    name.len()
                )
            }
            _ if name.contains(char::is_control) => format!("its name {name:?} has a control character"),
            Some(next) if next.bytes.len() > RECORD_BYTES_MAX => {
                format!(
                    "it has {} bytes, the limit is {RECORD_BYTES_MAX}",
                    next.bytes.len()
                )
            }
            Some(next) if next.version <= before || next.version > VERSION_MAX => {
                format!("its version goes from {before} to {}", next.version)
            }
            _ => return Ok(()),
        };
        Err(StoreError::Invalid {
            what: "record",
            problem,
        })
    }
}

/// The names that a page of a list may have: from the first text on and before the second, in the order of bytes.
///
/// Names have no control characters, so none lies between a name and the text that follows it here. No name is long enough to reach the end.
#[cfg(any(
    feature = "sqlite",
    feature = "postgres",
    feature = "bigtable",
    feature = "spanner"
))]
pub(crate) fn list_range(prefix: &str, after: Option<&str>) -> (String, String) {
    const LAST: char = char::MAX;
    let from = match after {
        Some(after) if after >= prefix => format!("{after}\u{1}"),
        _ => prefix.to_owned(),
    };
    let longer_than_names = RECORD_NAME_BYTES_MAX / LAST.len_utf8() + 1;
    let before = prefix.chars().chain(std::iter::repeat_n(LAST, longer_than_names));
    (from, before.collect())
}

#[cfg(all(
    test,
    any(
        feature = "sqlite",
        feature = "postgres",
        feature = "bigtable",
        feature = "spanner"
    )
))]
mod tests {
    use super::{RECORD_NAME_BYTES_MAX, list_range};

    #[test]
    fn a_page_of_records_has_the_names_with_the_prefix() {
        let (last, long) = (
            char::MAX.to_string(),
            "a/".to_owned() + &"~".repeat(RECORD_NAME_BYTES_MAX),
        );
        let far = format!("a/{}", last.repeat((RECORD_NAME_BYTES_MAX - 2) / last.len()));
        let names = [
            "A/",
            "a",
            "a/",
            "a/x",
            "a/ä",
            &long[..RECORD_NAME_BYTES_MAX],
            &far,
            "a0",
            "b/",
            &last,
        ];
        for prefix in ["", "a", "a/", "b", &last, "c"] {
            for after in [None, Some("a/"), Some("a/x"), Some("a0"), Some("z")] {
                let (from, before) = list_range(prefix, after);
                for name in names {
                    let is_meant = name.starts_with(prefix) && after.is_none_or(|after| name > after);
                    let is_within = name >= from.as_str() && name < before.as_str();
                    assert_eq!(is_within, is_meant, "{name:?} of {prefix:?} after {after:?}");
                }
            }
        }
    }
}
