//! What the page says of rules that are checked, of rules that are not, and of entries that cannot be read.

use bytes::Bytes;
use tape_core::chain::{ChainError, StreamTag, Verifier, link, link_v1};
use tape_core::codec::{DecodeError, StoredEntry, decode};
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::verify::{Audit, AuditError};

const FIRST: &str = "01a20320a2007a3b8f1e5c2d7e9f0000";
const SECOND: &str = "01a20320a2007a3b8f1e5c2d7e9f0001";

/// The n-th entry of a value, with these members of the envelope before its `entry`.
fn put(n: u64, members: &str) -> String {
    let digest = Digest::of(b"1");
    format!(
        r#"{{"v":2,"seq":{n},{members},"entry":{{"kind":"value.put","body":{{"version":{n},"value":{{"type":"text/plain","len":1,"sha256":"{digest}"}}}}}}}}"#
    )
}

/// Verifies a value with these envelopes, under digests that are right.
fn verify(envelopes: &[String]) -> Result<(), AuditError> {
    let stream: StreamId = "acme/value/rate".parse().unwrap();
    let (tag, mut digest) = (StreamTag::of(&stream), Digest::default());
    let mut audit = Audit::new(&stream, [], None);
    for (seq, envelope) in (1..).map(Seq).zip(envelopes) {
        digest = link(&tag, &digest, envelope.as_bytes());
        audit.check(&StoredEntry {
            seq,
            envelope: Bytes::from(envelope.clone()),
            payload: Some(Bytes::from_static(b"1")),
            digest,
        })?;
    }
    audit.finish().map(drop)
}

/// Reads an entry with this body and words.
fn read(kind: &str, body: &str, words: &str) -> Result<Entry, DecodeError> {
    let (len, sha256) = (words.len(), Digest::of(words.as_bytes()));
    let envelope = format!(
        r#"{{"v":2,"seq":1,"at":5,"req":"{FIRST}","entry":{{"kind":"{kind}","body":{body}}},"words":{{"len":{len},"sha256":"{sha256}"}}}}"#
    );
    decode(&StoredEntry {
        seq: Seq(1),
        envelope: Bytes::from(envelope),
        payload: Some(Bytes::from(words.to_owned())),
        digest: Digest::default(),
    })
}

