//! The exports that are changed: journals with everything in them, small enough to be verified ten thousand times.

use crate::meaning::Meaning;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tape_cli::exported::Heads;
use tape_client::core::chain::{Chain, link_v1};
use tape_client::core::codec::{Stamp, StoredEntry};
use tape_client::core::entry::EntryBody;
use tape_client::core::entry::erasure::{Erased, Finished};
use tape_client::core::entry::value::Put;
use tape_client::core::id::{
    EventId, GateName, Holder, Key, Principal, RequestId, Seq, SignalId, StreamId, Tenant, ValueName,
};
use tape_client::core::payload::Digest;
use tape_client::core::state::{Delta, Json};
use tape_client::core::time::Timestamp;
use tape_client::{
    Answer, CallError, Currency, Decision, EffectPolicy, Error, Event, Payload, Retirement, Run, RunId, Tape,
};
use tape_engine::Engine;
use tape_store::clock::ManualClock;

/// How many files the streams are in: few of each, so that a file is verified fast.
const FILES: usize = 9;

/// An export, and the heads that were published of its streams: the last entry of each.
pub(crate) struct Base {
    pub(crate) name: String,
    pub(crate) lines: Vec<Value>,
    pub(crate) data: Vec<u8>,
    pub(crate) heads: Heads,
    pub(crate) meaning: Meaning,
}

impl Base {
    pub(crate) fn of(name: impl Into<String>, lines: Vec<Value>) -> Self {
        let data = written(&lines);
        Self {
            name: name.into(),
            heads: heads(&lines),
            meaning: Meaning::of(&data).unwrap(),
            data,
            lines,
        }
    }
}

/// The heads that a file has of its streams.
fn heads(lines: &[Value]) -> Heads {
    let streams = lines.iter().filter_map(|line| {
        let stream = line["stream"].as_str()?.parse().unwrap();
        let (seq, digest) = (line["head"]["seq"].as_u64()?, line["head"]["digest"].as_str()?);
        Some((stream, vec![(Seq(seq), digest.parse().unwrap())]))
    });
    streams.collect()
}

/// The lines of a file.
pub(crate) fn written(lines: &[Value]) -> Vec<u8> {
    let lines = lines.iter().map(|line| format!("{line}\n"));
    lines.collect::<String>().into_bytes()
}

/// All exports.
pub(crate) async fn all() -> Vec<Base> {
    let published = include_str!("../../../../docs/verify/export.jsonl");
    let mut streams = blocks(&read(published));
    streams.extend(seeded().await);
    streams.push(unfinished_erasure());
    streams.push(earlier_build());
    // Each file has streams of all tenants.
    let bases = (0..FILES).map(|n| {
        let of = streams.iter().skip(n).step_by(FILES);
        let count = of.clone().count();
        let mut lines: Vec<Value> = of.flatten().cloned().collect();
        lines.push(json!({"streams": count, "broken": 0}));
        Base::of(format!("file {n}"), lines)
    });
    bases.collect()
}

fn read(file: &str) -> Vec<Value> {
    file.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The lines of each stream of a file.
fn blocks(lines: &[Value]) -> Vec<Vec<Value>> {
    let mut blocks: Vec<Vec<Value>> = Vec::new();
    for line in &lines[..lines.len() - 1] {
        if line["stream"].is_string() {
            blocks.push(Vec::new());
        }
        blocks.last_mut().unwrap().push(line.clone());
    }
    blocks
}

/// The streams of two tenants, as the command exports them.
async fn seeded() -> Vec<Vec<Value>> {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("book.db").display());
    let store = tape_store::open::open(&url).await.unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_795_348_800_000_000)));
    let connect = Tape::over(Engine::new(store, clock.clone()))
        .holder(Holder::new("agent-1").unwrap())
        .principal(Principal::new("olga").unwrap())
        .suspend_after(Duration::ZERO);
    let tape = connect.connect().await.unwrap();
    for tenant in ["beta", "gamma"] {
        seed(&tape, &clock, tenant).await;
    }
    let mut streams = Vec::new();
    for tenant in ["beta", "gamma"] {
        streams.extend(blocks(&exported(dir.path(), &url, tenant)));
    }
    streams
}

