//! What a consumer gets of an entry, and how it verifies it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use cloudevents::AttributesReader as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tape_core::codec::{DecodeError, Stamp, StoredEntry};
use tape_core::entry::{erasure, run, session, value};
use tape_core::id::{EventId, RequestId, Seq};
use tape_core::payload::Payload;
use tape_core::time::Timestamp;
use tape_relay::conformance::pen::Pen;
use tape_relay::event::Event;
use tape_relay::event_format::{EVENT_BYTES_MAX_LOWEST, EventFormat, InvalidEventFormat, SOURCE_BYTES_MAX};
use tape_relay::payload_rule::PayloadRule;
use tape_relay::redaction::{InvalidRedaction, Redaction, Unmatched};

const RUN: &str = "acme/run/treasury/ann/s1/i1";
const LOWEST: usize = EVENT_BYTES_MAX_LOWEST;

fn default_event(pen: &Pen, stored: &StoredEntry) -> Event {
    EventFormat::default().event(pen.stream(), stored).unwrap()
}

fn with_rule(pen: &Pen, stored: &StoredEntry, rule: PayloadRule) -> Value {
    let format = EventFormat::new("tape", rule, LOWEST).unwrap();
    data(&format.event(pen.stream(), stored).unwrap())
}

fn redacting(pointers: &[&str]) -> PayloadRule {
    PayloadRule::Redact(Redaction::new(pointers).unwrap())
}

fn data(event: &Event) -> Value {
    serde_json::from_slice(event.data()).unwrap()
}

/// The chain digest by the page on the format, computed with SHA-256 alone.
fn chain_digest(stream: &str, previous: &str, envelope: &str) -> String {
    let tag = Sha256::digest(format!("tape stream\n{stream}"));
    let mut hash = Sha256::new();
    hash.update(b"tape entry 2\n");
    hash.update(tag);
    hash.update(hex::decode(previous).unwrap());
    hash.update(envelope);
    hex::encode(hash.finalize())
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn a_consumer_verifies_a_stream_by_its_events_alone() {
    let mut pen = Pen::new(RUN);
    let texts = [
        r#"{"a":1.10,"b":12345678901234567890123}"#,
        "[]",
        r#""ü \"quoted\" \n""#,
    ];
    let mut events = Vec::new();
    for text in texts {
        let stored = pen.put(Payload::new(Payload::JSON, text).unwrap());
        events.push(default_event(&pen, &stored));
    }
    let stuck = run::CancelRequested {
        reason: "too \u{1f4b8} dear".to_owned(),
    };
    let stored = pen.write(stuck);
    events.push(default_event(&pen, &stored));

    let mut previous = "0".repeat(64);
    for (n, event) in events.iter().enumerate() {
        // A consumer has what went over the wire: the event as JSON.
        let received: Value = serde_json::from_slice(&event.to_json()).unwrap();
        let text = |name: &str| received[name].as_str().unwrap();
        let envelope = received["data"]["envelope"].as_str().unwrap();
        let computed = chain_digest(text("stream"), &previous, envelope);
        assert_eq!(computed, text("chaindigest"), "event {n}");
        previous = computed;
        let inner: Value = serde_json::from_str(envelope).unwrap();
        if let Some(payload) = received["data"]["payloads"].get(0) {
            let recorded = inner["entry"]["body"]["value"]["sha256"].as_str().unwrap();
            assert_eq!(sha256(payload["text"].as_str().unwrap().as_bytes()), recorded);
            assert_eq!(payload["sha256"], recorded);
            assert_eq!(text("payloaddigest"), recorded);
            assert_eq!(payload["text"], texts[n], "to the letter");
        } else {
            let words = &received["data"]["words"];
            assert_eq!(
                sha256(words["text"].as_str().unwrap().as_bytes()),
                inner["words"]["sha256"]
            );
            assert_eq!(words["text"], "[\"too \u{1f4b8} dear\"]");
        }
    }
    let envelope = data(&events[1])["envelope"].as_str().unwrap().to_owned();
    let other = chain_digest("acme/run/treasury/ann/s1/i2", &"0".repeat(64), &envelope);
    assert_ne!(Some(other.as_str()), events[1].attribute("chaindigest"));
}

#[test]
fn attributes_are_texts_with_legal_names() {
    let mut pen = Pen::new("a%2Ecme/run/treas%20ury/ü/s1/i1");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let stamp = Stamp {
        at: Timestamp::from_micros(1_796_040_000_000_001),
        request: RequestId::from_u128(1),
        principal: None,
        trace: Some(trace.to_owned().try_into().unwrap()),
        command: None,
    };
    let stored = pen.write_stamped(&stamp, run::Suspended { resume_at: None });
    let event = default_event(&pen, &stored);
    let json: Value = serde_json::from_slice(&event.to_json()).unwrap();
    let expected = json!({
        "specversion": "1.0",
        "id": "a%2Ecme/run/treas%20ury/ü/s1/i1/1",
        "source": "tape",
        "type": "io.tape.run.suspended",
        "subject": "a%2Ecme.run.treas%20ury.ü.s1.i1.run.suspended",
        "time": "2026-11-30T12:00:00.000001Z",
        "datacontenttype": "application/json",
        "traceparent": trace,
        "tenant": "a.cme",
        "stream": "a%2Ecme/run/treas%20ury/ü/s1/i1",
        "seq": "1",
        "kind": "run.suspended",
        "chaindigest": stored.digest.to_string(),
        "data": {"envelope": std::str::from_utf8(&stored.envelope).unwrap()},
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::to_value(&event).unwrap(), expected);
    assert_eq!(event.id(), "a%2Ecme/run/treas%20ury/ü/s1/i1/1");
    for (name, _) in event.attributes() {
        let legal = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(legal && name.len() <= 20, "{name}");
    }
    let headers: Vec<_> = event.http_headers().collect();
    let header = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| found == name)
            .unwrap()
            .1
            .as_str()
    };
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("ce-stream"), "a%252Ecme/run/treas%2520ury/%C3%BC/s1/i1");
    assert_eq!(header("ce-seq"), "1");
    assert!(!headers.iter().any(|(name, _)| name == "ce-datacontenttype"));
}

