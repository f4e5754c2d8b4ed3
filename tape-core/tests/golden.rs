//! Golden bytes: an entry of every kind, with every optional field present and with none, as it was first written. They stay
//! decodable for ever, and sealing the same value gives the same bytes. `UPDATE_EXPECT=1` writes files for kinds that have none yet; a
//! file that is there is never changed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod forms;
mod support;

use bytes::Bytes;
use forms::{at, bodies, forms, name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use support::names::{begin_command, payload, run_id};
use tape_core::chain::{Chain, StreamTag, link, link_v1};
use tape_core::codec::{DecodeError, Stamp, StoredEntry, VERSION, decode, open, with_snapshot};
use tape_core::decider::{restore, snapshot};
use tape_core::entry::value;
use tape_core::entry::{Entry, EntryBody, TraceParent};
use tape_core::id::{RequestId, Seq};
use tape_core::payload::{ContentDigest, Digest};

const PREVIOUS: Digest = Digest([7; 32]);

/// All entries count as of one stream, whatever they name: the tests are about their form.
fn tag() -> StreamTag {
    StreamTag::of(&run_id().into())
}

fn seal(full: bool, body: EntryBody) -> (Entry, StoredEntry) {
    tape_core::codec::seal(&tag(), &PREVIOUS, Seq(42), &stamp(full), body)
}

fn stamp(full: bool) -> Stamp {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    Stamp {
        at: at(0),
        request: RequestId::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        principal: full.then(|| name("ann")),
        trace: full.then(|| TraceParent::try_from(trace).unwrap()),
        command: None,
    }
}

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn file(kind: &str, form: &str, version: u32) -> PathBuf {
    golden().join(format!("{kind}.{form}.v{version}.json"))
}

fn read(path: &PathBuf) -> StoredEntry {
    let text = std::fs::read_to_string(path).unwrap_or_else(|_| panic!("{} is missing", path.display()));
    from_file(&serde_json::from_str(&text).unwrap())
}

/// Writes a file that is not there, where `UPDATE_EXPECT` is set.
fn update(path: &PathBuf, stored: &StoredEntry) {
    if std::env::var_os("UPDATE_EXPECT").is_some() && !path.exists() {
        let text = serde_json::to_string_pretty(&to_file(stored)).unwrap();
        std::fs::write(path, text + "\n").unwrap();
    }
}

fn to_file(stored: &StoredEntry) -> Value {
    json!({
        "seq": stored.seq.0,
        "envelope": std::str::from_utf8(&stored.envelope).unwrap(),
        "payload": stored.payload.as_ref().map(|bytes| std::str::from_utf8(bytes).unwrap()),
        "digest": stored.digest.to_string(),
    })
}

fn from_file(value: &Value) -> StoredEntry {
    let bytes = |field: &str| value[field].as_str().map(|text| Bytes::from(text.to_owned()));
    StoredEntry {
        seq: Seq(value["seq"].as_u64().unwrap()),
        envelope: bytes("envelope").unwrap(),
        payload: bytes("payload"),
        digest: value["digest"].as_str().unwrap().parse().unwrap(),
    }
}

#[test]
fn every_kind_reads_and_writes_as_it_was_first_written() {
    for (form, bodies) in forms() {
        let mut kinds = BTreeSet::new();
        for body in bodies {
            let kind = body.kind();
            kinds.insert(kind);
            let (entry, stored) = seal(form == "full", body);
            let path = file(kind, form, VERSION);
            update(&path, &stored);
            let golden = read(&path);
            assert_eq!(decode(&golden).unwrap(), entry, "{kind} reads as it was written");
            assert_eq!(golden, stored, "{kind} is written as it was");
            assert_eq!(
                stored.size(),
                stored.envelope.len() + stored.payload.as_ref().unwrap().len() + 40
            );
        }
        let every: BTreeSet<_> = EntryBody::KINDS.iter().copied().collect();
        let all = ["bare", "full"].contains(&form);
        assert!(!all || kinds == every, "every kind has golden bytes");
    }
}

/// Entries of version 1 read as they did, and their digests are those of version 1. Kinds that came later have none.
#[test]
fn every_kind_of_version_1_reads_as_it_was_written() {
    for (form, bodies) in forms() {
        for body in bodies {
            let path = file(body.kind(), form, 1);
            if !path.exists() {
                continue;
            }
            let golden = read(&path);
            let opened = open(&golden).unwrap();
            assert_eq!((opened.version, opened.snapshot), (1, None));
            let (mut entry, _) = seal(form == "full", body);
            entry.digest = link_v1(&PREVIOUS, &golden.envelope);
            assert_eq!(opened.entry, entry);
        }
    }
}

/// The last entry of a batch with a snapshot, as it is written.
fn bound() -> StoredEntry {
    let (_, sealed) = seal(true, put_body().into());
    with_snapshot(&tag(), &PREVIOUS, &sealed, Digest::of(b"snapshot")).unwrap()
}

#[test]
fn an_entry_that_names_a_snapshot_reads_and_writes_as_it_was_first_written() {
    let (path, stored) = (file("value.put", "bound", VERSION), bound());
    update(&path, &stored);
    assert_eq!(read(&path), stored);
    let opened = open(&stored).unwrap();
    assert_eq!(opened.snapshot, Some(Digest::of(b"snapshot")));
    let (mut entry, _) = seal(true, put_body().into());
    entry.digest = link(&tag(), &PREVIOUS, &stored.envelope);
    assert_eq!(opened.entry, entry);
}

#[test]
fn an_entry_that_names_its_command_reads_and_writes_as_it_was_first_written() {
    let stamp = Stamp {
        command: Some(ContentDigest([0xab; 16])),
        ..stamp(true)
    };
    let (entry, stored) = tape_core::codec::seal(&tag(), &PREVIOUS, Seq(42), &stamp, put_body().into());
    let path = file("value.put", "asked", VERSION);
    update(&path, &stored);
    assert_eq!(read(&path), stored);
    assert_eq!(decode(&stored).unwrap(), entry);
}

/// It is decided two seconds before the entry before it: the clock was set back.
#[test]
fn an_entry_that_is_decided_before_the_last_one_reads_and_writes_as_it_was_first_written() {
    let first = Stamp {
        at: at(2_000),
        ..stamp(true)
    };
    let (_, mut before) = tape_core::codec::seal(&tag(), &PREVIOUS, Seq(41), &first, put_body().into());
    before.digest = PREVIOUS;
    let mut chain = Chain::after(&run_id().into(), &before).unwrap();
    let (entry, stored) = chain.seal(&stamp(true), put_body().into());
    assert_eq!((entry.at, entry.decided_at), (at(2_000), at(0)));
    let path = file("value.put", "late", VERSION);
    update(&path, &stored);
    assert_eq!(read(&path), stored);
    assert_eq!(decode(&stored).unwrap(), entry);
}

#[test]
fn every_file_is_read() {
    let files = |(form, bodies): (&str, Vec<EntryBody>)| -> Vec<PathBuf> {
        let versions = |body: &EntryBody| {
            (1..=VERSION)
                .map(|version| file(body.kind(), form, version))
                .collect::<Vec<_>>()
        };
        bodies.iter().flat_map(versions).collect()
    };
    let mut known: BTreeSet<PathBuf> = forms().into_iter().flat_map(files).collect();
    known.extend(["bound", "asked", "late"].map(|form| file("value.put", form, VERSION)));
    known.insert(golden().join("README.md"));
    known.retain(|path| path.exists());
    let found = std::fs::read_dir(golden())
        .unwrap()
        .map(|file| file.unwrap().path());
    assert_eq!(found.collect::<BTreeSet<_>>(), known);
}

/// Texts of people, models and upstreams are in no envelope, since an erasure does not reach it. The rules write the reason why a run is
/// stuck, and the rule by which something was settled.
#[test]
fn no_envelope_has_what_people_write() {
    const WORDS: [&str; 9] = [
        "reason", "error", "cause", "why", "problem", "labels", "parts", "delta", "state",
    ];
    fn has_words(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(all) => !all.is_empty(),
            // A payload is a reference; the keys of a change of state stay.
            Value::Object(fields) => !fields.contains_key("sha256") && fields.values().any(has_words),
            _ => false,
        }
    }
    fn find(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| find(value, found)),
            Value::Object(fields) if fields.get("who").is_some_and(|who| who == "rule") => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    if WORDS.contains(&name.as_str()) && has_words(value) {
                        found.push(format!("{name}: {value}"));
                    }
                    find(value, found);
                }
            }
            _ => {}
        }
    }
    for (_, bodies) in forms() {
        for body in bodies.into_iter().filter(|body| body.kind() != "run.stuck") {
            let (entry, stored) = seal(true, body);
            let (mut found, envelope) = (Vec::new(), serde_json::from_slice(&stored.envelope).unwrap());
            find(&envelope, &mut found);
            assert_eq!(found, Vec::<String>::new(), "{}", entry.body.kind());
        }
    }
}

