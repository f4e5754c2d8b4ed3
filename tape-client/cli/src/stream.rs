//! Verifies one stream against every source that knows where it ends.

use bytes::Bytes;
use tape_client::core::chain::ChainError;
use tape_client::core::codec::StoredEntry;
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;
use tape_client::core::verify::{Audit, AuditError, SnapshotFinding, Verified};

/// An entry that the stream must have, and the source that says so.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The source, such as `the feed`.
    pub by: &'static str,
    /// The number of the entry.
    pub seq: Seq,
    /// The chain digest there.
    pub digest: Digest,
}

/// A stream in which nothing is broken.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What is verified.
    pub verified: Verified,
    /// What is neither proved nor broken, beside what `verified` says: a newer build wrote an entry, nothing says where the stream ends, no
    /// entry names the snapshot.
    pub doubts: Vec<String>,
}

impl Sound {
    /// Whether all of it is proved.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.verified.uncovered.is_empty() && self.verified.unproved.is_empty() && self.doubts.is_empty()
    }
}

/// What is broken in a stream.
#[derive(Clone, Debug)]
pub struct Broken {
    /// In a line.
    pub what: String,
    /// Whether an entry has another number than the next.
    pub is_gap: bool,
    /// The entry that says that an erasure is finished whose bytes were read: see [`AuditError::finished`].
    pub finished: Option<Seq>,
}

impl From<String> for Broken {
    fn from(what: String) -> Self {
        Self {
            what,
            is_gap: false,
            finished: None,
        }
    }
}

impl From<AuditError> for Broken {
    fn from(error: AuditError) -> Self {
        let is_gap = matches!(error, AuditError::Chain(ChainError::Gap { .. }));
        Self {
            what: error.to_string(),
            is_gap,
            finished: error.finished(),
        }
    }
}

/// Verifies a stream from its first entry on, in one pass.
#[derive(Clone, Debug)]
pub struct StreamAudit {
    audit: Audit,
    known: Vec<Known>,
    unread: Option<String>,
}

impl StreamAudit {
    /// An audit of a stream: with heads of it that were published earlier, with entries that other sources know, and with its snapshot.
    #[must_use]
    pub fn new(
        stream: &StreamId,
        published: impl IntoIterator<Item = (Seq, Digest)>,
        known: Vec<Known>,
        snapshot: Option<(Seq, Bytes)>,
    ) -> Self {
        Self {
            audit: Audit::new(stream, published, snapshot),
            known,
            unread: None,
        }
    }

    /// Verifies the next entry. Nothing is verified from an entry on that a newer build wrote.
    ///
    /// # Errors
    /// What is broken. Nothing after it can be verified.
    pub fn check(&mut self, stored: &StoredEntry) -> Result<(), Broken> {
        if self.unread.is_some() {
            return Ok(());
        }
        match self.audit.check(stored) {
            Err(error) if error.is_newer() => {
                self.stop(&error.to_string());
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(()) => another(&self.known, stored.seq, stored.digest)
                .map_or(Ok(()), |other| Err(Broken::from(other))),
        }
    }

    /// Verifies no later entry, for a reason that proves no damage.
    pub fn stop(&mut self, why: &str) {
        self.unread
            .get_or_insert_with(|| format!("{why}; nothing from there on is verified"));
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What is broken.
    pub fn finish(self) -> Result<Sound, Broken> {
        let verified = match &self.unread {
            Some(_) => self.audit.so_far(),
            None => {
                if let Some(missing) = missing(&self.known, self.audit.seq()) {
                    return Err(missing.into());
                }
                self.audit.finish()?
            }
        };
        let mut doubts: Vec<String> = self.unread.into_iter().collect();
        if verified.snapshot == SnapshotFinding::Unnamed {
            doubts.push("no entry that is verified names the snapshot".to_owned());
        }
        Ok(Sound { verified, doubts })
    }
}

/// The source that knows this entry by another digest.
fn another(known: &[Known], seq: Seq, digest: Digest) -> Option<String> {
    let Known {
        by, digest: other, ..
    } = known
        .iter()
        .find(|known| known.seq == seq && known.digest != digest)?;
    Some(format!("entry {seq} has digest {digest}, {by} has {other}"))
}

/// The source that knows of entries after the last.
fn missing(known: &[Known], end: Seq) -> Option<String> {
    let Known { by, seq, .. } = known.iter().find(|known| known.seq > end)?;
    Some(format!("its entries end at {end}, {by} is at entry {seq}"))
}

#[cfg(test)]
mod tests {
    use super::{Known, another, missing};
    use tape_client::core::id::Seq;
    use tape_client::core::payload::Digest;

    fn known(by: &'static str, seq: u64, of: &str) -> Known {
        let (seq, digest) = (Seq(seq), Digest::of(of.as_bytes()));
        Known { by, seq, digest }
    }

    #[test]
    fn an_entry_that_somebody_knows_as_another_is_told() {
        let knows = [known("its head", 3, "c"), known("the feed", 2, "b")];
        let told = |seq, of: &str| another(&knows, Seq(seq), Digest::of(of.as_bytes()));
        let (found, expected) = (Digest::of(b"x"), Digest::of(b"b"));
        let changed = format!("entry 2 has digest {found}, the feed has {expected}");
        assert_eq!(told(2, "x"), Some(changed));
        assert!(told(3, "b").is_some_and(|told| told.contains("its head has")));
        for (seq, of) in [(1, "x"), (2, "b"), (3, "c"), (4, "x")] {
            assert_eq!(told(seq, of), None, "entry {seq}");
        }
    }

    #[test]
    fn entries_that_somebody_knows_of_are_missed() {
        let knows = [known("its head", 3, "c"), known("the feed", 5, "e")];
        let told = |end| missing(&knows, Seq(end));
        assert_eq!(
            told(2).as_deref(),
            Some("its entries end at 2, its head is at entry 3")
        );
        assert_eq!(
            told(4).as_deref(),
            Some("its entries end at 4, the feed is at entry 5")
        );
        assert_eq!(told(5), None);
    }
}