fn exported(dir: &Path, url: &str, tenant: &str) -> Vec<Value> {
    let path = dir.join(tenant);
    let output = Command::new(env!("CARGO_BIN_EXE_tape"))
        .env_clear()
        .env("TAPE_URL", url)
        .args(["export", "--tenant", tenant, "--out"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    read(&std::fs::read_to_string(path).unwrap())
}

async fn seed(tape: &Tape, clock: &ManualClock, tenant: &str) {
    let id = |invocation: &str| RunId::new(tenant, "desk", "ann", "s/1", invocation).unwrap();
    paid(tape, clock, id("paid")).await;
    paid(tape, clock, id("retired")).await;
    clock.advance_ms(10_000);
    let retirement = Retirement {
        tenant: Tenant::new(tenant).unwrap(),
        older_than: Duration::from_secs(5),
        reason: "old".to_owned(),
        dry_run: false,
    };
    // One of the two is kept: what ended later is not due.
    paid(tape, clock, id("erased")).await;
    tape.retire(&retirement, None).await.unwrap();
    waiting(tape, id("waiting")).await;
    gated(tape, id("gated")).await;
    unknown(tape, id("unknown")).await;
    cancelled(tape, id("cancelled")).await;
    let erased = StreamId::Run(id("erased"));
    tape.erase(&erased, vec![Seq(1), Seq(5)], "asked for")
        .await
        .unwrap();
    session(tape, &id("erased")).await;
    let value = tape.value(Tenant::new(tenant).unwrap(), ValueName::new("rate").unwrap());
    for rate in ["1.10", "1.20"] {
        value
            .put(Payload::new("text/plain", rate).unwrap())
            .await
            .unwrap();
    }
    value.delete(None).await.unwrap();
}

async fn decided(run: &Run) -> Decision {
    let answer = || async { Ok::<_, Error>(Answer::json(&"sweep")?.model("scripted")) };
    run.decide(&json!({"messages": ["what now?"]}), answer)
        .await
        .unwrap()
}

async fn begun(tape: &Tape, id: RunId) -> Run {
    let begin = tape.run(id).label("desk", "fx").input_json(&json!({"day": 1}));
    begin.begin().await.unwrap().driving().unwrap()
}

async fn paid(tape: &Tape, clock: &ManualClock, id: RunId) {
    let key = format!("invoice {id}");
    let run = begun(tape, id).await;
    run.open_budget("usd", Currency::MicroUsd, 1_000).await.unwrap();
    let decision = decided(&run).await;
    clock.advance_ms(250);
    let effect = run
        .effect(&decision, "bank", "transfer")
        .args(&json!({"to": "b"}))
        .business_key(&key)
        .undo("reverse", &json!(1))
        .reserve("usd", 100);
    let act = |_| std::future::ready(Ok::<_, CallError>(json!({"receipt": 7})));
    let _: Value = effect.run(act).await.unwrap();
    run.checkpoint("paid", &1).await.unwrap();
    run.now().await.unwrap();
    run.complete(&json!({"booked": true})).await.unwrap();
}

/// A run with a signal that came early, and an effect in the outbox.
async fn waiting(tape: &Tape, id: RunId) {
    let run = begun(tape, id.clone()).await;
    let (gate, signal) = (GateName::new("early").unwrap(), SignalId::new("s1").unwrap());
    tape.signal(&id, gate, signal, Payload::json(&json!(true)))
        .await
        .unwrap();
    run.gate("early").wait().await.unwrap();
    let decision = decided(&run).await;
    let mail = run.effect(&decision, "mail", "send").args(&"hello").outbox();
    mail.settled::<Value>().await.unwrap_err();
}

async fn gated(tape: &Tape, id: RunId) {
    let run = begun(tape, id).await;
    let timer = run.timer("night").note(Payload::json(&json!("late")));
    timer.after(Duration::ZERO).await.unwrap();
    let gate = run.gate("approval").deadline(Duration::from_secs(9));
    gate.wait().await.unwrap_err();
}

async fn unknown(tape: &Tape, id: RunId) {
    let run = begun(tape, id).await;
    let decision = decided(&run).await;
    let policy = EffectPolicy {
        attempts_max: 1,
        ..EffectPolicy::default()
    };
    let effect = run.effect(&decision, "bank", "pay").policy(policy);
    effect
        .run(|_| std::future::ready(Err::<(), _>(CallError::unknown("timeout"))))
        .await
        .unwrap_err();
}

/// A run whose effect is to be undone.
async fn cancelled(tape: &Tape, id: RunId) {
    let run = begun(tape, id.clone()).await;
    let decision = decided(&run).await;
    let effect = run
        .effect(&decision, "bank", "pay")
        .undo("refund", &json!({"n": 1}));
    let act = |_| std::future::ready(Ok::<_, CallError>(json!(1)));
    let _: Value = effect.run(act).await.unwrap();
    tape.cancel(&id, "not wanted").await.unwrap();
    run.accept_cancel().await.unwrap();
}

/// A session with changes of shared state, an event that is rewound, and one whose bytes are erased.
async fn session(tape: &Tape, run: &RunId) {
    let session = tape.session(run.session());
    session.create(Delta::default()).await.unwrap();
    let keys = ["app:theme", "user:name", "mood"];
    let mut events = Vec::new();
    for (n, key) in keys.into_iter().enumerate() {
        let value = Json::try_from(format!("[{n},\"\\u00e4\"]")).unwrap();
        let delta = Delta([(Key::new(key).unwrap(), Some(value))].into());
        let content = Payload::json(&json!({"text": "hi \u{7f} \u{202e}"}));
        let event = Event::new(EventId::new(format!("e{n}")).unwrap(), "user", content);
        events.push(session.append(event.delta(delta)).await.unwrap());
    }
    session.rewind(events[1]).await.unwrap();
    let stream = StreamId::Session(run.session());
    tape.erase(&stream, vec![events[0]], "asked for").await.unwrap();
}

fn stamp(n: i64) -> Stamp {
    let at = Timestamp::from_micros(1_795_348_800_000_000 + n);
    Stamp {
        at,
        request: RequestId::new(at, 7),
        principal: None,
        trace: None,
        command: None,
    }
}

fn put(version: u64) -> EntryBody {
    Put {
        version,
        value: Payload::new("text/plain", format!("{version}.10")).unwrap(),
        previous: None,
    }
    .into()
}

/// A value with an erasure that the store has not carried out: the bytes of one entry are gone, those of another are there.
fn unfinished_erasure() -> Vec<Value> {
    erasure(&[])
}

/// The same where the journal says that the erasures through these entries are finished.
pub(crate) fn erasure(finished: &[u64]) -> Vec<Value> {
    let stream: StreamId = "beta/value/phone%20number".parse().unwrap();
    let mut chain = Chain::new(&stream);
    let erased = Erased {
        entries: vec![Seq(1), Seq(2)],
        reason: "asked for".to_owned(),
    };
    let finished = finished.iter().map(|through| {
        let through = Seq(*through);
        Finished { through }.into()
    });
    let bodies = [put(1), put(2), put(3), erased.into()]
        .into_iter()
        .chain(finished);
    let mut entries: Vec<StoredEntry> = (0..)
        .zip(bodies)
        .map(|(n, body)| chain.seal(&stamp(n), body).1)
        .collect();
    entries[0].payload = None;
    block(&stream, &entries)
}

/// A value that a build of version 1 began.
fn earlier_build() -> Vec<Value> {
    let stream: StreamId = "gamma/value/old".parse().unwrap();
    let mut chain = Chain::new(&stream);
    let mut entries: Vec<StoredEntry> = Vec::new();
    for n in 1..=4 {
        let (_, mut stored) = chain.seal(&stamp(i64::try_from(n).unwrap()), put(n));
        if n < 3 {
            let text = String::from_utf8(stored.envelope.to_vec()).unwrap();
            let old = text.replacen("{\"v\":2", "{\"v\":1", 1).into_bytes();
            let previous = entries.last().map_or_else(Digest::default, |last| last.digest);
            stored.digest = link_v1(&previous, &old);
            stored.envelope = old.into();
            chain = Chain::after(&stream, &stored).unwrap();
        }
        entries.push(stored);
    }
    block(&stream, &entries)
}

fn block(stream: &StreamId, entries: &[StoredEntry]) -> Vec<Value> {
    use base64::Engine as _;
    let last = entries.last().unwrap();
    let head = json!({"seq": last.seq.0, "digest": last.digest.to_string()});
    let mut lines = vec![json!({"stream": stream.to_string(), "head": head, "snapshot": null})];
    lines.extend(entries.iter().map(|stored| {
        let envelope = std::str::from_utf8(&stored.envelope).unwrap();
        let mut line =
            json!({"seq": stored.seq.0, "digest": stored.digest.to_string(), "envelope": envelope});
        if let Some(bytes) = &stored.payload {
            line["payload"] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        }
        line
    }));
    lines.push(json!({"end": stream.to_string(), "broken": null}));
    lines
}