#[test]
fn erased_payloads_leave_their_references() {
    for full in [false, true] {
        for body in bodies(full) {
            let (entry, mut stored) = seal(full, body);
            stored.payload = None;
            let decoded = decode(&stored).unwrap();
            assert_eq!(decoded.body.kind(), entry.body.kind());
            let erased: Vec<_> = entry
                .body
                .payloads()
                .iter()
                .map(|payload| payload.erased())
                .collect();
            let found: Vec<_> = decoded.body.payloads().into_iter().cloned().collect();
            assert_eq!(found, erased);
        }
    }
}

/// An entry with two payloads, to damage.
fn put() -> StoredEntry {
    seal(false, put_body().into()).1
}

fn put_body() -> value::Put {
    value::Put {
        version: 2,
        value: payload("v2"),
        previous: Some(payload("v1")),
    }
}

fn with_envelope(change: impl FnOnce(&mut Value)) -> StoredEntry {
    let mut stored = put();
    let mut envelope: Value = serde_json::from_slice(&stored.envelope).unwrap();
    change(&mut envelope);
    stored.envelope = serde_json::to_vec(&envelope).unwrap().into();
    stored
}

#[test]
fn a_newer_version_is_named() {
    for version in [VERSION + 1, u32::MAX] {
        let stored = with_envelope(|envelope| envelope["v"] = json!(version));
        let error = decode(&stored).unwrap_err();
        assert!(
            matches!(error, DecodeError::NewerVersion { seq: Seq(42), version: v } if v == version),
            "{error:?}"
        );
    }
    // This holds also if this build knows nothing else of the entry.
    let mut stored = put();
    stored.envelope = Bytes::from_static(br#"{"v":3,"new":true}"#);
    assert!(matches!(
        decode(&stored),
        Err(DecodeError::NewerVersion { version: 3, .. })
    ));
}

#[test]
fn there_never_was_a_version_zero() {
    let stored = with_envelope(|envelope| envelope["v"] = json!(0));
    assert!(matches!(
        decode(&stored),
        Err(DecodeError::Damaged { seq: Seq(42), .. })
    ));
}

#[test]
fn an_unknown_kind_is_named() {
    let stored = with_envelope(|envelope| envelope["entry"]["kind"] = json!("effect.dreamt"));
    let error = decode(&stored).unwrap_err();
    assert!(
        matches!(&error, DecodeError::UnknownKind { seq: Seq(42), kind } if kind == "effect.dreamt"),
        "{error:?}"
    );
}

#[test]
fn damaged_envelopes_are_found() {
    let damaged = |stored: StoredEntry| {
        let error = decode(&stored).unwrap_err();
        assert!(
            matches!(error, DecodeError::Damaged { seq: Seq(42), .. }),
            "{error:?}"
        );
    };
    damaged(with_envelope(|envelope| {
        envelope["entry"]["body"]["version"] = json!("two")
    }));
    damaged(with_envelope(|envelope| {
        drop(envelope.as_object_mut().unwrap().remove("at"))
    }));
    damaged(with_envelope(|envelope| {
        drop(envelope.as_object_mut().unwrap().remove("entry"))
    }));
    damaged(with_envelope(|envelope| envelope["by"] = json!("")));
    damaged(with_envelope(|envelope| envelope["trace"] = json!("00-zz")));
    let whole = put();
    for len in 0..whole.envelope.len() {
        let envelope = whole.envelope.slice(..len);
        damaged(StoredEntry {
            envelope,
            ..whole.clone()
        });
    }
    damaged(StoredEntry {
        envelope: Bytes::from_static(b"\xff\xfe"),
        ..whole
    });
}

#[test]
fn the_row_and_the_envelope_agree() {
    let mut stored = put();
    stored.seq = Seq(41);
    let error = decode(&stored).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::WrongRow {
                row: Seq(41),
                envelope: Seq(42)
            }
        ),
        "{error:?}"
    );
}

