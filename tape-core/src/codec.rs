//! The format of stored entries.
//!
//! An entry is stored as its *envelope*, a line of JSON, and beside it the bytes of its payloads one after the other, and then those of its
//! words: texts of people and models, such as reasons, labels and state. The envelope has their lengths and digests, so they can be erased
//! without touching it. The chain covers the stored envelope bytes themselves: they are kept, sent and verified as they were written, and
//! are never serialized again.
//!
//! Kinds and fields, once written, keep their meaning; a new optional field is a compatible change, anything else raises
//! [`VERSION`]. The golden files under `tape-core/tests/golden/` hold every version ever written.

use crate::chain::{self, StreamTag};
use crate::command::{Command, CommandBody};
use crate::entry::words;
use crate::entry::{Entry, EntryBody, TraceParent};
use crate::id::{Principal, RequestId, Seq};
use crate::payload::{ContentDigest, Digest, PayloadMismatch};
use crate::time::Timestamp;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

mod form;
pub use crate::entry::words::WordsRef;
pub use form::check_form;

/// The version of the envelope this build writes.
pub const VERSION: u32 = 2;

/// An entry as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the stream.
    pub seq: Seq,
    /// The envelope's bytes.
    pub envelope: Bytes,
    /// The payloads' bytes one after the other; none where they are erased.
    pub payload: Option<Bytes>,
    /// The chain up to and with this entry.
    pub digest: Digest,
}

impl StoredEntry {
    /// Bytes that the entry takes, without the store's own overhead.
    #[must_use]
    pub fn size(&self) -> usize {
        self.envelope.len() + self.payload.as_ref().map_or(0, Bytes::len) + 40
    }
}

/// Why stored bytes are not an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A newer build wrote it.
    #[error("entry {seq} has version {version}, this build knows {VERSION}: a newer build wrote it")]
    NewerVersion {
        /// The entry.
        seq: Seq,
        /// Its version.
        version: u32,
    },
    /// A newer build wrote it.
    #[error("entry {seq} has the kind '{kind}', which this build does not know: a newer build wrote it")]
    UnknownKind {
        /// The entry.
        seq: Seq,
        /// Its kind.
        kind: String,
    },
    /// The bytes are damaged.
    #[error("entry {seq} is damaged")]
    Damaged {
        /// The entry.
        seq: Seq,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The payload bytes are damaged.
    #[error("the payload of entry {seq} is damaged")]
    DamagedPayload {
        /// The entry.
        seq: Seq,
        /// What does not agree.
        #[source]
        source: PayloadMismatch,
    },
    /// The payload bytes are more or fewer than the envelope says.
    #[error("entry {seq} has {found} payload bytes, its envelope says {expected}")]
    PayloadLength {
        /// The entry.
        seq: Seq,
        /// What the envelope says.
        expected: u64,
        /// The number of bytes found.
        found: u64,
    },
    /// The envelope is of another entry than the row says.
    #[error("the row of entry {row} holds the envelope of entry {envelope}")]
    WrongRow {
        /// What the row says.
        row: Seq,
        /// What the envelope says.
        envelope: Seq,
    },
}

/// An envelope; `E` is its entry, of which a reader may need no more than the kind.
#[derive(Serialize, Deserialize)]
struct Envelope<E> {
    v: u32,
    seq: Seq,
    at: Timestamp,
    req: RequestId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Principal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<TraceParent>,
    /// When it was decided, where that is well before `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decided: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cmd: Option<ContentDigest>,
    entry: E,
    /// The words of the body, which are stored outside it; none where it has none. Bodies of version 1 contain their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<WordsRef>,
}

/// An envelope with an entry of a kind that this build knows.
type Known<'a> = Envelope<Cow<'a, EntryBody>>;

impl Known<'_> {
    fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("every entry body has a JSON form"))
    }
}

/// A stored entry, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The entry.
    pub entry: Entry,
    /// The version of its envelope.
    pub version: u32,
    /// The SHA-256 of the snapshot that was taken after it, where there was one.
    pub snapshot: Option<Digest>,
    /// What its envelope says of its words; none where they are not stored outside it.
    pub words: Option<WordsRef>,
}

/// An entry records the time of its decision separately if its own time is later by more than this, in milliseconds.
const SAID_LATE_MS: u64 = crate::limits::CLOCK_ERROR_MS_MAX;

/// What an envelope records besides the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it was decided.
    pub at: Timestamp,
    /// The request that caused it.
    pub request: RequestId,
    /// Who acted.
    pub principal: Option<Principal>,
    /// The trace of the request.
    pub trace: Option<TraceParent>,
    /// The digest of the command, unless that is idempotent by itself.
    pub command: Option<ContentDigest>,
}

