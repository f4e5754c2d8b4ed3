//! The chain: each entry's digest covers the stream's name, its envelope and, through the digest before it, all earlier entries.
//!
//! `digest(n) = SHA-256("tape entry 2\n" ‖ tag ‖ digest(n - 1) ‖ envelope(n))`, with 32 zero bytes before the first. The tag is
//! `SHA-256("tape stream\n" ‖ name)` of the stream's full name as text, tenant included, so that entries under another name do not
//! verify. The envelope has the digests of the payloads, not their bytes, so an erased payload leaves the chain whole. A head
//! (sequence number and digest) that was published somewhere else makes truncation evident too.
//!
//! Entries of version 1 have no name in their digests: `SHA-256("tape entry 1\n" ‖ digest(n - 1) ‖ envelope(n))`. A stream that began with
//! version 1 continues with version 2 and never goes back.
//!
//! Missing bytes count as erased only where a later [`Erased`](crate::entry::erasure::Erased) entry of the stream covers them. Builds that
//! wrote version 1 recorded no erasures: for their entries, nothing proves whether missing bytes were erased or destroyed. Bytes that are
//! there though a [`Finished`](crate::entry::erasure::Finished) entry says that they were erased are broken: someone put them back.

mod gone;
mod kept;

use crate::codec::{DecodeError, Opened, Stamp, StoredEntry, VERSION};
use crate::entry::{Entry, EntryBody};
use crate::id::{RelayStream, Seq, StreamId};
use crate::payload::Digest;
use crate::time::Timestamp;
use gone::Gone;
use kept::Kept;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// A stream's name in the form that its chain covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamTag([u8; 32]);

impl StreamTag {
    /// The tag of a stream.
    #[must_use]
    pub fn of(stream: &StreamId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tape stream\n");
        hash.update(stream.to_string());
        Self(hash.finalize().into())
    }
}

/// The digest of the entry of the stream that comes after `previous` and has this envelope of the current version.
#[must_use]
pub fn link(stream: &StreamTag, previous: &Digest, envelope: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"tape entry 2\n");
    hash.update(stream.0);
    hash.update(previous.0);
    hash.update(envelope);
    Digest(hash.finalize().into())
}

/// The digest of the entry that comes after `previous` and has this envelope of version 1.
#[must_use]
pub fn link_v1(previous: &Digest, envelope: &[u8]) -> Digest {
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
        /// The sequence number that was expected.
        expected: Seq,
        /// The sequence number that was found.
        found: Seq,
    },
    /// An entry is not the one that was written.
    #[error(
        "entry {seq} was changed or is of another stream: its chain digest is {recorded}, its stream and bytes give {computed}"
    )]
    Changed {
        /// The entry.
        seq: Seq,
        /// The digest beside it.
        recorded: Digest,
        /// The digest of its bytes.
        computed: Digest,
    },
    /// An entry of an earlier version follows one of a later version, which no build writes.
    #[error("entry {seq} has version {version}, the entry before it has version {after}")]
    OlderVersion {
        /// The entry.
        seq: Seq,
        /// Its version.
        version: u32,
        /// The version of the entry before it.
        after: u32,
    },
    /// An entry says that it is of another stream.
    #[error("entry {seq} is of the stream {named}")]
    OtherStream {
        /// The entry.
        seq: Seq,
        /// The stream that it names.
        named: StreamId,
    },
    /// An entry is what was written, as far as its digest says, but cannot be read.
    #[error("entry {seq} cannot be read: {problem}")]
    Unreadable {
        /// The entry.
        seq: Seq,
        /// What does not fit.
        problem: String,
    },
    /// A newer build wrote an entry: nothing from there on can be verified. This proves neither damage nor that all is whole.
    #[error("entry {seq} cannot be read: {problem}")]
    Newer {
        /// The entry.
        seq: Seq,
        /// What is not known.
        problem: String,
    },
    /// An entry can be read, but is not in the one form that it has, so that other readers may read it otherwise or not at all.
    #[error("entry {seq} is not in the form of the journal: {problem}")]
    Form {
        /// The entry.
        seq: Seq,
        /// What is in another form.
        problem: String,
    },
    /// An entry has an earlier time than the one before it, which no build writes in this version.
    #[error("entry {seq} has the time {at}, the entry before it has the later time {before}")]
    TimeWentBack {
        /// The entry.
        seq: Seq,
        /// Its time.
        at: Timestamp,
        /// The time of the entry before it.
        before: Timestamp,
    },
    /// Payload bytes are not what was written.
    #[error("the payload of entry {seq} was changed: {problem}")]
    PayloadChanged {
        /// The entry.
        seq: Seq,
        /// What does not agree.
        problem: String,
    },
    /// Payload bytes are gone, and no erasure that the stream records covers them.
    #[error(
        "the payload of entry {first} was destroyed: it is gone, and no entry says that it was erased ({entries} in all)"
    )]
    PayloadDestroyed {
        /// The first such entry.
        first: Seq,
        /// The number of such entries.
        entries: u64,
    },
    /// Erased payload bytes are there, though the stream records that their erasure is finished.
    #[error("the payload of entry {entry} is there, and entry {finished} says that it was erased")]
    PayloadBack {
        /// The first such entry.
        entry: Seq,
        /// The entry that says that the erasure is finished.
        finished: Seq,
    },
    /// An entry that replaces the entries before it does not agree with them.
    #[error(
        "entry {seq} retires the run, but the number or the last digest of earlier entries that it records is wrong"
    )]
    Retirement {
        /// The entry.
        seq: Seq,
    },
    /// The published head was dropped when the run was retired: the remaining entries do not prove what it covered.
    #[error(
        "entry {head}, the published head, was dropped, and what it covered is not proved: the journal verifies from entry {first} on"
    )]
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
        /// The digest that the journal has there.
        found: Digest,
        /// The digest that was published.
        published: Digest,
    },
}