#[test]
fn the_sdk_of_cloudevents_reads_events() {
    let mut pen = Pen::new(RUN);
    let event = pen.event(&json!({"amount": 9_007_199_254_740_993_u64}));
    let read: cloudevents::Event = serde_json::from_slice(&event.to_json()).unwrap();
    assert_eq!(read.id(), event.id());
    assert_eq!(read.ty(), "io.tape.value.put");
    assert_eq!(read.source().as_str(), "tape");
    assert_eq!(read.subject(), event.attribute("subject"));
    assert_eq!(read.time().unwrap().to_rfc3339(), "2026-11-30T12:00:00+00:00");
    let seq = read.extension("seq").unwrap();
    assert!(matches!(seq, cloudevents::event::ExtensionValue::String(seq) if seq == "1"));
    let Some(cloudevents::Data::Json(read)) = read.data() else {
        panic!("the data is JSON");
    };
    assert_eq!(read["payloads"][0]["text"], r#"{"amount":9007199254740993}"#);
}

#[test]
fn no_number_bends_on_its_way() {
    let mut pen = Pen::new(RUN);
    let text = r#"{ "big":9007199254740993, "float":1.10, "exp":1e400, "tiny":-0.0 }"#;
    let stored = pen.put(Payload::new(Payload::JSON, text).unwrap());
    assert_eq!(data(&default_event(&pen, &stored))["payloads"][0]["text"], text);
    // Also where other values of the payload are redacted.
    let data = with_rule(&pen, &stored, redacting(&["/exp"]));
    let redacted = r#"{"big":9007199254740993,"exp":"[redacted]","float":1.10,"tiny":-0.0}"#;
    assert_eq!(data["payloads"][0]["text"], redacted);
    // The largest number of an entry.
    let far = StoredEntry {
        seq: Seq(u64::MAX),
        ..stored
    };
    let problem = EventFormat::default().event(pen.stream(), &far).unwrap_err();
    assert!(matches!(problem, DecodeError::WrongRow { .. }), "{problem}");
}

#[test]
fn binary_payloads_are_base64() {
    let mut pen = Pen::new(RUN);
    let stored = pen.put(Payload::new("image/png", vec![0x89, 0x50, 0xff]).unwrap());
    let data = data(&default_event(&pen, &stored));
    let part = &data["payloads"][0];
    assert_eq!(part["type"], "image/png");
    assert_eq!(part["data_base64"], "iVD/");
    assert_eq!(part["state"], "included");
    assert!(part.get("text").is_none());
}

#[test]
fn omitted_and_erased_payloads_keep_their_digests() {
    let mut pen = Pen::new(RUN);
    let secret = Payload::json(&json!({"iban": "DE89"}));
    let stored = pen.put(secret.clone());
    let omitted = with_rule(&pen, &stored, PayloadRule::Omit);
    let gone = StoredEntry {
        payload: None,
        ..stored.clone()
    };
    let erased = data(&default_event(&pen, &gone));
    for (data, state) in [(omitted, "omitted"), (erased, "erased")] {
        let digest = secret.digest().to_string();
        let expected = json!({"type": "application/json", "len": 15, "sha256": digest, "state": state});
        assert_eq!(data["payloads"][0], expected);
        assert!(!data.to_string().contains("DE89"));
        let computed = chain_digest(RUN, &"0".repeat(64), data["envelope"].as_str().unwrap());
        assert_eq!(computed, stored.digest.to_string());
    }
}

#[test]
fn an_empty_payload_is_not_an_erased_one() {
    let mut pen = Pen::new(RUN);
    let stored = pen.put(Payload::empty());
    let data = data(&default_event(&pen, &stored));
    assert_eq!(data["payloads"][0]["state"], "included");
    assert_eq!(data["payloads"][0]["text"], "");
}

#[test]
fn redaction_replaces_what_pointers_name() {
    let mut pen = Pen::new(RUN);
    let card = json!({"card": {"no": "4111"}, "items": [{"iban": "A"}, {"iban": "B"}], "a/b~c": 1, "id": 7});
    let stored = pen.put(Payload::json(&card));
    let shown = |pointers: &[&str]| {
        let data = with_rule(&pen, &stored, redacting(pointers));
        let part = &data["payloads"][0];
        let text: Value = serde_json::from_str(part["text"].as_str().unwrap()).unwrap();
        (part["state"].as_str().unwrap().to_owned(), text)
    };
    let gone = "[redacted]";
    let (state, text) = shown(&["/card/no", "/items/*/iban", "/a~1b~0c"]);
    assert_eq!(state, "redacted");
    let expected =
        json!({"card": {"no": gone}, "items": [{"iban": gone}, {"iban": gone}], "a/b~c": gone, "id": 7});
    assert_eq!(text, expected);
    assert_eq!(shown(&["/items/1"]).1["items"], json!([{"iban": "A"}, gone]));
    assert_eq!(shown(&["/*"]).1["card"], gone);
    assert_eq!(shown(&[""]).1, gone);
}

#[test]
fn a_payload_of_another_shape_goes_out_only_where_it_may() {
    let mut pen = Pen::new(RUN);
    let other = json!({"payment": {"card": {"no": "4111"}}, "items": [{"iban": "A"}]});
    let stored = pen.put(Payload::json(&other));
    let pointers = ["/card/no", "/items/01", "/items/-", "/items/0/iban/x", "/none"];
    let data = with_rule(&pen, &stored, redacting(&pointers));
    assert_eq!(data["payloads"][0]["state"], "omitted");
    assert!(!data.to_string().contains("4111"));
    let redaction = Redaction::new(&pointers)
        .unwrap()
        .with_unmatched(Unmatched::Include);
    let data = with_rule(&pen, &stored, PayloadRule::Redact(redaction));
    assert_eq!(data["payloads"][0]["state"], "included");
    assert_eq!(data["payloads"][0]["text"], other.to_string());
    // A place that it has will do.
    let data = with_rule(&pen, &stored, redacting(&["/none", "/items/*/iban"]));
    assert_eq!(data["payloads"][0]["state"], "redacted");
}

#[test]
fn redaction_lets_out_nothing_that_it_cannot_read() {
    let mut pen = Pen::new("acme/session/treasury/ann/s1");
    let rule = || redacting(&["/iban"]);
    let secret = r#"{"iban":"DE89"}"#;
    for (content_type, bytes) in [
        ("text/plain", secret),
        (Payload::BYTES, secret),
        (Payload::UNKEPT, secret),
        (Payload::JSON, r#"{"iban":"DE89""#),
    ] {
        let stored = pen.put(Payload::new(content_type, bytes).unwrap());
        let data = with_rule(&pen, &stored, rule());
        assert_eq!(data["payloads"][0]["state"], "omitted", "{content_type}");
        assert!(!data.to_string().contains("DE89"), "{content_type}");
    }
    for (content_type, bytes) in [
        ("application/json; charset=utf-8", secret),
        ("application/vnd.acme+json", secret),
        (Payload::JSON, r#"{"iban":"DE89","\u0069ban":"DE89"}"#),
    ] {
        let stored = pen.put(Payload::new(content_type, bytes).unwrap());
        let data = with_rule(&pen, &stored, rule());
        assert_eq!(data["payloads"][0]["state"], "redacted", "{content_type}");
        assert!(!data.to_string().contains("DE89"), "{content_type}");
    }
    let delta = serde_json::from_value(json!({"note": "\"DE89\""})).unwrap();
    let appended = session::EventAppended {
        event: EventId::new("e1").unwrap(),
        invocation: None,
        author: "user".to_owned(),
        delta,
        content: Payload::json(&json!({"iban": "DE89"})),
    };
    let stored = pen.write(appended);
    let data = with_rule(&pen, &stored, rule());
    assert_eq!(data["words"]["state"], "omitted");
    assert!(!data.to_string().contains("DE89"));
}

#[test]
fn an_erasure_names_the_entries_whose_payloads_are_gone() {
    let mut pen = Pen::new(RUN);
    let erased = erasure::Erased {
        entries: vec![Seq(3), Seq(7)],
        reason: "asked for".to_owned(),
    };
    let stored = pen.write(erased);
    let event = default_event(&pen, &stored);
    assert_eq!(event.attribute("type"), Some("io.tape.payload.erased"));
    assert_eq!(data(&event)["erased"], json!(["3", "7"]));
    assert!(data(&pen.event(&json!(1))).get("erased").is_none());
}

#[test]
fn an_event_has_a_bound_and_says_what_it_lacks() {
    let mut pen = Pen::new(RUN);
    let stored = pen.put(Payload::new("text/plain", "x".repeat(2 * LOWEST)).unwrap());
    let small = EventFormat::new("tape", PayloadRule::Include, LOWEST).unwrap();
    let event = small.event(pen.stream(), &stored).unwrap();
    assert!(event.size() <= LOWEST);
    assert_eq!(data(&event)["payloads"][0]["state"], "too_large");
    assert!(data(&event)["envelope"].is_string());
    assert_eq!(
        data(&default_event(&pen, &stored))["payloads"][0]["state"],
        "included"
    );

    let everything = erasure::Erased {
        entries: (1..20_000).map(Seq).collect(),
        reason: "asked for".to_owned(),
    };
    let stored = pen.write(everything);
    let event = small.event(pen.stream(), &stored).unwrap();
    assert!(event.size() <= LOWEST);
    let envelope = stored.envelope.as_ref();
    let expected = json!({
        "envelope_omitted": {"len": envelope.len(), "sha256": sha256(envelope)},
        "words": {"len": 13, "sha256": data(&event)["words"]["sha256"], "state": "too_large"},
    });
    assert_eq!(data(&event), expected);
}

#[test]
fn the_longest_names_fit_into_the_lowest_bound() {
    let part = "%2A".repeat(200);
    let mut pen = Pen::new(&format!("{part}/run/{part}/{part}/{part}/{part}"));
    let stored = pen.put(Payload::new("text/plain", "x".repeat(LOWEST)).unwrap());
    let source = "s".repeat(SOURCE_BYTES_MAX);
    let format = EventFormat::new(&source, PayloadRule::Include, LOWEST).unwrap();
    let event = format.event(pen.stream(), &stored).unwrap();
    assert!(event.size() <= LOWEST, "{} bytes", event.size());
}

#[test]
fn what_cannot_be_read_has_no_event() {
    let mut pen = Pen::new(RUN);
    let stored = pen.put(Payload::json(&json!(1)));
    let event = |stored: &StoredEntry| EventFormat::default().event(pen.stream(), stored);
    let changed = StoredEntry {
        payload: Some(Bytes::from_static(b"2")),
        ..stored.clone()
    };
    assert!(matches!(event(&changed), Err(DecodeError::DamagedPayload { .. })));
    let newer = String::from_utf8(stored.envelope.to_vec())
        .unwrap()
        .replace("value.put", "value.sung");
    let newer = StoredEntry {
        envelope: newer.into(),
        ..stored.clone()
    };
    assert!(matches!(event(&newer), Err(DecodeError::UnknownKind { .. })));
    // Within a member that this build does not know, bytes that are not text.
    let mut odd = stored.envelope.to_vec();
    odd.splice(1..1, *b"\"x\":\"\xff\",");
    let odd = StoredEntry {
        envelope: odd.into(),
        ..stored
    };
    assert!(matches!(event(&odd), Err(DecodeError::Damaged { .. })));
}

#[test]
fn a_time_beyond_rfc_3339_is_left_out() {
    let mut pen = Pen::new(RUN);
    let stamp = |at| Stamp {
        at: Timestamp::from_micros(at),
        request: RequestId::from_u128(1),
        principal: None,
        trace: None,
        command: None,
    };
    for (at, time) in [
        (-70_000_000_000_000_000, None),
        (0, Some("1970-01-01T00:00:00Z")),
        (i64::MAX, None),
    ] {
        let stored = pen.write_stamped(
            &stamp(at),
            value::Deleted {
                version: 1,
                previous: None,
            },
        );
        assert_eq!(default_event(&pen, &stored).attribute("time"), time);
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let new = |source: &str, bytes| EventFormat::new(source, PayloadRule::Omit, bytes);
    for source in [
        "",
        "two words",
        "ü",
        "%2",
        "%zz",
        &"s".repeat(SOURCE_BYTES_MAX + 1),
    ] {
        assert!(
            matches!(new(source, LOWEST), Err(InvalidEventFormat::Source { .. })),
            "{source}"
        );
    }
    for source in ["tape", "//journal.example/eu", "urn:tape:a%20b"] {
        assert!(new(source, LOWEST).is_ok(), "{source}");
    }
    assert!(matches!(
        new("tape", LOWEST - 1),
        Err(InvalidEventFormat::EventBytes { .. })
    ));
    let pointers = |texts: &[&str]| Redaction::new(texts);
    assert_eq!(pointers(&[]), Err(InvalidRedaction::Pointers { found: 0 }));
    assert!(pointers(&["/a"; 65]).is_err());
    for wrong in ["a", "/~", "/~2", "/a~", "$.a", &format!("/{}", "a".repeat(1_024))] {
        assert!(
            matches!(pointers(&[wrong]), Err(InvalidRedaction::Pointer { .. })),
            "{wrong}"
        );
    }
}
