//! The kinds that streams of each kind have, by the page and by the rules.

use super::samples::all;
use super::{Document, codes};
use bytes::Bytes;
use std::collections::BTreeSet;
use tape_core::codec::{StoredEntry, decode};
use tape_core::decider::Decider;
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::Seq;
use tape_core::key_owner::KeyOwner;
use tape_core::payload::Digest;
use tape_core::relay_record::RelayRecord;
use tape_core::run::Run;
use tape_core::session::Session;
use tape_core::shared::Shared;
use tape_core::value::Value;

/// The golden entry of each kind without optional fields.
fn bare() -> Vec<Entry> {
    let samples = all().into_iter();
    let bare = samples.filter(|sample| sample.name.ends_with(".bare.v2"));
    let read = bare.map(|sample| {
        decode(&StoredEntry {
            seq: Seq(42),
            envelope: Bytes::from(sample.envelope),
            payload: Some(Bytes::from(sample.payload)),
            digest: Digest::default(),
        })
    });
    read.map(Result::unwrap).collect()
}

/// The kinds that the rules of a stream say belong to it, where the stream begins with this kind, if with any.
fn taken<S: Decider + Default + Clone>(first: Option<&str>) -> BTreeSet<String> {
    let at = |entry: &Entry, seq| Entry { seq, ..entry.clone() };
    let (bare, mut begun) = (bare(), S::default());
    if let Some(first) = bare.iter().find(|entry| Some(entry.body.kind()) == first) {
        begun.apply(&at(first, Seq(1))).unwrap();
    }
    let belongs = |entry: &&Entry| {
        let applied = begun.clone().apply(&at(entry, begun.seq().next()));
        let problem = applied.err().map(|error| error.to_string());
        problem.is_none_or(|problem| !problem.contains("it does not belong into"))
    };
    let kinds = bare.iter().filter(belongs);
    kinds.map(|entry| entry.body.kind().to_owned()).collect()
}

/// The kinds of a row of the page's table, which names kinds or, with a point at their end, families.
fn said(document: &Document, stream: &str) -> BTreeSet<String> {
    let (_, table) = document.text.split_once("### Kinds of streams\n").unwrap();
    let row = table
        .lines()
        .find_map(|line| line.strip_prefix(&format!("| {stream} |")));
    let names = codes(row.unwrap());
    let names_it =
        |kind: &str, name: &String| name == kind || (name.ends_with('.') && kind.starts_with(name));
    let kinds = EntryBody::KINDS.iter();
    let named = kinds.filter(|kind| names.iter().any(|name| names_it(kind, name)));
    named.map(|kind| (*kind).to_owned()).collect()
}

#[test]
fn streams_take_the_kinds_of_the_page() {
    let document = Document::read();
    for (stream, taken) in [
        ("run", taken::<Run>(Some("run.begun"))),
        ("session", taken::<Session>(Some("session.created"))),
        ("shared", taken::<Shared>(None)),
        ("value", taken::<Value>(None)),
        ("claim", taken::<KeyOwner>(Some("claim.taken"))),
        ("relay", taken::<RelayRecord>(None)),
    ] {
        assert_eq!(said(&document, stream), taken, "{stream}");
    }
}