/// The end of a stream's chain, which grows entry by entry.
#[derive(Clone, Debug)]
pub struct Chain {
    stream: StreamId,
    tag: StreamTag,
    seq: Seq,
    digest: Digest,
    /// The version of the last entry; 1 where it is not known.
    version: u32,
    /// The time of the last entry. A new entry never has an earlier one.
    at: Timestamp,
}

impl Chain {
    /// The chain of a stream before its first entry.
    #[must_use]
    pub fn new(stream: &StreamId) -> Self {
        Self {
            tag: StreamTag::of(stream),
            stream: stream.clone(),
            seq: Seq::ZERO,
            digest: Digest::default(),
            version: 1,
            at: Timestamp::MIN,
        }
    }

    /// The chain after an entry that is trusted and not verified.
    ///
    /// # Errors
    /// Where the entry cannot be read.
    pub fn after(stream: &StreamId, stored: &StoredEntry) -> Result<Self, DecodeError> {
        let opened = crate::codec::open(stored)?;
        Ok(Self {
            seq: stored.seq,
            digest: stored.digest,
            version: opened.version,
            at: opened.entry.at,
            ..Self::new(stream)
        })
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The last entry; zero before the first.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// The digest of the last entry.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Makes a body the next entry, both as a value and as stored bytes. Its time is that of the stamp, but not before that of the last
    /// entry: time within a stream never goes back.
    pub fn seal(&mut self, stamp: &Stamp, body: EntryBody) -> (Entry, StoredEntry) {
        let seq = self.seq.next();
        let (entry, stored) = crate::codec::seal_from(&self.tag, &self.digest, seq, self.at, stamp, body);
        (self.seq, self.digest, self.version) = (stored.seq, stored.digest, VERSION);
        self.at = entry.at;
        (entry, stored)
    }

    /// Appends an entry that [`Chain::seal`] made from a copy of this chain.
    ///
    /// # Errors
    /// [`ChainError::Retirement`] where the entry retires its run and its count or digest of the earlier entries does not match this chain.
    pub fn extend(&mut self, sealed: &Entry) -> Result<(), ChainError> {
        check_retirement(sealed, &self.digest)?;
        (self.seq, self.digest, self.version) = (sealed.seq, sealed.digest, VERSION);
        self.at = sealed.at;
        Ok(())
    }

    /// The last entry, which was just sealed after `previous`, naming a snapshot that is taken after it, and the chain up to it.
    ///
    /// # Errors
    /// [`DecodeError`] where the entry is not one that [`Chain::seal`] made.
    pub fn with_snapshot(
        &self,
        previous: &Digest,
        last: &StoredEntry,
        snapshot: &[u8],
    ) -> Result<(Self, StoredEntry), DecodeError> {
        let named = crate::codec::with_snapshot(&self.tag, previous, last, Digest::of(snapshot))?;
        let chain = Self {
            digest: named.digest,
            ..self.clone()
        };
        Ok((chain, named))
    }

    /// Verifies that an entry is the next one and appends it. If earlier entries were dropped, the first remaining entry names the end of
    /// their chain.
    ///
    /// # Errors
    /// Where and how the chain breaks.
    pub fn follow(&mut self, stored: &StoredEntry) -> Result<Opened, ChainError> {
        let opened = crate::codec::open(stored);
        if let Err(error) = &opened
            && self.is_beyond(stored, error)
        {
            let problem = error.to_string();
            return Err(ChainError::Newer {
                seq: stored.seq,
                problem,
            });
        }
        let before = self.end_before(stored, opened.as_ref().ok())?;
        let opened = opened.map_err(|error| self.explain(&before, stored, &error))?;
        let (seq, version) = (stored.seq, opened.version);
        if version < before.version {
            let after = before.version;
            return Err(ChainError::OlderVersion { seq, version, after });
        }
        let computed = match version {
            1 => link_v1(&before.digest, &stored.envelope),
            _ => link(&self.tag, &before.digest, &stored.envelope),
        };
        if computed != stored.digest {
            let recorded = stored.digest;
            return Err(ChainError::Changed {
                seq,
                recorded,
                computed,
            });
        }
        check_retirement(&opened.entry, &before.digest)?;
        self.check_name(&opened.entry)?;
        (self.seq, self.digest, self.version) = (seq, computed, version);
        self.at = self.at.max(opened.entry.at);
        Ok(opened)
    }

    /// The end of the chain before an entry: its end so far, or the end of the dropped entries that the entry names.
    fn end_before(&self, stored: &StoredEntry, opened: Option<&Opened>) -> Result<Before, ChainError> {
        if self.seq.0.checked_add(1) == Some(stored.seq.0) {
            let (digest, version) = (self.digest, self.version);
            return Ok(Before { digest, version });
        }
        match opened.map(|opened| &opened.entry.body) {
            Some(EntryBody::RunRetired(retired)) if self.seq == Seq::ZERO => Ok(Before {
                digest: retired.previous,
                version: 1,
            }),
            _ => Err(ChainError::Gap {
                expected: self.seq.next(),
                found: stored.seq,
            }),
        }
    }

    /// Whether a newer build wrote an entry in a way that leaves no place in the chain to check: in a later version, or as the first entry
    /// of a stream whose earlier ones were dropped.
    fn is_beyond(&self, stored: &StoredEntry, error: &DecodeError) -> bool {
        match error {
            DecodeError::NewerVersion { .. } => true,
            DecodeError::UnknownKind { .. } => self.seq == Seq::ZERO && stored.seq != Seq(1),
            _ => false,
        }
    }

    /// Tells whether an entry that cannot be read was changed or was written like that.
    fn explain(&self, before: &Before, stored: &StoredEntry, error: &DecodeError) -> ChainError {
        let (seq, recorded) = (stored.seq, stored.digest);
        let computed = link(&self.tag, &before.digest, &stored.envelope);
        let as_written = [computed, link_v1(&before.digest, &stored.envelope)].contains(&recorded);
        if !as_written {
            return ChainError::Changed {
                seq,
                recorded,
                computed,
            };
        }
        let problem = error.to_string();
        match error {
            DecodeError::DamagedPayload { .. } | DecodeError::PayloadLength { .. } => {
                ChainError::PayloadChanged { seq, problem }
            }
            DecodeError::UnknownKind { .. } => ChainError::Newer { seq, problem },
            _ => ChainError::Unreadable { seq, problem },
        }
    }

    /// Entries of version 1 are bound to their stream only by the name in their body.
    fn check_name(&self, entry: &Entry) -> Result<(), ChainError> {
        match stream_of(&entry.body, &self.stream) {
            Some(named) if named != self.stream => Err(ChainError::OtherStream {
                seq: entry.seq,
                named,
            }),
            _ => Ok(()),
        }
    }
}

/// The end of a chain before an entry.
struct Before {
    digest: Digest,
    version: u32,
}

/// The stream that an entry names, if it names one. The entry was found in the stream `found`.
fn stream_of(body: &EntryBody, found: &StreamId) -> Option<StreamId> {
    match body {
        EntryBody::RunBegun(begun) => Some(StreamId::Run(begun.run.clone())),
        EntryBody::RunRetired(retired) => Some(StreamId::Run(retired.run.clone())),
        EntryBody::SessionCreated(created) => Some(StreamId::Session(created.session.clone())),
        EntryBody::SharedMerged(merged) => {
            let of_user = matches!(found, StreamId::Shared { user: Some(_), .. });
            Some(StreamId::Shared {
                tenant: merged.session.tenant.clone(),
                app: merged.session.app.clone(),
                user: of_user.then(|| merged.session.user.clone()),
            })
        }
        EntryBody::KeyTaken(taken) => Some(StreamId::KeyOwner {
            tenant: taken.run.tenant.clone(),
            connector: taken.connector.clone(),
            key: taken.key.clone(),
        }),
        EntryBody::RelayRefused(refused) => in_tenant_of(&refused.entry.stream, found),
        EntryBody::RelayReceipt(receipt) => in_tenant_of(&receipt.erasure.stream, found),
        _ => None,
    }
}

/// The stream of a relay names entries of its own tenant.
fn in_tenant_of(named: &StreamId, found: &StreamId) -> Option<StreamId> {
    let StreamId::Relay(relay) = found else {
        return None;
    };
    Some(StreamId::Relay(RelayStream {
        tenant: named.tenant().clone(),
        ..relay.clone()
    }))
}

/// Verifies a journal from its first entry on, offline and in one pass. The journal of a retired run begins with the entry that replaces
/// the dropped ones and names the end of their chain.
///
/// ```
/// use tape_core::chain::Verifier;
/// let stream = "acme/value/rate".parse().unwrap();
/// let verifier = Verifier::new(&stream, None);
/// assert_eq!(verifier.finish().unwrap().0.0, 0);
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    chain: Chain,
    /// The time of the last entry.
    at: Timestamp,
    erased: u64,
    gone: Gone,
    kept: Kept,
    dropped: u64,
    published: BTreeMap<Seq, Vec<Digest>>,
}