#[test]
fn rules_that_nothing_checks_may_be_broken() {
    let snapshot = Digest::of(b"no snapshot at the end of a commit");
    let envelopes = [
        put(1, &format!(r#""at":5,"req":"{FIRST}""#)),
        put(2, &format!(r#""at":5,"req":"{SECOND}","snapshot":"{snapshot}""#)),
        put(3, &format!(r#""req":"{FIRST}","at": 9,"decided":8"#)),
    ];
    verify(&envelopes).unwrap();
}

#[test]
fn time_never_goes_back_and_a_decision_is_before_its_time() {
    let first = put(1, &format!(r#""at":5,"req":"{FIRST}""#));
    let told = |members: &str| {
        let second = put(2, &format!(r#"{members},"req":"{SECOND}""#));
        verify(&[first.clone(), second]).map_err(|error| error.to_string())
    };
    let back = "entry 2 has the time 4us, the entry before it has the later time 5us";
    assert_eq!(told(r#""at":4"#).unwrap_err(), back);
    told(r#""at":9,"decided":-1"#).unwrap();
    for decided in [9, 10] {
        let broken = told(&format!(r#""at":9,"decided":{decided}"#)).unwrap_err();
        assert!(broken.contains("which is not before its time, 9us"), "{broken}");
    }
}

#[test]
fn an_entry_is_verified_only_in_the_form_that_it_is_written_in() {
    let members = format!(r#""at":5,"req":"{FIRST}""#);
    let whole = put(1, &members);
    let digest = Digest::of(b"1").to_string();
    for (from, to) in [
        (digest.as_str(), digest.to_uppercase().as_str()),
        (FIRST, &FIRST.to_uppercase()),
        (r#""at":5"#, r#""at":5,"by":null"#),
        (r#""version":1"#, r#""version":1,"previous":null"#),
        (r#""at":5"#, "\"at\":5\n"),
        (r#""at":5"#, r#""at":5,"new":"\ud800""#),
        (
            r#""at":5"#,
            &format!(r#""at":5,"new":{}{}"#, "[".repeat(127), "]".repeat(127)),
        ),
    ] {
        let other = whole.replace(from, to);
        assert_ne!(other, whole);
        let broken = verify(&[other]).unwrap_err().to_string();
        assert!(
            broken.starts_with("entry 1 is not in the form of the journal: "),
            "{to}: {broken}"
        );
    }
    for (from, to) in [
        (r#""at":5"#, r#""new":null,"at": 5"#),
        (r#""version":1"#, r#""new":[null,1e400],"version":1"#),
        ("text/plain", "text\\/pl\\u0061in"),
        (
            r#""at":5"#,
            &format!(r#""at":5,"new":{}{}"#, "[".repeat(126), "]".repeat(126)),
        ),
    ] {
        verify(&[whole.replace(from, to)]).unwrap();
    }
}

#[test]
fn words_are_verified_only_where_they_can_be_erased_and_say_something() {
    let cancelled = |version: u32, left: &str, words: &str| {
        let stream: StreamId = "acme/run/a/u/s/i".parse().unwrap();
        let (len, sha256) = (words.len(), Digest::of(words.as_bytes()));
        let envelope = format!(
            r#"{{"v":{version},"seq":1,"at":5,"req":"{FIRST}","entry":{{"kind":"run.cancelled","body":{{"reason":"{left}"}}}},"words":{{"len":{len},"sha256":"{sha256}"}}}}"#
        );
        let digest = link(&StreamTag::of(&stream), &Digest::default(), envelope.as_bytes());
        let digest = if version == 1 {
            link_v1(&Digest::default(), envelope.as_bytes())
        } else {
            digest
        };
        let mut verifier = Verifier::new(&stream, None);
        verifier.check(&StoredEntry {
            seq: Seq(1),
            envelope: Bytes::from(envelope),
            payload: Some(Bytes::from(words.to_owned())),
            digest,
        })
    };
    cancelled(2, "", r#"["late"]"#).unwrap();
    for (version, left, words) in [
        (2, "late", r#"["late"]"#),
        (2, "", "[null]"),
        (1, "", r#"["late"]"#),
    ] {
        let broken = cancelled(version, left, words).unwrap_err();
        assert!(
            matches!(broken, ChainError::Form { .. }),
            "{left} {words}: {broken}"
        );
    }
}

#[test]
fn known_members_stand_once_and_unknown_ones_may_stand_twice() {
    let members = format!(r#""at":5,"req":"{FIRST}""#);
    verify(&[put(1, &format!(r#"{members},"new":1,"new":2"#))]).unwrap();
    let whole = put(1, &members);
    for (once, twice) in [
        (r#""at":5"#, r#""at":5,"at":5"#),
        (
            r#""kind":"value.put""#,
            r#""kind":"value.put","kind":"value.put""#,
        ),
        (r#""version":1"#, r#""version":1,"version":1"#),
        (r#""len":1"#, r#""len":1,"len":1"#),
    ] {
        let doubled = whole.replace(once, twice);
        assert_ne!(doubled, whole);
        let broken = verify(&[doubled]).unwrap_err().to_string();
        assert_eq!(broken, "entry 1 cannot be read: entry 1 is damaged", "{twice}");
    }
}

#[test]
fn of_doubled_names_of_data_the_last_one_counts() {
    let session = r#"{"tenant":"acme","app":"treasury","user":"ann","session":"s1"}"#;
    let body = format!(r#"{{"session":{session},"state":{{"a":null,"a":null}}}}"#);
    let entry = read("session.created", &body, r#"[{"a":"1","a":"2"}]"#).unwrap();
    let EntryBody::SessionCreated(created) = entry.body else {
        panic!("{:?}", entry.body);
    };
    let values: Vec<_> = created
        .state
        .0
        .values()
        .flatten()
        .map(|json| json.as_str())
        .collect();
    assert_eq!(values, ["2"]);
}

#[test]
fn an_entry_is_unreadable_with_a_request_word_or_number_of_words_that_is_not_its_own() {
    let hyphens = "01a20320-a200-7a3b-8f1e-5c2d7e9f0000";
    verify(&[put(1, &format!(r#""at":5,"req":"{hyphens}""#))]).unwrap_err();
    let merged = |scope: &str| {
        let body = format!(r#"{{"through":1,"refused":[{{"source":1,"scope":"{scope}","problem":""}}]}}"#);
        read("session.merged", &body, r#"["too large"]"#)
    };
    merged("app").unwrap();
    assert!(matches!(merged("galaxy"), Err(DecodeError::Damaged { .. })));
    let cancelled = |words| read("run.cancelled", r#"{"reason":""}"#, words);
    cancelled(r#"["late"]"#).unwrap();
    assert!(matches!(
        cancelled(r#"["late","twice"]"#),
        Err(DecodeError::Damaged { .. })
    ));
}
