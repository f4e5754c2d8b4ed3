//! Filters: what they choose, and that no predicate takes the relay down.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use std::sync::Arc;
use tape_core::codec::StoredEntry;
use tape_core::entry::erasure;
use tape_core::id::{Seq, StreamId};
use tape_core::payload::Payload;
use tape_environment::{Environment, machine};
use tape_relay::conformance::pen::Pen;
use tape_relay::filter::{
    Chosen, ELEMENTS_MAX, Filter, InvalidPredicate, JSON_BYTES_MAX, Predicate, SOURCE_BYTES_MAX,
};

const RUN: &str = "acme/run/treasury/ann/s1/i1";

fn compile(source: &str) -> Result<Predicate, InvalidPredicate> {
    Predicate::compile(source, &machine())
}

fn refused(source: &str) -> InvalidPredicate {
    compile(source).expect_err(source)
}

async fn choose(source: &str, entries: &[(StreamId, StoredEntry)]) -> Chosen {
    let predicate = compile(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    let filter = Filter::new(">".parse().unwrap(), Some(predicate));
    filter.choose(entries).await.unwrap()
}

/// What a predicate says of a value that was put; an error is why it failed.
async fn says(source: &str, value: &serde_json::Value) -> Result<bool, &'static str> {
    let mut pen = Pen::new(RUN);
    let entry = pen.put(Payload::json(value));
    let chosen = choose(source, &[(pen.stream().clone(), entry)]).await;
    assert_eq!(chosen.failed, u64::from(chosen.failure.is_some()));
    chosen
        .failure
        .map_or(Ok(chosen.matches[0]), |failure| Err(failure.problem))
}

#[tokio::test]
async fn a_predicate_sees_the_entry() {
    let value =
        json!({"amount": 7_000, "fee": 1.5, "big": u64::MAX, "tags": ["a", "b"], "to": {"iban": "DE89"}});
    for (source, expected) in [
        (
            "tenant == 'acme' && app == 'treasury' && stream == 'acme/run/treasury/ann/s1/i1'",
            true,
        ),
        ("kind == 'value.put' && seq == 1 && at == 1796040000000000", true),
        ("kind.startsWith('effect.')", false),
        (
            "entry.v == 2 && entry.seq == 1 && entry.entry.kind == kind && entry.entry.body.version == 1",
            true,
        ),
        (
            "payload.amount > 5000 && payload.amount + 1 < 7002 && payload.fee < 2.0",
            true,
        ),
        ("payload.big == 18446744073709551615u", true),
        (
            "payload.to.iban.contains('E8') && payload['to']['iban'].endsWith('9')",
            true,
        ),
        (
            "'b' in payload.tags && !('c' in payload.tags) && size(payload.tags) == 2",
            true,
        ),
        (
            "payload.tags.exists(t, t == 'b') && payload.tags.all(t, size(t) == 1)",
            true,
        ),
        (
            "payload.tags.exists_one(t, t > 'a') && payload.tags.filter(t, t == 'a') == ['a']",
            true,
        ),
        ("payload.tags.map(t, t + '!') == ['a!', 'b!']", true),
        ("has(payload.to) && !has(payload.from)", true),
        (
            "has(payload.from) ? payload.from == 'x' : string(payload.amount) == '7000'",
            true,
        ),
        ("false", false),
    ] {
        assert_eq!(says(source, &value).await, Ok(expected), "{source}");
    }
}

#[tokio::test]
async fn a_predicate_that_fails_chooses_nothing_and_stops_nothing() {
    let value = json!({"secret": "DE89", "list": []});
    for (source, problem) in [
        (
            "payload.amount > 5",
            "a member is missing: ask for it by has() first",
        ),
        (
            "payload.secret > 5",
            "a value has another type than the predicate expects",
        ),
        ("payload.list[0] == 1", "an index is out of bounds"),
        ("1 / (seq - 1) == 1", "a division by zero"),
        ("9223372036854775807 + seq > 0", "a number is out of range"),
        ("payload.secret", "its value is not a boolean"),
    ] {
        assert_eq!(says(source, &value).await, Err(problem), "{source}");
    }
    let mut pen = Pen::new(RUN);
    let entries: Vec<_> = [json!(1), json!({"amount": 9}), json!(2), json!({"amount": 1})]
        .iter()
        .map(|value| (pen.stream().clone(), pen.put(Payload::json(value))))
        .collect();
    let chosen = choose("payload.amount > 5", &entries).await;
    assert_eq!(chosen.matches, [false, true, false, false]);
    assert_eq!(chosen.failed, 2);
    assert_eq!(chosen.failure.unwrap().seq, Seq(3));
}