impl Verifier {
    /// A verifier for the journal of a stream and the heads of it that were published earlier.
    #[must_use]
    pub fn new(stream: &StreamId, heads: impl IntoIterator<Item = (Seq, Digest)>) -> Self {
        let mut published: BTreeMap<Seq, Vec<Digest>> = BTreeMap::new();
        for (seq, digest) in heads {
            published.entry(seq).or_default().push(digest);
        }
        Self {
            chain: Chain::new(stream),
            at: Timestamp::MIN,
            erased: 0,
            gone: Gone::default(),
            kept: Kept::default(),
            dropped: 0,
            published,
        }
    }

    /// Verifies the next entry.
    ///
    /// # Errors
    /// Where and how the chain breaks.
    pub fn check(&mut self, stored: &StoredEntry) -> Result<(), ChainError> {
        self.take(stored).map(drop)
    }

    /// Verifies the next entry, and returns it read.
    ///
    /// # Errors
    /// Where and how the chain breaks.
    pub fn take(&mut self, stored: &StoredEntry) -> Result<Opened, ChainError> {
        let begins = self.chain.seq() == Seq::ZERO;
        let opened = self.chain.follow(stored)?;
        self.check_time(&opened)?;
        crate::codec::check_form(stored).map_err(|problem| ChainError::Form {
            seq: stored.seq,
            problem,
        })?;
        if let EntryBody::RunRetired(retired) = &opened.entry.body
            && begins
        {
            self.dropped = retired.dropped;
            let end = (Seq(retired.dropped), retired.previous);
            self.compare(end)?;
        }
        self.gone.take(&opened, stored.payload.is_some());
        let has_bytes = stored.payload.as_ref().is_some_and(|bytes| !bytes.is_empty());
        if let Some(entry) = self.kept.take(&opened, has_bytes) {
            let finished = stored.seq;
            return Err(ChainError::PayloadBack { entry, finished });
        }
        if stored.payload.is_none() {
            // An entry without payloads has erased words.
            self.erased += opened.entry.body.payloads().len().max(1) as u64;
        }
        self.compare((self.chain.seq(), self.chain.digest()))?;
        Ok(opened)
    }

