//! The data of an event: the envelope to the letter, and the entry's payloads.

use crate::payload_rule::{PayloadRule, Shown};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tape_core::codec::{DecodeError, StoredEntry};
use tape_core::entry::{Entry, EntryBody};
use tape_core::payload::Digest;

/// How much of an entry its event has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contents<'a> {
    /// Everything that the rule lets out.
    Whole(&'a PayloadRule),
    /// No bytes of payloads, since the event would be too large.
    Envelope,
    /// No envelope either.
    References,
}

/// What an entry has, before any of it is left out.
#[derive(Debug)]
pub(crate) struct Data<'a> {
    envelope: &'a str,
    pieces: Vec<Piece>,
    words: Option<Piece>,
    erased: Option<Vec<String>>,
}

/// One payload of an entry, or its words.
#[derive(Debug)]
struct Piece {
    /// None for words.
    content_type: Option<String>,
    len: u64,
    sha256: Digest,
    /// None where they were erased.
    bytes: Option<Bytes>,
}

/// How an envelope refers to words.
#[derive(Clone, Copy, Deserialize)]
struct WordsRef {
    len: u64,
    sha256: Digest,
}

impl<'a> Data<'a> {
    /// What an entry has that was just read from `stored`.
    pub(crate) fn new(stored: &'a StoredEntry, entry: &Entry) -> Result<Self, DecodeError> {
        let damaged = |source: serde_json::Error| DecodeError::Damaged {
            seq: stored.seq,
            source,
        };
        let envelope = std::str::from_utf8(&stored.envelope)
            .map_err(|problem| damaged(serde::de::Error::custom(problem)))?;
        let payloads = entry.body.payloads();
        let pieces = payloads.iter().map(|payload| Piece {
            content_type: Some(payload.content_type().to_owned()),
            len: payload.len(),
            sha256: payload.digest(),
            bytes: payload.bytes().filter(|_| stored.payload.is_some()).cloned(),
        });
        Ok(Self {
            envelope,
            pieces: pieces.collect(),
            words: words(envelope, stored.payload.as_ref()).map_err(damaged)?,
            erased: erased(&entry.body),
        })
    }

    /// The data as JSON.
    pub(crate) fn to_bytes(&self, contents: Contents<'_>) -> Bytes {
        let with_envelope = !matches!(contents, Contents::References);
        let form = Form {
            envelope: with_envelope.then_some(self.envelope),
            envelope_omitted: (!with_envelope).then(|| Omitted::of(self.envelope.as_bytes())),
            payloads: self
                .pieces
                .iter()
                .map(|piece| Part::of(piece, contents))
                .collect(),
            words: self.words.as_ref().map(|words| Part::of(words, contents)),
            erased: self.erased.as_deref().filter(|_| with_envelope),
        };
        Bytes::from(serde_json::to_vec(&form).expect("texts, numbers and digests have a JSON form"))
    }
}

/// The words of an entry: the last bytes of its payload.
fn words(envelope: &str, payload: Option<&Bytes>) -> Result<Option<Piece>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Probe {
        words: Option<WordsRef>,
    }
    // Most entries have none, and their envelopes are not read a second time.
    if !envelope.contains("\"words\"") {
        return Ok(None);
    }
    let Some(WordsRef { len, sha256 }) = serde_json::from_str::<Probe>(envelope)?.words else {
        return Ok(None);
    };
    let begin = |bytes: &Bytes| bytes.len().checked_sub(usize::try_from(len).ok()?);
    let bytes = payload.and_then(|bytes| Some(bytes.slice(begin(bytes)?..)));
    let content_type = None;
    Ok(Some(Piece {
        content_type,
        len,
        sha256,
        bytes,
    }))
}

/// The numbers of the entries whose payloads an entry erases, where it is an erasure.
fn erased(body: &EntryBody) -> Option<Vec<String>> {
    let EntryBody::PayloadErased(erased) = body else {
        return None;
    };
    Some(erased.entries.iter().map(ToString::to_string).collect())
}

/// The JSON form of the data.
#[derive(Serialize)]
struct Form<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_omitted: Option<Omitted>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    payloads: Vec<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Part<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<&'a [String]>,
}

/// What is said of an envelope that is too large.
#[derive(Serialize)]
struct Omitted {
    len: usize,
    sha256: Digest,
}

impl Omitted {
    fn of(bytes: &[u8]) -> Self {
        Self {
            len: bytes.len(),
            sha256: Digest::of(bytes),
        }
    }
}

/// The JSON form of a payload or of words.
#[derive(Serialize)]
struct Part<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    /// Of the recorded bytes, whatever the event has of them.
    len: u64,
    /// Of the recorded bytes, whatever the event has of them.
    sha256: Digest,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// What an event has of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Included,
    Redacted,
    Omitted,
    TooLarge,
    Erased,
}

impl<'a> Part<'a> {
    fn of(piece: &'a Piece, contents: Contents<'_>) -> Self {
        let (state, bytes) = match (&piece.bytes, contents) {
            (None, _) => (State::Erased, None),
            (Some(_), Contents::Envelope | Contents::References) => (State::TooLarge, None),
            (Some(bytes), Contents::Whole(rule)) => match rule.shown(piece.content_type.as_deref(), bytes) {
                Shown::Whole => (State::Included, Some(bytes.clone())),
                Shown::Redacted(text) => (State::Redacted, Some(Bytes::from(text))),
                Shown::Nothing => (State::Omitted, None),
            },
        };
        let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let binary = bytes.as_deref().filter(|_| text.is_none());
        Self {
            content_type: piece.content_type.as_deref(),
            len: piece.len,
            sha256: piece.sha256,
            state,
            text: text.map(str::to_owned),
            data_base64: binary.map(|bytes| STANDARD.encode(bytes)),
        }
    }
}