impl Stamp {
    /// The stamp of the entries of a command that is decided at `at`.
    #[must_use]
    pub fn of<B: CommandBody>(command: &Command<B>, at: Timestamp) -> Self {
        Self {
            at,
            request: command.request,
            principal: command.principal.clone(),
            trace: command.trace.clone(),
            command: (!command.body.is_idempotent()).then(|| command.digest()),
        }
    }
}

/// Makes `body` the entry of a stream after the one whose chain digest is `previous`, both as a value and as stored bytes. Its time is that of
/// the stamp.
///
/// # Panics
/// Never for bodies that [`decide`](crate::decider::Decider::decide) or `decide_erasure` made: their payloads have their bytes, and every
/// value has a JSON form.
#[must_use]
pub fn seal(
    stream: &StreamTag,
    previous: &Digest,
    seq: Seq,
    stamp: &Stamp,
    body: EntryBody,
) -> (Entry, StoredEntry) {
    seal_from(stream, previous, seq, Timestamp::MIN, stamp, body)
}

/// As [`seal`], but the entry's time is not before `from`, which is the time of the entry before it.
pub(crate) fn seal_from(
    stream: &StreamTag,
    previous: &Digest,
    seq: Seq,
    from: Timestamp,
    stamp: &Stamp,
    mut body: EntryBody,
) -> (Entry, StoredEntry) {
    let at = stamp.at.max(from);
    let decided = (at.millis_since(stamp.at) > SAID_LATE_MS).then_some(stamp.at);
    let taken = words::take(body.words_mut());
    let said = taken
        .as_ref()
        .map(|words| serde_json::to_vec(words).expect("words have a JSON form"));
    let envelope = Envelope {
        v: VERSION,
        seq,
        at,
        req: stamp.request,
        by: stamp.principal.clone(),
        trace: stamp.trace.clone(),
        decided,
        snapshot: None,
        cmd: stamp.command,
        entry: Cow::Borrowed(&body),
        words: said.as_deref().map(WordsRef::of),
    };
    let envelope = envelope.to_bytes();
    let digest = chain::link(stream, previous, &envelope);
    let stored = StoredEntry {
        seq,
        envelope,
        payload: Some(gather(&body, said.as_deref().unwrap_or_default())),
        digest,
    };
    if let Some(taken) = taken {
        words::put(body.words_mut(), taken).expect("words fit where they were taken from");
    }
    let entry = Entry {
        seq,
        at,
        decided_at: decided.unwrap_or(at),
        request: stamp.request,
        principal: stamp.principal.clone(),
        trace: stamp.trace.clone(),
        command: stamp.command,
        body,
        digest,
    };
    (entry, stored)
}

/// The entry after `previous` that was just sealed, naming the SHA-256 of the snapshot that is taken after it.
///
/// # Errors
/// [`DecodeError`] where the entry is not one that [`seal`] made.
pub fn with_snapshot(
    stream: &StreamTag,
    previous: &Digest,
    sealed: &StoredEntry,
    snapshot: Digest,
) -> Result<StoredEntry, DecodeError> {
    let mut envelope: Known<'_> =
        serde_json::from_slice(&sealed.envelope).map_err(|source| explain(sealed, source))?;
    envelope.snapshot = Some(snapshot);
    let envelope = envelope.to_bytes();
    let digest = chain::link(stream, previous, &envelope);
    Ok(StoredEntry {
        envelope,
        digest,
        ..sealed.clone()
    })
}

/// The payloads' bytes one after the other, then the words; a single payload without words is shared, not copied.
fn gather(body: &EntryBody, words: &[u8]) -> Bytes {
    let payloads = body.payloads();
    let bytes =
        |payload: &crate::payload::Payload| payload.bytes().expect("a new entry has its payloads").clone();
    match payloads.as_slice() {
        [] => Bytes::copy_from_slice(words),
        [payload] if words.is_empty() => bytes(payload),
        many => {
            let mut all = many.iter().fold(BytesMut::new(), |mut all, payload| {
                all.extend_from_slice(&bytes(payload));
                all
            });
            all.extend_from_slice(words);
            all.freeze()
        }
    }
}

/// Reads a stored entry. The chain is not verified here; see [`chain::Verifier`].
///
/// # Errors
/// [`DecodeError`] says what is wrong with the bytes.
pub fn decode(stored: &StoredEntry) -> Result<Entry, DecodeError> {
    open(stored).map(|opened| opened.entry)
}

