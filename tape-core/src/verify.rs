//! Verifies a stream together with its published heads and its snapshot.
//!
//! The entries are folded by the usual rules, which finds entries that cannot follow each other. The snapshot is compared with the folded
//! state.

use crate::chain::{ChainError, Verifier};
use crate::codec::StoredEntry;
use crate::decider::{Decider, ReplayError, restore};
use crate::entry::{Entry, EntryBody};
use crate::id::{Seq, StreamId};
use crate::key_owner::KeyOwner;
use crate::payload::Digest;
use crate::relay_record::RelayRecord;
use crate::run::Run;
use crate::session::Session;
use crate::shared::Shared;
use crate::value::Value;
use bytes::Bytes;

/// What is broken in a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The chain is broken.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An entry cannot follow those before it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The snapshot is not the one that the entry names.
    #[error("the snapshot after entry {seq} is not the one that the entry names")]
    SnapshotReplaced {
        /// The entry.
        seq: Seq,
    },
    /// The snapshot does not agree with the entries.
    #[error("the snapshot after entry {seq} does not say what the entries up to there say")]
    SnapshotDiffers {
        /// The entry.
        seq: Seq,
    },
    /// The snapshot may have what was erased after it was taken, though the stream records that the erasure is finished.
    #[error(
        "the snapshot after entry {seq} is of before an erasure, and entry {finished} says that this is finished"
    )]
    SnapshotBack {
        /// The entry.
        seq: Seq,
        /// The entry that says that the erasure is finished.
        finished: Seq,
    },
    /// The snapshot is said to be of before the first entry. No build takes one there.
    #[error("the snapshot is of entry 0, and entries are numbered from 1")]
    SnapshotOfNothing,
    /// The snapshot is of an entry that does not exist.
    #[error("the snapshot is of entry {seq}, the entries end at {end}")]
    SnapshotBeyond {
        /// The entry of the snapshot.
        seq: Seq,
        /// The last entry there is.
        end: Seq,
    },
}

impl AuditError {
    /// Whether a newer build wrote what cannot be read: then nothing is proved from there on, neither damage nor that all is whole.
    #[must_use]
    pub const fn is_newer(&self) -> bool {
        matches!(self, Self::Chain(ChainError::Newer { .. }))
    }

    /// The entry that says that an erasure is finished whose bytes were read. One who read them before that entry was there has to read again
    /// to know whether they are still there.
    #[must_use]
    pub const fn finished(&self) -> Option<Seq> {
        match self {
            Self::Chain(ChainError::PayloadBack { finished, .. }) | Self::SnapshotBack { finished, .. } => {
                Some(*finished)
            }
            _ => None,
        }
    }
}

/// What is known of a stream's snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotFinding {
    /// There is none.
    #[default]
    None,
    /// It agrees with the entries.
    Verified,
    /// Its entry names it, and it cannot be compared: another version of the rules took it, or payloads up to it are erased.
    Unchecked,
    /// No entry that is verified names it, so nothing proves it: the entry is of version 1, or was dropped. No engine uses it.
    Unnamed,
}

/// The result of verifying an intact stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Its last entry, and the chain digest there.
    pub head: (Seq, Digest),
    /// The number of payloads whose bytes are missing, including those of [`Verified::unproved`].
    pub erased: u64,
    /// Entries of version 1 whose payload is gone without an entry that erases it: nothing proves whether it was erased or destroyed.
    pub unproved: Vec<Seq>,
    /// The number of entries dropped before the first remaining one, as that one records it.
    pub dropped: u64,
    /// Published heads among the dropped entries: nothing proves what they covered.
    pub uncovered: Vec<Seq>,
    /// Its snapshot.
    pub snapshot: SnapshotFinding,
}

/// Verifies a stream from its first entry on, in one pass.
///
/// ```
/// use tape_core::verify::Audit;
/// let audit = Audit::new(&"acme/value/rate".parse().unwrap(), [], None);
/// assert_eq!(audit.finish().unwrap().head.0.0, 0);
/// ```
#[derive(Clone, Debug)]
pub struct Audit {
    verifier: Verifier,
    fold: Fold,
    snapshot: Option<(Seq, Bytes)>,
    finding: SnapshotFinding,
    /// The first erasure, after the snapshot was taken, of an entry up to there.
    outdated: Option<Seq>,
}

/// The folded state of a stream's entries.
#[derive(Clone, Debug)]
enum Fold {
    Run(Box<Run>),
    Session(Box<Session>),
    Shared(Box<Shared>),
    Value(Box<Value>),
    KeyOwner(Box<KeyOwner>),
    Relay(Box<RelayRecord>),
}