#[tokio::test]
async fn payloads_and_envelopes_that_are_too_large_are_not_seen() {
    let list = |n: usize| json!({"list": vec![1; n]});
    assert_eq!(
        says("size(payload.list) > 0", &list(ELEMENTS_MAX)).await,
        Ok(true)
    );
    assert_eq!(says("payload == null", &list(ELEMENTS_MAX + 1)).await, Ok(true));
    assert_eq!(
        says("payload == null", &json!("x".repeat(JSON_BYTES_MAX))).await,
        Ok(true)
    );
    assert_eq!(
        says("size(payload) > 0", &json!("x".repeat(JSON_BYTES_MAX - 2))).await,
        Ok(true)
    );

    let mut pen = Pen::new(RUN);
    let entries = (1..=1 + ELEMENTS_MAX as u64).map(Seq).collect();
    let stored = pen.write(erasure::Erased {
        entries,
        reason: "asked for".to_owned(),
    });
    let entries = [(pen.stream().clone(), stored)];
    // Only predicates that use the envelope fail on it.
    assert_eq!(choose("kind == 'payload.erased'", &entries).await.matches, [true]);
    let chosen = choose("entry.v == 2", &entries).await;
    assert_eq!((chosen.matches, chosen.failed), (vec![false], 1));
}

#[tokio::test]
async fn payloads_that_are_no_json_read_as_null() {
    let mut pen = Pen::new(RUN);
    let text = pen.put(Payload::new("text/plain", "{}").unwrap());
    let broken = pen.put(Payload::new(Payload::JSON, "{").unwrap());
    let erased = StoredEntry {
        payload: None,
        ..pen.put(Payload::json(&json!(1)))
    };
    let entries = [text, broken, erased].map(|entry| (pen.stream().clone(), entry));
    assert_eq!(choose("payload == null", &entries).await.matches, [true; 3]);
}

