//! The chain: each entry's digest covers its envelope and, through the digest before it, all earlier ones.
//!
//! `digest(n) = SHA-256("tape entry 1\n" ‖ digest(n - 1) ‖ envelope(n))`, with 32 zero bytes before the first. The envelope has
//! the digests of the payloads, not their bytes, so an erased payload leaves the chain whole. A head (sequence number and
//! digest) that was published somewhere else makes truncation evident too.

use crate::codec::StoredEntry;
use crate::entry::{Entry, EntryBody};
use crate::id::Seq;
use crate::payload::Digest;
use sha2::{Digest as _, Sha256};

/// The digest of the entry that comes after `previous` and has this envelope.
#[must_use]
pub fn link(previous: &Digest, envelope: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"tape entry 1\n");
    hash.update(previous.0);
    hash.update(envelope);
    Digest(hash.finalize().into())
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// An entry is missing or out of place.
    #[error("entry {found} stands where entry {expected} should")]
    Gap {
        /// What should stand there.
        expected: Seq,
        /// What does.
        found: Seq,
    },
    /// An entry is not what was written.
    #[error("entry {seq} was changed: its chain digest is {recorded}, its bytes give {computed}")]
    Changed {
        /// The entry.
        seq: Seq,
        /// The digest beside it.
        recorded: Digest,
        /// The digest of its bytes.
        computed: Digest,
    },
    /// Payload bytes are not what was written.
    #[error("the payload of entry {seq} was changed: {problem}")]
    PayloadChanged {
        /// The entry.
        seq: Seq,
        /// What does not agree.
        problem: String,
    },
    /// An entry does not agree with those before it, for which it is to stand.
    #[error(
        "entry {seq} retires the run, but names another number or another last one of the entries before it"
    )]
    Retirement {
        /// The entry.
        seq: Seq,
    },
    /// The published head was dropped when the run was retired, and is not the last that was dropped.
    #[error("entry {head}, the published head, was dropped: the journal verifies from entry {first} on")]
    HeadDropped {
        /// The published head.
        head: Seq,
        /// The first entry there is.
        first: Seq,
    },
    /// The journal ends before a head that was published.
    #[error("the journal ends at entry {end}, before the published head at entry {head}")]
    Truncated {
        /// The last entry there is.
        end: Seq,
        /// The published head.
        head: Seq,
    },
    /// The journal is not the one whose head was published.
    #[error("entry {seq} has digest {found}, the published head has {published}")]
    HeadMismatch {
        /// The published head.
        seq: Seq,
        /// What the journal has there.
        found: Digest,
        /// What was published.
        published: Digest,
    },
}

/// Verifies a journal from its first entry on, offline and in one pass. That of a retired run begins with the entry that stands for
/// those that were dropped, and names the end of their chain.
///
/// ```
/// use tape_core::chain::Verifier;
/// let verifier = Verifier::new(None);
/// assert_eq!(verifier.finish().unwrap().0.0, 0);
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    seq: Seq,
    digest: Digest,
    erased: u64,
    dropped: u64,
    published: Option<(Seq, Digest)>,
}

impl Verifier {
    /// A verifier for a journal whose head, where one is given, was published earlier.
    #[must_use]
    pub fn new(published: Option<(Seq, Digest)>) -> Self {
        Self {
            seq: Seq::ZERO,
            digest: Digest::default(),
            erased: 0,
            dropped: 0,
            published,
        }
    }

    /// Verifies the next entry.
    ///
    /// # Errors
    /// Where and how the chain breaks.
    pub fn check(&mut self, stored: &StoredEntry) -> Result<(), ChainError> {
        if stored.seq != self.seq.next() {
            self.begin_retired(stored)?;
        }
        let found = stored.seq;
        let computed = link(&self.digest, &stored.envelope);
        if computed != stored.digest {
            return Err(ChainError::Changed {
                seq: found,
                recorded: stored.digest,
                computed,
            });
        }
        let entry = crate::codec::decode(stored).map_err(|error| ChainError::PayloadChanged {
            seq: found,
            problem: error.to_string(),
        })?;
        check_retirement(&entry, &self.digest)?;
        (self.seq, self.digest) = (found, computed);
        let erased = entry
            .body
            .payloads()
            .into_iter()
            .filter(|payload| payload.bytes().is_none());
        self.erased += erased.count() as u64;
        self.compare()
    }

    /// Takes the end of the chain that was dropped from the entry that stands for it.
    fn begin_retired(&mut self, stored: &StoredEntry) -> Result<(), ChainError> {
        let gap = ChainError::Gap {
            expected: self.seq.next(),
            found: stored.seq,
        };
        let decoded = crate::codec::decode(stored).map(|entry| entry.body);
        let Ok(EntryBody::RunRetired(retired)) = decoded else {
            return Err(gap);
        };
        if self.seq != Seq::ZERO || stored.seq != Seq(retired.dropped).next() {
            return Err(gap);
        }
        (self.seq, self.digest) = (Seq(retired.dropped), retired.previous);
        self.dropped = retired.dropped;
        self.compare()
    }

    /// Compares the last entry with the published head, where it is that.
    fn compare(&self) -> Result<(), ChainError> {
        match self.published {
            Some((seq, published)) if seq == self.seq && published != self.digest => {
                Err(ChainError::HeadMismatch {
                    seq,
                    found: self.digest,
                    published,
                })
            }
            _ => Ok(()),
        }
    }

    /// The last entry that verified; zero before the first.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// How many payloads of the entries that verified are erased: behind their digests there are no bytes.
    #[must_use]
    pub const fn erased(&self) -> u64 {
        self.erased
    }

    /// How many entries were dropped before the first one there is, by what that one says.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Ends the journal: returns its head.
    ///
    /// # Errors
    /// [`ChainError::Truncated`] where a published head lies beyond the last entry, [`ChainError::HeadDropped`] where it
    /// is among those that were dropped and nothing is left to compare it with.
    pub fn finish(self) -> Result<(Seq, Digest), ChainError> {
        match self.published {
            Some((head, _)) if head > self.seq => Err(ChainError::Truncated { end: self.seq, head }),
            Some((head, _)) if head.0 < self.dropped => Err(ChainError::HeadDropped {
                head,
                first: Seq(self.dropped).next(),
            }),
            _ => Ok((self.seq, self.digest)),
        }
    }
}

/// Checks what an entry that retires its run says of the entries before it against their end.
///
/// # Errors
/// [`ChainError::Retirement`] where it is about others.
pub fn check_retirement(entry: &Entry, previous: &Digest) -> Result<(), ChainError> {
    match &entry.body {
        EntryBody::RunRetired(retired)
            if retired.previous != *previous || Seq(retired.dropped).next() != entry.seq =>
        {
            Err(ChainError::Retirement { seq: entry.seq })
        }
        _ => Ok(()),
    }
}
