//! `docs/format.md` says what the code does: its tables have the fields that entries have, and its worked examples come out as it says.
//! Entries are read here by what the page says alone.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod document;

use bytes::Bytes;
use document::fields::{Fields, members};
use document::samples::{Sample, all};
use document::types::Type;
use document::{Document, Section};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tape_core::chain::{Chain, StreamTag, link, link_v1};
use tape_core::codec::{Stamp, StoredEntry, decode, open};
use tape_core::effect::EffectSpec;
use tape_core::entry::EntryBody;
use tape_core::entry::obligation::ObligationId;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{EffectId, RelayStream, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::json::canonical;
use tape_core::payload::{ContentDigest, Digest};
use tape_core::verify::Audit;

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[test]
fn every_kind_has_exactly_the_fields_of_the_page() {
    let document = Document::read();
    let kinds: BTreeSet<&str> = document.kinds.keys().map(String::as_str).collect();
    assert_eq!(kinds, EntryBody::KINDS.iter().copied().collect());
    let mut fields = Fields::of(&document);
    for sample in all() {
        let raw = |object: &str, member: &str| {
            let found = members(object).into_iter().find(|(name, _)| name == member);
            found.unwrap().1
        };
        fields.check("envelope", &document.types["envelope"], &sample.envelope);
        let kind = sample.kind();
        let body = raw(&raw(&sample.envelope, "entry"), "body");
        fields.check(&kind, &document.kinds[&kind], &body);
    }
    for (name, section) in document.kinds.iter().chain(&document.types) {
        for field in &section.fields {
            if let Type::OneOf(words) = Type::of(&document, &field.of) {
                let unseen = words.into_iter().find(|word| !fields.words.contains(word));
                assert_eq!(unseen, None, "no entry has this word of {name} {}", field.name);
            }
            let place = (name.clone(), field.name.clone());
            let (there, absent) = fields.seen[&place];
            assert!(there > 0, "no entry has {place:?}");
            assert_eq!(
                field.optional,
                absent > 0,
                "{place:?} is optional where an entry lacks it"
            );
        }
    }
}

/// The part of a body at a path.
fn at<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(body, |value, name| value.get(name))
}

/// The places that the words of a body have, each as a JSON pointer.
fn places(section: &Section, body: &Value) -> Vec<String> {
    let mut places = Vec::new();
    for path in &section.words {
        let pointer = format!("/{}", path.replace('.', "/"));
        if let Some((list, field)) = path.split_once("[].") {
            let elements = body[list].as_array().map_or(0, Vec::len);
            places.extend((0..elements).map(|n| format!("/{list}/{n}/{field}")));
        } else if path == "by.reason" {
            places.extend((body["by"]["who"] == "person").then_some(pointer));
        } else if path.starts_with("then.") || path.starts_with("ending.") {
            places.extend(at(body, path).map(|_| pointer));
        } else {
            places.push(pointer);
        }
    }
    places
}

/// Cuts an entry's bytes: those of its payloads, and its words.
fn cut<'a>(section: &Section, sample: &'a Sample) -> (Vec<&'a str>, Option<&'a str>) {
    let (envelope, body, mut rest) = (sample.value(), sample.body(), sample.payload.as_str());
    let mut take = |reference: &Value| {
        let len = usize::try_from(reference["len"].as_u64().unwrap()).unwrap();
        let (piece, left) = rest.split_at(len);
        rest = left;
        assert_eq!(
            text(reference, "sha256"),
            Digest::of(piece.as_bytes()).to_string()
        );
        piece
    };
    let references = section.payloads.iter().filter_map(|path| at(&body, path));
    let payloads = references.map(&mut take).collect();
    let words = envelope.get("words").map(take);
    assert_eq!(rest, "", "{}", sample.name);
    (payloads, words)
}

/// Puts words back into a body, as the page says.
fn put(body: &mut Value, pointer: &str, words: Value) {
    match (body.pointer_mut(pointer), words) {
        (_, Value::Null) => {}
        // A change of state: the keys stand there already.
        (Some(Value::Object(keys)), Value::Object(texts)) => {
            for (key, text) in texts {
                assert!(keys.insert(key, text).is_some_and(|before| before.is_null()));
            }
        }
        (Some(place), words) => {
            assert_eq!(*place, "");
            *place = words;
        }
        (None, words) => {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[field] = words;
        }
    }
}

