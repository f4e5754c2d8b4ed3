//! What the page says of rules that are checked, of rules that are not, and of entries that cannot be read.

use bytes::Bytes;
use tape_core::chain::{StreamTag, link};
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
        put(2, &format!(r#""at":3,"req":"{SECOND}","snapshot":"{snapshot}""#)),
        put(3, &format!(r#""req":"{FIRST}","at": 4,"decided":9"#)),
    ];
    verify(&envelopes).unwrap();
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