#[tokio::test]
async fn a_pattern_chooses_by_subject_and_before_the_predicate() {
    let mut pen = Pen::new(RUN);
    let mut other = Pen::new("other/value/rate");
    let entries = [
        (pen.stream().clone(), pen.put(Payload::empty())),
        (other.stream().clone(), other.put(Payload::empty())),
    ];
    let filter = Filter::new("acme.run.>".parse().unwrap(), None);
    assert_eq!(filter.choose(&entries).await.unwrap().matches, [true, false]);
    // The predicate fails on whatever it sees.
    let filter = Filter::new("other.>".parse().unwrap(), Some(compile("payload.x").unwrap()));
    let chosen = filter.choose(&entries).await.unwrap();
    assert_eq!((chosen.matches, chosen.failed), (vec![false, false], 1));
    assert_eq!(chosen.failure.unwrap().stream, *other.stream());
    assert_eq!(
        Filter::all().choose(&entries).await.unwrap().matches,
        [true, true]
    );
    assert_eq!(Filter::all().choose(&[]).await.unwrap(), Chosen::default());
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_chosen_so_that_it_is_found() {
    let mut pen = Pen::new(RUN);
    let stored = pen.put(Payload::json(&json!(1)));
    let damaged = StoredEntry {
        envelope: "{".into(),
        ..stored.clone()
    };
    let changed = StoredEntry {
        payload: Some("2".into()),
        ..stored
    };
    let entries = [damaged, changed].map(|entry| (pen.stream().clone(), entry));
    assert_eq!(choose("payload == 5", &entries).await.matches, [true, true]);
    let filter = Filter::new("other.>".parse().unwrap(), None);
    assert_eq!(filter.choose(&entries).await.unwrap().matches, [true, false]);
}

#[test]
fn what_is_no_predicate_is_refused() {
    let variable = |name: &str| InvalidPredicate::Variable {
        name: name.to_owned(),
    };
    let function = |name: &str| InvalidPredicate::Function {
        name: name.to_owned(),
    };
    assert_eq!(refused("tennant == 'acme'"), variable("tennant"));
    // A variable of a loop ends with the loop.
    assert_eq!(refused("payload.all(x, x > 1) && x"), variable("x"));
    assert_eq!(refused("type(seq) == int"), function("type"));
    assert_eq!(refused("'abc'.matches('a+')"), function("matches"));
    assert_eq!(refused("cel.bind(x, seq, x > 1)"), function("bind"));
    assert!(matches!(
        refused("payload.?x == 1"),
        InvalidPredicate::Syntax { .. }
    ));
    assert_eq!(refused("{'a': 1} == payload"), InvalidPredicate::Form);
    assert_eq!(refused("T{a: 1} == payload"), InvalidPredicate::Form);
    assert!(matches!(refused("kind =="), InvalidPredicate::Syntax { .. }));
    assert!(matches!(refused(""), InvalidPredicate::Syntax { .. }));
    let long = format!("kind == '{}'", "x".repeat(SOURCE_BYTES_MAX));
    assert_eq!(refused(&long), InvalidPredicate::TooLong { bytes: long.len() });
}

#[test]
fn loops_that_multiply_are_refused() {
    let l = "payload.a";
    assert!(compile(&format!("{l}.all(x, x.exists(y, y == 1))")).is_ok());
    let three = format!("{l}.all(x, {l}.all(y, {l}.all(z, x + y + z > 0)))");
    assert_eq!(refused(&three), InvalidPredicate::LoopDepth);
    // Each doubles a text: 40 of them would make a terabyte.
    let doubling = format!("['x']{} == []", ".map(x, x + x)".repeat(40));
    assert_eq!(refused(&doubling), InvalidPredicate::LoopDepth);
    for within in [
        format!("{l}.filter(x, {l}.filter(y, y.exists(z, z == x)) == [])"),
        format!("{l}.map(x, x).map(y, y).exists_one(z, z)"),
    ] {
        assert!(
            matches!(
                refused(&within),
                InvalidPredicate::LoopDepth | InvalidPredicate::Form
            ),
            "{within}"
        );
    }
    // Each is allowed, and together they cost too much.
    let two = format!("{l}.all(x, {l}.all(y, x > y))");
    assert!(compile(&two).is_ok());
    let many = vec![two; 12].join(" && ");
    assert!(matches!(refused(&many), InvalidPredicate::Cost { .. }));
    // A copy of everything for each pair of elements.
    let copies = format!("size({l}.map(x, {l}.map(y, payload))) > 0");
    assert!(matches!(refused(&copies), InvalidPredicate::Cost { .. }));
    let compared = format!("{l}.all(x, {l}.all(y, payload == entry))");
    assert!(matches!(refused(&compared), InvalidPredicate::Cost { .. }));
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_text_on_which_the_parser_recovers_again_and_again_takes_no_memory() {
    let motif = "!!(!!!!!!(!!!!(((((!!(!!(!!!!((!!(!!!!!!(!!!!(((((!!(!!(!!!!((1";
    let before = peak_kib();
    for motif in [
        motif,
        &format!("{motif}{motif}x.["),
        "[(!",
        "a?b:",
        "'\\",
        "((((x.y[",
    ] {
        let source = motif.repeat(SOURCE_BYTES_MAX / motif.len());
        assert!(
            matches!(refused(&source), InvalidPredicate::Syntax { .. }),
            "{motif}"
        );
    }
    let taken = peak_kib() - before;
    assert!(taken < 128 * 1024, "{taken} KiB");
}

/// Sources that are nested, or chained, as deep as there is room.
fn deep() -> Vec<String> {
    let room = SOURCE_BYTES_MAX;
    let nested = |open: &str, inner: &str, close: &str, levels: usize| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    let mut all = Vec::new();
    for levels in [20, 40, 80, 90, 95, 200, 500, 1_000] {
        all.push(nested("(", "true", ")", levels));
        all.push(nested("[", "1", "]", levels) + " == payload");
        all.push(nested("!(", "true", ")", levels));
        all.push(nested("size(", "payload", ")", levels) + " == 1");
        all.push(format!("payload{} == 1", "[0]".repeat(levels)));
        all.push(format!("payload{} == 1", ".a".repeat(levels)));
        all.push(format!("1{} > 0", "+1".repeat(levels)));
        all.push(format!("true{}", "&&true".repeat(levels)));
        all.push(nested("true?", "true", ":false", levels));
        all.push("-".repeat(levels) + "1 < 0");
    }
    all.retain(|source| source.len() <= room);
    all
}

#[tokio::test]
async fn deep_nesting_overflows_no_stack() {
    let sources = deep();
    assert!(sources.len() > 60);
    let mut taken = 0;
    for source in sources {
        // Whether a source is taken is the parser's affair. Where the stack overflows, the process is gone.
        if let Ok(predicate) = compile(&source) {
            taken += 1;
            let mut pen = Pen::new(RUN);
            let entry = pen.put(Payload::json(&json!([])));
            let filter = Filter::new(">".parse().unwrap(), Some(predicate));
            let chosen = filter.choose(&[(pen.stream().clone(), entry)]).await.unwrap();
            assert_eq!(chosen.matches.len(), 1);
        }
    }
    assert!(taken > 10, "{taken} are taken");
    assert_eq!(
        refused(&format!("payload{} == 1", ".a".repeat(1_000))),
        InvalidPredicate::Depth
    );
}

#[tokio::test]
async fn the_most_expensive_predicates_end() {
    let row = json!((0..ELEMENTS_MAX).collect::<Vec<_>>());
    let mut pen = Pen::new(RUN);
    let entry = pen.put(Payload::json(&row));
    let entries = [(pen.stream().clone(), entry)];
    let environment: Arc<dyn Environment> = machine();
    let source = "payload.all(x, payload.all(y, x + y >= 0))";
    let predicate = Predicate::compile(source, &environment).unwrap();
    let filter = Filter::new(">".parse().unwrap(), Some(predicate));
    let begun = environment.elapsed();
    assert_eq!(filter.choose(&entries).await.unwrap().matches, [true]);
    eprintln!(
        "{source} over {ELEMENTS_MAX} elements took {:?}",
        environment.elapsed() - begun
    );
}