/// What a sample of version 2 says in its words, put back, is what that of version 1 says in its body.
#[test]
fn payloads_and_words_are_cut_and_put_back_as_the_page_says() {
    let document = Document::read();
    let samples = all();
    let mut compared = 0;
    for sample in &samples {
        let section = &document.kinds[&sample.kind()];
        let (payloads, words) = cut(section, sample);
        let references: Vec<String> = section.payloads.clone();
        assert!(payloads.len() <= references.len());
        let mut body = sample.body();
        if let Some(words) = words {
            let words: Vec<Value> = serde_json::from_str(words).unwrap();
            let places = places(section, &body);
            assert_eq!(words.len(), places.len(), "{}", sample.name);
            for (place, words) in places.iter().zip(words) {
                put(&mut body, place, words);
            }
        }
        let earlier = sample.name.strip_suffix(".v2").map(|name| format!("{name}.v1"));
        let earlier = samples.iter().find(|other| Some(&other.name) == earlier.as_ref());
        if let Some(earlier) = earlier.filter(|_| sample.version() == 2) {
            assert_eq!(body, earlier.body(), "{}", sample.name);
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

/// The stream of a worked example and its entries, from where its chain begins.
struct Example {
    stream: StreamId,
    tag: Digest,
    entries: Vec<Value>,
}

impl Example {
    fn of(document: &Document, name: &str) -> Self {
        let value = &document.vectors[name];
        Self {
            stream: text(value, "stream").parse().unwrap(),
            tag: text(value, "tag").parse().unwrap(),
            entries: value["entries"].as_array().unwrap().clone(),
        }
    }

    fn stored(&self) -> Vec<StoredEntry> {
        let bytes = |value: &Value, member: &str| Bytes::from(text(value, member).to_owned());
        let stored = |entry: &Value| StoredEntry {
            seq: Seq(entry["seq"].as_u64().unwrap()),
            envelope: bytes(entry, "envelope"),
            payload: Some(bytes(entry, "payload")),
            digest: text(entry, "digest").parse().unwrap(),
        };
        self.entries.iter().map(stored).collect()
    }

    /// The same entries without the bytes that the example itself erases.
    fn left(&self) -> Vec<StoredEntry> {
        let mut stored = self.stored();
        let listed = stored
            .iter()
            .filter_map(|entry| match decode(entry).unwrap().body {
                EntryBody::PayloadErased(erased) => Some(erased.entries),
                _ => None,
            });
        let erased: Vec<Seq> = listed.flatten().collect();
        let erased = stored.iter_mut().filter(|entry| erased.contains(&entry.seq));
        erased.for_each(|entry| entry.payload = None);
        stored
    }
}

fn audit(stream: &StreamId, entries: &[StoredEntry]) -> (Seq, Digest) {
    let mut audit = Audit::new(stream, [], None);
    entries.iter().for_each(|entry| audit.check(entry).unwrap());
    audit.finish().unwrap().head
}

/// Each hash of an example is that of the bytes that the page says, and is what the code makes of the entry.
fn check_hashes(example: &Example) {
    let tag = StreamTag::of(&example.stream);
    for (entry, stored) in example.entries.iter().zip(example.stored()) {
        let envelope = &stored.envelope;
        let previous: Digest = text(entry, "previous").parse().unwrap();
        let pieces = entry["pieces"].as_array().unwrap();
        for piece in pieces {
            let digest = Digest::of(text(piece, "bytes").as_bytes()).to_string();
            assert_eq!(text(piece, "sha256"), digest);
            assert!(text(entry, "envelope").contains(&digest), "the envelope names it");
        }
        let all: String = pieces.iter().map(|piece| text(piece, "bytes")).collect();
        assert_eq!(text(entry, "payload"), all);
        let (hashed, linked) = match open(&stored).unwrap().version {
            1 => (
                [&b"tape entry 1\n"[..], &previous.0, envelope].concat(),
                link_v1(&previous, envelope),
            ),
            _ => (
                [&b"tape entry 2\n"[..], &example.tag.0, &previous.0, envelope].concat(),
                link(&tag, &previous, envelope),
            ),
        };
        assert_eq!(entry["hashed_bytes"], hashed.len());
        assert_eq!((Digest::of(&hashed), linked), (stored.digest, stored.digest));
    }
}

#[test]
fn the_chain_of_the_page_is_that_of_the_code() {
    let document = Document::read();
    for name in ["chain", "transition", "retired"] {
        let example = Example::of(&document, name);
        check_hashes(&example);
        let (stored, last) = (example.left(), example.entries.last().unwrap());
        let head = audit(&example.stream, &stored);
        assert_eq!(head.1.to_string(), text(last, "digest"));
    }
    let (chain, retired) = (Example::of(&document, "chain"), Example::of(&document, "retired"));
    let whole = [chain.left(), retired.stored()].concat();
    let head = audit(&chain.stream, &whole);
    assert_eq!(head, audit(&chain.stream, &retired.stored()));
    let first = &chain.entries[0];
    let (envelope, hashed) = (text(first, "envelope").len(), &first["hashed_bytes"]);
    for said in [
        format!("Its tag is `{}`.", chain.tag),
        format!("entry has {envelope} bytes, so {hashed} bytes are hashed"),
        format!("`{}`", hex(b"tape entry 2\n")),
        format!("`{}`", Digest::of(b"")),
    ] {
        assert!(document.text.replace('\n', " ").contains(&said), "{said}");
    }
}

/// What is said of gone bytes holds for the example: entry 1 is covered by entry 7, and no other is. Entry 8 says that they are gone.
#[test]
fn gone_bytes_of_the_example_are_accounted_for() {
    let document = Document::read();
    let example = Example::of(&document, "chain");
    for gone in 0..8 {
        let mut stored = example.left();
        stored[gone].payload = None;
        let mut audit = Audit::new(&example.stream, [], None);
        stored.iter().for_each(|entry| audit.check(entry).unwrap());
        assert_eq!(audit.finish().is_ok(), gone == 0, "entry {}", gone + 1);
    }
    let mut audit = Audit::new(&example.stream, [], None);
    let back = example.stored().iter().find_map(|entry| audit.check(entry).err());
    assert_eq!(back.and_then(|back| back.finished()), Some(Seq(8)));
}

/// The entries of the examples have the bytes that the code writes.
#[test]
fn the_code_seals_the_examples_to_the_letter() {
    let document = Document::read();
    let example = Example::of(&document, "chain");
    let mut chain = Chain::new(&example.stream);
    for stored in example.stored() {
        let entry = decode(&stored).unwrap();
        let stamp = Stamp {
            at: entry.at,
            request: entry.request,
            principal: entry.principal,
            trace: entry.trace,
            command: entry.command,
        };
        let (_, sealed) = chain.seal(&stamp, entry.body);
        assert_eq!(sealed, stored);
    }
}

#[test]
fn names_of_streams_are_written_as_the_page_says() {
    let document = Document::read();
    let vectors = document.vectors["names"].as_array().unwrap();
    let mut kinds = BTreeMap::new();
    for vector in vectors {
        let parts: Vec<&str> = vector["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        let stream = stream(text(vector, "kind"), &parts);
        assert_eq!(stream.to_string(), text(vector, "stream"));
        assert_eq!(text(vector, "stream").parse::<StreamId>().unwrap(), stream);
        let tag: Digest = text(vector, "tag").parse().unwrap();
        let linked = link(&StreamTag::of(&stream), &Digest::default(), b"{}");
        let hashed = [&b"tape entry 2\n"[..], &tag.0, &[0; 32], b"{}"].concat();
        assert_eq!(linked, Digest::of(&hashed), "{stream}");
        *kinds.entry((stream.kind(), parts.len())).or_insert(0) += 1;
    }
    assert_eq!(kinds.len(), 7, "there are streams of seven forms");
}

fn stream(kind: &str, parts: &[&str]) -> StreamId {
    match (kind, parts) {
        ("run", [tenant, app, user, session, invocation]) => {
            RunId::new(tenant, app, user, session, invocation).unwrap().into()
        }
        ("session", [tenant, app, user, session]) => StreamId::Session(SessionId {
            tenant: tenant.parse().unwrap(),
            app: app.parse().unwrap(),
            user: user.parse().unwrap(),
            session: session.parse().unwrap(),
        }),
        ("shared", [tenant, app, user @ ..]) => StreamId::Shared {
            tenant: tenant.parse().unwrap(),
            app: app.parse().unwrap(),
            user: user.first().map(|user| user.parse().unwrap()),
        },
        ("value", [tenant, name]) => StreamId::Value {
            tenant: tenant.parse().unwrap(),
            name: name.parse().unwrap(),
        },
        ("claim", [tenant, connector, key]) => StreamId::KeyOwner {
            tenant: tenant.parse().unwrap(),
            connector: connector.parse().unwrap(),
            key: key.parse().unwrap(),
        },
        ("relay", [tenant, scope, name]) => StreamId::Relay(RelayStream {
            tenant: tenant.parse().unwrap(),
            scope: scope.parse().unwrap(),
            name: name.parse().unwrap(),
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_for_upstreams_are_made_as_the_page_says() {
    let document = Document::read();
    for vector in document.vectors["keys"].as_array().unwrap() {
        let parts: Vec<&str> = vector["run"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        let run = RunId::new(parts[0], parts[1], parts[2], parts[3], parts[4]).unwrap();
        let effect: EffectId = text(vector, "effect").parse().unwrap();
        let digest = Digest::of(text(vector, "hashed").as_bytes()).to_string();
        assert_eq!(text(vector, "sha256"), digest);
        assert_eq!(text(vector, "key"), format!("tape-{}", &digest[..35]));
        assert_eq!(text(vector, "key"), effect.idempotency_key(&run));
        let undo = |copy| {
            let effect = effect.clone();
            ObligationId { effect, copy }.key(&run)
        };
        assert_eq!(text(vector, "undo_key"), undo(0));
        assert_eq!(text(vector, "undo_key_of_duplicate_1"), undo(1));
    }
}

#[test]
fn json_is_brought_into_the_form_of_the_page() {
    let document = Document::read();
    for vector in document.vectors["canonical"].as_array().unwrap() {
        let form = canonical(text(vector, "text")).unwrap();
        assert_eq!(form, text(vector, "canonical"));
        assert_eq!(Digest::of(form.as_bytes()).to_string(), text(vector, "sha256"));
    }
    for vector in document.vectors["floats"].as_array().unwrap() {
        let float: f64 = text(vector, "read").parse().unwrap();
        assert_eq!(tape_core::json::text(&float).unwrap(), text(vector, "written"));
    }
}

#[test]
fn fingerprints_are_made_as_the_page_says() {
    let document = Document::read();
    for vector in document.vectors["fingerprint"].as_array().unwrap() {
        let request = text(vector, "request");
        let made = Fingerprint::of_json_text(request).unwrap();
        let form = canonical(request).unwrap();
        assert_eq!(form, text(vector, "canonical"));
        assert_eq!(Digest::of(form.as_bytes()).to_string(), text(vector, "digest"));
        assert_eq!(made.digest.to_string(), text(vector, "digest"));
        assert_eq!(serde_json::to_value(&made.parts).unwrap(), vector["parts"]);
    }
    for vector in document.vectors["content"].as_array().unwrap() {
        let form = text(vector, "form");
        assert_eq!(Digest::of(form.as_bytes()).to_string(), text(vector, "sha256"));
        let of = match text(vector, "what") {
            "effect spec" => {
                let spec: EffectSpec = serde_json::from_str(form).unwrap();
                assert_eq!(serde_json::to_string(&spec).unwrap(), form);
                ContentDigest::of(&spec)
            }
            _ => {
                let asked = Fingerprint::of_json_text(
                    "{\"model\":\"m\",\"messages\":[\"hi\",\"pay Ann\"],\"tools\":[]}",
                )
                .unwrap();
                assert!(!asked.parts.is_empty());
                asked.content_digest()
            }
        };
        assert_eq!(hex(&of.0), text(vector, "of"));
    }
}

#[test]
fn ids_of_requests_and_digests_of_snapshots_are_as_the_page_says() {
    let document = Document::read();
    for vector in document.vectors["requests"].as_array().unwrap() {
        let request: RequestId = text(vector, "id").parse().unwrap();
        assert_eq!(request.to_string(), text(vector, "id"));
        let made_at = request.made_at().map(|at| at.as_micros());
        assert_eq!(made_at, vector["made_at"].as_i64());
    }
    let snapshot = &document.vectors["snapshot"];
    let digest = Digest::of(text(snapshot, "bytes").as_bytes());
    assert_eq!(digest.to_string(), text(snapshot, "sha256"));
}
