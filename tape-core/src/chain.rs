//! The chain: each entry's digest covers its envelope and, through the digest before it, all earlier ones.
//!
//! `digest(n) = SHA-256("tape entry 1\n" ‖ digest(n - 1) ‖ envelope(n))`, with 32 zero bytes before the first. The envelope has
//! the digests of the payloads, not their bytes, so an erased payload leaves the chain whole. A head (sequence number and
//! digest) that was published somewhere else makes truncation evident too.

use crate::codec::StoredEntry;
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

/// Verifies a journal from its first entry on, offline and in one pass.
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
            published,
        }
    }

    /// Verifies the next entry.
    ///
    /// # Errors
    /// Where and how the chain breaks.
    pub fn check(&mut self, stored: &StoredEntry) -> Result<(), ChainError> {
        let (expected, found) = (self.seq.next(), stored.seq);
        if expected != found {
            return Err(ChainError::Gap { expected, found });
        }
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
        (self.seq, self.digest) = (found, computed);
        let erased = entry
            .body
            .payloads()
            .into_iter()
            .filter(|payload| payload.bytes().is_none());
        self.erased += erased.count() as u64;
        match self.published {
            Some((seq, published)) if seq == found && published != computed => {
                Err(ChainError::HeadMismatch {
                    seq,
                    found: computed,
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

    /// Ends the journal: returns its head.
    ///
    /// # Errors
    /// [`ChainError::Truncated`] where a published head lies beyond the last entry.
    pub fn finish(self) -> Result<(Seq, Digest), ChainError> {
        match self.published {
            Some((head, _)) if head > self.seq => Err(ChainError::Truncated { end: self.seq, head }),
            _ => Ok((self.seq, self.digest)),
        }
    }
}