impl Fold {
    fn of(stream: &StreamId) -> Self {
        match stream {
            StreamId::Run(_) => Self::Run(Box::default()),
            StreamId::Session(_) => Self::Session(Box::default()),
            StreamId::Shared { .. } => Self::Shared(Box::default()),
            StreamId::Value { .. } => Self::Value(Box::default()),
            StreamId::KeyOwner { .. } => Self::KeyOwner(Box::default()),
            StreamId::Relay(_) => Self::Relay(Box::default()),
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        match self {
            Self::Run(state) => state.apply(entry),
            Self::Session(state) => state.apply(entry),
            Self::Shared(state) => state.apply(entry),
            Self::Value(state) => state.apply(entry),
            Self::KeyOwner(state) => state.apply(entry),
            Self::Relay(state) => state.apply(entry),
        }
    }

    /// Whether a snapshot equals this state; none where it is of another version of the rules, or damaged.
    fn is(&self, snapshot: &[u8]) -> Option<bool> {
        fn same<S: Decider + PartialEq>(state: &S, snapshot: &[u8]) -> Option<bool> {
            restore::<S>(snapshot).map(|restored| restored == *state)
        }
        match self {
            Self::Run(state) => same(state.as_ref(), snapshot),
            Self::Session(state) => same(state.as_ref(), snapshot),
            Self::Shared(state) => same(state.as_ref(), snapshot),
            Self::Value(state) => same(state.as_ref(), snapshot),
            Self::KeyOwner(state) => same(state.as_ref(), snapshot),
            Self::Relay(state) => same(state.as_ref(), snapshot),
        }
    }
}

impl Audit {
    /// An audit of a stream with heads that were published earlier, and with its snapshot: after which entry it was taken, and its bytes.
    #[must_use]
    pub fn new(
        stream: &StreamId,
        published: impl IntoIterator<Item = (Seq, Digest)>,
        snapshot: Option<(Seq, Bytes)>,
    ) -> Self {
        Self {
            verifier: Verifier::new(stream, published),
            fold: Fold::of(stream),
            finding: match snapshot {
                Some(_) => SnapshotFinding::Unnamed,
                None => SnapshotFinding::None,
            },
            snapshot,
            outdated: None,
        }
    }

    /// Verifies the next entry.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&mut self, stored: &StoredEntry) -> Result<(), AuditError> {
        let opened = self.verifier.take(stored)?;
        self.fold.apply(&opened.entry)?;
        self.check_erasure(&opened.entry)?;
        match &self.snapshot {
            Some((seq, bytes)) if *seq == stored.seq => {
                self.finding = self.compare(*seq, bytes, opened.snapshot)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The commit of an erasure replaces the snapshot before it.
    fn check_erasure(&mut self, entry: &Entry) -> Result<(), AuditError> {
        let Some(seq) = self.snapshot.as_ref().map(|(seq, _)| *seq) else {
            return Ok(());
        };
        match &entry.body {
            EntryBody::PayloadErased(erased) if seq < entry.seq => {
                if erased.entries.iter().any(|covered| *covered <= seq) {
                    self.outdated.get_or_insert(entry.seq);
                }
                Ok(())
            }
            EntryBody::ErasureFinished(finished)
                if self.outdated.is_some_and(|erasure| erasure <= finished.through) =>
            {
                let finished = entry.seq;
                Err(AuditError::SnapshotBack { seq, finished })
            }
            _ => Ok(()),
        }
    }

    fn compare(&self, seq: Seq, bytes: &[u8], named: Option<Digest>) -> Result<SnapshotFinding, AuditError> {
        match named {
            None => return Ok(SnapshotFinding::Unnamed),
            Some(named) if named != Digest::of(bytes) => return Err(AuditError::SnapshotReplaced { seq }),
            Some(_) => {}
        }
        match self.fold.is(bytes) {
            Some(true) => Ok(SnapshotFinding::Verified),
            // Erased bytes were still there when the snapshot was taken.
            Some(false) if self.verifier.erased() == 0 => Err(AuditError::SnapshotDiffers { seq }),
            _ => Ok(SnapshotFinding::Unchecked),
        }
    }

    /// The last entry that verified; zero before the first.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.verifier.seq()
    }

    /// What is verified so far. It proves nothing about later entries, nor that there are none.
    #[must_use]
    pub fn so_far(&self) -> Verified {
        Verified {
            head: (self.verifier.seq(), self.verifier.digest()),
            erased: self.verifier.erased(),
            unproved: self.verifier.unproved(),
            dropped: self.verifier.dropped(),
            uncovered: self.verifier.uncovered(),
            snapshot: self.finding,
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// What is broken. A published head among dropped entries is not an error: [`Verified::uncovered`] has it.
    pub fn finish(self) -> Result<Verified, AuditError> {
        let end = self.verifier.seq();
        match self.snapshot.as_ref().map(|(seq, _)| *seq) {
            Some(Seq::ZERO) => return Err(AuditError::SnapshotOfNothing),
            Some(seq) if seq > end => return Err(AuditError::SnapshotBeyond { seq, end }),
            _ => {}
        }
        let mut verified = self.so_far();
        match self.verifier.finish() {
            Ok(head) => verified.head = head,
            Err(ChainError::HeadDropped { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(verified)
    }
}