/// Reads a stored entry with the version and snapshot digest of its envelope. The chain is not verified here; see [`chain::Chain`].
///
/// # Errors
/// [`DecodeError`] says what is wrong with the bytes.
pub fn open(stored: &StoredEntry) -> Result<Opened, DecodeError> {
    let envelope: Known<'_> =
        serde_json::from_slice(&stored.envelope).map_err(|source| explain(stored, source))?;
    if envelope.v > VERSION {
        return Err(DecodeError::NewerVersion {
            seq: stored.seq,
            version: envelope.v,
        });
    }
    if envelope.v < 1 {
        let source = serde::de::Error::custom(format_args!("there never was a version {}", envelope.v));
        return Err(DecodeError::Damaged {
            seq: stored.seq,
            source,
        });
    }
    if envelope.seq != stored.seq {
        return Err(DecodeError::WrongRow {
            row: stored.seq,
            envelope: envelope.seq,
        });
    }
    let mut body = envelope.entry.into_owned();
    match &stored.payload {
        Some(bytes) => scatter(stored.seq, &mut body, envelope.words, bytes)?,
        None if envelope.words.is_some() => body.words_mut().into_iter().for_each(words::Words::erase),
        None => {}
    }
    let entry = Entry {
        seq: envelope.seq,
        at: envelope.at,
        decided_at: envelope.decided.unwrap_or(envelope.at),
        request: envelope.req,
        principal: envelope.by,
        trace: envelope.trace,
        command: envelope.cmd,
        body,
        digest: stored.digest,
    };
    Ok(Opened {
        entry,
        version: envelope.v,
        snapshot: envelope.snapshot.filter(|_| envelope.v > 1),
        words: envelope.words,
    })
}

fn scatter(
    seq: Seq,
    body: &mut EntryBody,
    words: Option<WordsRef>,
    bytes: &Bytes,
) -> Result<(), DecodeError> {
    let mut payloads = body.payloads_mut();
    let expected = payloads
        .iter()
        .fold(words.map_or(0, |words| words.len), |sum, payload| {
            sum.saturating_add(payload.len())
        });
    let found = bytes.len() as u64;
    if expected != found {
        return Err(DecodeError::PayloadLength { seq, expected, found });
    }
    let mut rest = bytes.clone();
    for payload in &mut payloads {
        let len = usize::try_from(payload.len()).expect("no longer than the bytes there are");
        payload
            .restore(rest.split_to(len))
            .map_err(|source| DecodeError::DamagedPayload { seq, source })?;
    }
    match words {
        Some(words) => speak(seq, body, words, &rest),
        None => Ok(()),
    }
}

/// Puts the words of a body back.
fn speak(seq: Seq, body: &mut EntryBody, words: WordsRef, bytes: &[u8]) -> Result<(), DecodeError> {
    let (recorded, found) = (words.sha256, Digest::of(bytes));
    if recorded != found {
        let source = PayloadMismatch { recorded, found };
        return Err(DecodeError::DamagedPayload { seq, source });
    }
    let said = serde_json::from_slice(bytes).and_then(|said| words::put(body.words_mut(), said));
    said.map_err(|source| DecodeError::Damaged { seq, source })
}

/// The kind of a stored entry. Only the kind is read, so it may be one that this build does not know.
///
/// # Errors
/// [`DecodeError::Damaged`] where the envelope has none.
pub fn kind(stored: &StoredEntry) -> Result<String, DecodeError> {
    #[derive(Deserialize)]
    struct Probe {
        entry: Kind,
    }
    let probe = serde_json::from_slice::<Probe>(&stored.envelope);
    probe
        .map(|probe| probe.entry.kind)
        .map_err(|source| DecodeError::Damaged {
            seq: stored.seq,
            source,
        })
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// Tells bytes that a newer build wrote from bytes that are damaged.
fn explain(stored: &StoredEntry, source: serde_json::Error) -> DecodeError {
    #[derive(Deserialize)]
    struct Probe {
        v: u64,
    }
    /// A newer build may write other kinds in this version, but no other envelope.
    #[derive(Deserialize)]
    struct Other {
        kind: String,
        #[serde(rename = "body")]
        _body: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
    }
    let seq = stored.seq;
    let version = serde_json::from_slice::<Probe>(&stored.envelope).map_or(0, |probe| probe.v);
    if version > u64::from(VERSION) {
        let version = u32::try_from(version).unwrap_or(u32::MAX);
        return DecodeError::NewerVersion { seq, version };
    }
    match serde_json::from_slice::<Envelope<Other>>(&stored.envelope) {
        Ok(envelope) if version > 0 && !EntryBody::KINDS.contains(&envelope.entry.kind.as_str()) => {
            let (row, envelope, kind) = (seq, envelope.seq, envelope.entry.kind);
            if envelope != row {
                return DecodeError::WrongRow { row, envelope };
            }
            DecodeError::UnknownKind { seq, kind }
        }
        _ => DecodeError::Damaged { seq, source },
    }
}
