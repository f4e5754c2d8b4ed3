//! The data of an event: the envelope to the letter, and the entry's payloads.

use crate::payload_rule::{PayloadRule, Shown};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use std::borrow::Cow;
use std::str::Utf8Error;
use tape_core::codec::{Opened, StoredEntry};
use tape_core::entry::EntryBody;
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
    pieces: Vec<Piece<'a>>,
    words: Option<Piece<'a>>,
    erased: Option<Vec<String>>,
}

/// One payload of an entry, or its words.
#[derive(Debug)]
struct Piece<'a> {
    /// None for words.
    content_type: Option<&'a str>,
    len: u64,
    sha256: Digest,
    /// None where they were erased.
    bytes: Option<&'a [u8]>,
}

impl<'a> Data<'a> {
    /// What an entry has that was read from `stored`.
    pub(crate) fn new(stored: &'a StoredEntry, opened: &'a Opened) -> Self {
        let body = &opened.entry.body;
        let payloads = body.payloads().into_iter();
        let pieces = payloads.map(|payload| Piece {
            content_type: Some(payload.content_type()),
            len: payload.len(),
            sha256: payload.digest(),
            bytes: payload.bytes().map(|bytes| &**bytes),
        });
        Self {
            envelope: envelope(stored).expect("an event is made of an entry that was read"),
            pieces: pieces.collect(),
            words: words(stored, opened),
            erased: erased(body),
        }
    }

    /// Appends the data as JSON.
    pub(crate) fn write(&self, contents: Contents<'_>, to: &mut Vec<u8>) {
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
        serde_json::to_writer(to, &form).expect("texts, numbers and digests have a JSON form");
    }
}

/// The envelope of an entry as a text.
///
/// # Errors
/// [`Utf8Error`] where it is none, which its reader does not notice within members that it does not know.
pub(crate) fn envelope(stored: &StoredEntry) -> Result<&str, Utf8Error> {
    std::str::from_utf8(&stored.envelope)
}

/// The words of an entry: the last bytes of its payload.
fn words<'a>(stored: &'a StoredEntry, opened: &Opened) -> Option<Piece<'a>> {
    let words = opened.words?;
    let last = |bytes: &'a Bytes| {
        let begin = bytes.len().checked_sub(usize::try_from(words.len).ok()?)?;
        bytes.get(begin..)
    };
    Some(Piece {
        content_type: None,
        len: words.len,
        sha256: words.sha256,
        bytes: stored.payload.as_ref().and_then(last),
    })
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
    text: Option<Cow<'a, str>>,
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
    fn of(piece: &Piece<'a>, contents: Contents<'_>) -> Self {
        let (state, text, data_base64) = match (piece.bytes, contents) {
            (None, _) => (State::Erased, None, None),
            (Some(_), Contents::Envelope | Contents::References) => (State::TooLarge, None, None),
            (Some(bytes), Contents::Whole(rule)) => match rule.shown(piece.content_type, bytes) {
                Shown::Whole => match std::str::from_utf8(bytes) {
                    Ok(text) => (State::Included, Some(Cow::Borrowed(text)), None),
                    Err(_) => (State::Included, None, Some(STANDARD.encode(bytes))),
                },
                Shown::Redacted(text) => (State::Redacted, Some(Cow::Owned(text)), None),
                Shown::Nothing => (State::Omitted, None, None),
            },
        };
        Self {
            content_type: piece.content_type,
            len: piece.len,
            sha256: piece.sha256,
            state,
            text,
            data_base64,
        }
    }
}