    /// Builds that wrote version 1 let time go back where the clock did. An engine opens such streams, so only what verifies checks this.
    fn check_time(&mut self, opened: &Opened) -> Result<(), ChainError> {
        let (seq, at) = (opened.entry.seq, opened.entry.at);
        let before = std::mem::replace(&mut self.at, at);
        if opened.version > 1 && at < before {
            return Err(ChainError::TimeWentBack { seq, at, before });
        }
        Ok(())
    }

    /// Compares an entry with the published head at its sequence number, if there is one.
    fn compare(&self, (at, found): (Seq, Digest)) -> Result<(), ChainError> {
        let published = self.published.get(&at).into_iter().flatten();
        match published.copied().find(|published| *published != found) {
            Some(published) => Err(ChainError::HeadMismatch {
                seq: at,
                found,
                published,
            }),
            None => Ok(()),
        }
    }

    /// The chain digest of the last entry that verified.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.chain.digest()
    }

    /// The published heads among the dropped entries: the remaining entries do not prove what those heads covered.
    #[must_use]
    pub fn uncovered(&self) -> Vec<Seq> {
        let dropped = Seq(self.dropped);
        let heads = self.published.keys().copied();
        heads
            .filter(|head| *head > Seq::ZERO && *head <= dropped)
            .collect()
    }

    /// The last entry that verified; zero before the first.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.chain.seq()
    }

    /// The number of erased payloads in the verified entries: their digests are there, their bytes are not.
    #[must_use]
    pub const fn erased(&self) -> u64 {
        self.erased
    }

    /// Entries of version 1 whose payload is gone without an entry that erases it: they may have been erased by a build that recorded no
    /// erasures, or destroyed. Nothing proves which.
    #[must_use]
    pub fn unproved(&self) -> Vec<Seq> {
        self.gone.unproved().iter().copied().collect()
    }

    /// How many entries were dropped before the first remaining one, as that one records it.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Ends the journal: returns its head.
    ///
    /// # Errors
    /// [`ChainError::Truncated`] where a published head lies beyond the last entry, [`ChainError::PayloadDestroyed`] where bytes are
    /// missing and no erasure covers them, [`ChainError::HeadDropped`] where a published head is among the dropped entries: the remaining
    /// ones do not prove what it covered.
    pub fn finish(self) -> Result<(Seq, Digest), ChainError> {
        let (end, digest) = (self.chain.seq(), self.chain.digest());
        let last = self.published.keys().next_back().copied();
        if let Some(head) = last.filter(|head| *head > end) {
            return Err(ChainError::Truncated { end, head });
        }
        let destroyed = self.gone.destroyed();
        if let Some(first) = destroyed.first().copied() {
            let entries = destroyed.len() as u64;
            return Err(ChainError::PayloadDestroyed { first, entries });
        }
        match self.uncovered().first().copied() {
            Some(head) => Err(ChainError::HeadDropped {
                head,
                first: Seq(self.dropped).next(),
            }),
            None => Ok((end, digest)),
        }
    }
}

/// Checks that an entry that retires its run records the right count and last digest of the entries before it.
fn check_retirement(entry: &Entry, previous: &Digest) -> Result<(), ChainError> {
    match &entry.body {
        EntryBody::RunRetired(retired)
            if retired.previous != *previous
                || retired.dropped == 0
                || retired.dropped.checked_add(1) != Some(entry.seq.0) =>
        {
            Err(ChainError::Retirement { seq: entry.seq })
        }
        _ => Ok(()),
    }
}