#[test]
fn payload_bytes_are_those_that_were_recorded() {
    let with = |payload: &'static [u8]| StoredEntry {
        payload: Some(Bytes::from_static(payload)),
        ..put()
    };
    assert!(decode(&with(b"v2v1")).is_ok());
    for (bytes, len) in [(&b"v2v"[..], 3), (b"v2v1v", 5), (b"", 0)] {
        let error = decode(&with(bytes)).unwrap_err();
        assert!(
            matches!(error, DecodeError::PayloadLength { seq: Seq(42), expected: 4, found } if found == len),
            "{error:?}"
        );
    }
    for bytes in [&b"v1v2"[..], b"v2v2", b"V2v1"] {
        let error = decode(&with(bytes)).unwrap_err();
        assert!(
            matches!(error, DecodeError::DamagedPayload { seq: Seq(42), .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_snapshot_of_another_version_or_damaged_is_not_used() {
    let mut journal = support::Journal::<tape_core::run::Run>::new();
    journal.ask(begin_command("a1")).unwrap();
    let bytes = snapshot(&journal.state);
    assert_eq!(restore(&bytes), Some(journal.state));
    let (version, state): (u32, Value) = serde_json::from_slice(&bytes).unwrap();
    for other in [0, version + 1] {
        let bytes = serde_json::to_vec(&(other, &state)).unwrap();
        assert_eq!(restore::<tape_core::run::Run>(&bytes), None);
    }
    assert_eq!(restore::<tape_core::run::Run>(&bytes[..bytes.len() - 1]), None);
    assert_eq!(restore::<tape_core::run::Run>(b"[1,{}]"), None);
    assert_eq!(restore::<tape_core::run::Run>(b""), None);
    let damaged: BTreeMap<String, Value> = BTreeMap::from([("v".to_owned(), json!(1))]);
    let damaged = serde_json::to_vec(&damaged).unwrap();
    assert_eq!(restore::<tape_core::run::Run>(&damaged), None);
}
