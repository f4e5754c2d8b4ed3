//! Relays: where they are, what a person does about them, and what they have on record.

use crate::seeded::{DONE, Seeded};
use bytes::Bytes;
use expect_test::expect;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tape_client::api::Relays as _;
use tape_client::api::relays::{ClaimAnswer, Control};
use tape_client::core::command::{Command, RelayCommand};
use tape_client::core::entry::relay::SentEntry;
use tape_client::core::id::{Holder, RelayPart, RelayStream, Seq, StreamId, Tenant};
use tape_client::core::payload::Digest;
use tape_client::core::relay::Progress;
use tape_client::core::time::Timestamp;
use tape_engine::Engine;
use tape_store::clock::ManualClock;
use tape_store::contract::Shard;
use tape_store::cursors::{Record, Swap};

/// An hour after the runs of the store were made.
const LATER: Timestamp = Timestamp::from_micros(1_795_352_400_000_000);

/// A store with two relays: `acme/fraud` at the end of the feed, and `*/lake` at its beginning with a sink that takes nothing.
struct WithRelays {
    seeded: Seeded,
    engine: Engine,
}

impl WithRelays {
    async fn new() -> Self {
        let seeded = Seeded::new().await;
        let store = tape_store::open::open(&seeded.url()).await.unwrap();
        let end = store.tail_end(Shard(0)).await.unwrap().0;
        let engine = Engine::new(store, Arc::new(ManualClock::at(LATER)));
        let relays = Self { seeded, engine };
        let sent = Progress {
            cursors: [(0, end)].into(),
            reached: Some(LATER.minus_millis(1_000)),
            delivered: 17,
            refused: 1,
            ..Progress::default()
        };
        relays.carry("acme/fraud/0", "relay-1", sent).await;
        let failing = Progress {
            cursors: [(0, Bytes::new())].into(),
            is_failing: true,
            ..Progress::default()
        };
        relays.carry("*/lake/0", "relay-2", failing).await;
        relays
    }

    async fn carry(&self, part: &str, holder: &str, progress: Progress) {
        let (part, holder): (RelayPart, _) = (part.parse().unwrap(), Holder::new(holder).unwrap());
        let lease = Duration::from_secs(60);
        let claim = self.engine.claim(&part, &holder, lease);
        let ClaimAnswer::Claimed { epoch, .. } = claim.await.unwrap() else {
            panic!("{part} is free");
        };
        self.engine.advance(&part, epoch, progress, lease).await.unwrap();
    }

    /// The cursors of a relay's part, and how many entries it has not passed.
    fn place(&self, relay: &str) -> (BTreeMap<String, Value>, u64) {
        let status = self.seeded.tape(&["relay", "status", relay, "--json"]);
        assert!(status.status.success(), "{status:?}");
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let cursors = status["cursors"].as_object().unwrap().clone();
        (
            cursors.into_iter().collect(),
            status["lag"]["entries"].as_u64().unwrap(),
        )
    }

    async fn refuse(&self, relay: &RelayStream, seq: u64, reason: &str) -> Seq {
        let entry = SentEntry {
            stream: DONE.replace("acme/", "acme/run/").parse().unwrap(),
            seq: Seq(seq),
            digest: Digest([7; 32]),
        };
        let body = RelayCommand::Refuse {
            entry,
            attempts: 3,
            reason: reason.to_owned(),
        };
        let command = Command::new(self.engine.request_id(), body);
        self.engine.record(relay, command).await.unwrap().seq
    }
}

fn as_mia<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["--as", "mia", "--yes"], words].concat()
}

#[tokio::test]
async fn relays_are_listed_with_their_state_and_lag() {
    let relays = WithRelays::new().await;
    let seeded = &relays.seeded;
    seeded.says(&["relay", "list"], &expect![[r#"
        */lake  failing since 2026-11-22 13:00:00.000  0 of 1 parts carried  0 delivered, 0 refused  16 entries behind, the oldest of 2026-11-22 12:00:00.000
        acme/fraud  idle  0 of 1 parts carried  17 delivered, 1 refused  at the end
    "#]]);
    seeded.says(&["relay", "list", "--tenant", "acme", "--json"], &expect![[r#"
        {"carried":0,"delivered":17,"holders":[],"lag":{"entries":0,"more":false,"oldest":null,"oldest_ms":0},"parts":1,"refused":1,"relay":"acme/fraud","standing":"idle","state":"idle"}
        {"cut":false,"listed":1}
    "#]]);
    seeded.says(
        &["relay", "list", "--tenant", "other"],
        &expect![[r#"
        none
    "#]],
    );
    seeded.says(
        &["relay", "status", "*/lake"],
        &expect![[r#"
        */lake/0  failing since 2026-11-22 13:00:00.000
          sent      0 delivered, 0 refused
          reached   no entry yet, 16 entries behind, the oldest of 2026-11-22 12:00:00.000
          moved     2026-11-22 13:00:00.000
          shard 0   (the beginning)
    "#]],
    );
    seeded.refuses(
        &["relay", "status", "acme/none"],
        &expect![[r#"
        tape: relay: no process has carried a part of acme/none yet
    "#]],
    );
    seeded.refuses(&["relay", "status", "fraud"], &expect![[r#"
        error: invalid value 'fraud' for '<RELAY>': relay: is not of the form TENANT/NAME, or */NAME for one of all tenants

        For more information, try '--help'.
    "#]]);
    let stop = Control::Disable {
        reason: "the partner asked".to_owned(),
    };
    let relay = "acme/fraud".parse().unwrap();
    relays.engine.control(&relay, &stop).await.unwrap();
    seeded.says(&["relay", "list", "--tenant", "acme"], &expect![[r#"
        acme/fraud  disabled since 2026-11-22 13:00:00.000: the partner asked  0 of 1 parts carried  17 delivered, 1 refused  at the end
    "#]]);
}

#[tokio::test]
async fn a_relay_is_stopped_and_goes_on() {
    let relays = WithRelays::new().await;
    let (seeded, before) = (&relays.seeded, relays.place("acme/fraud"));
    let disable = ["relay", "disable", "acme/fraud", "--reason", "maintenance"];
    seeded.refuses(
        &disable,
        &expect![[r#"
        tape: the journal has to say who decides this: say --as NAME, or set TAPE_PRINCIPAL
    "#]],
    );
    seeded.says(
        &as_mia(&disable),
        &expect![[r#"
        acme/fraud is disabled, in 1 part
    "#]],
    );
    let list = || String::from_utf8(seeded.tape(&["relay", "list"]).stdout).unwrap();
    assert!(list().contains("disabled since "), "{}", list());
    assert!(list().contains(": maintenance"), "{}", list());
    seeded.says(
        &as_mia(&["relay", "enable", "acme/fraud"]),
        &expect![[r#"
        acme/fraud may run, in 1 part
    "#]],
    );
    assert!(!list().contains("disabled"), "{}", list());
    assert_eq!(relays.place("acme/fraud"), before);
    seeded.refuses(
        &as_mia(&["relay", "enable", "acme/none"]),
        &expect![[r#"
        tape: relay: no process has carried a part of acme/none yet
    "#]],
    );
    let no_reason = ["relay", "disable", "acme/fraud", "--reason", ""];
    assert_eq!(seeded.tape(&as_mia(&no_reason)).status.code(), Some(1));
}

#[tokio::test]
async fn a_relay_is_put_elsewhere_once_its_operator_says_yes() {
    let relays = WithRelays::new().await;
    let seeded = &relays.seeded;
    let reset = |to: &'static str| ["relay", "reset", "acme/fraud", "--to", to];
    let (end, lag) = relays.place("acme/fraud");
    assert_eq!(lag, 0);
    for (to, says) in [
        (
            "beginning",
            expect![[r#"
            tape: nothing was done: this puts acme/fraud at the beginning of the feed: it sends everything again, 17 events were delivered until now. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            "end",
            expect![[r#"
            tape: nothing was done: this puts acme/fraud at the end of the feed: what it has not passed, 0 entries, is never sent. Without a terminal to ask on, add --yes
        "#]],
        ),
        (
            "0=",
            expect![[r#"
            tape: nothing was done: this puts shards of acme/fraud elsewhere: what lies behind the new places is sent again, and what lies before them and was not sent yet is never sent. Without a terminal to ask on, add --yes
        "#]],
        ),
    ] {
        seeded.refuses(&[&["--as", "mia"], &reset(to)[..]].concat(), &says);
        assert_eq!(relays.place("acme/fraud"), (end.clone(), 0), "{to}");
    }
    seeded.says(
        &as_mia(&reset("beginning")),
        &expect![[r#"
        acme/fraud is put there, in 1 part
    "#]],
    );
    let (beginning, lag) = relays.place("acme/fraud");
    assert_eq!(beginning["0"], "");
    assert!(lag > 0);
    let cursor = format!("0={}", end["0"].as_str().unwrap());
    let back = ["relay", "reset", "acme/fraud", "--to", cursor.as_str()];
    assert!(seeded.tape(&as_mia(&back)).status.success());
    assert_eq!(relays.place("acme/fraud"), (end.clone(), 0));
    let before = relays.place("acme/fraud");
    for (wrong, code) in [("0=00ff", 1), ("1=", 1), ("start", 2), ("0=x", 2)] {
        let refused = seeded.tape(&as_mia(&reset(wrong)));
        assert_eq!(refused.status.code(), Some(code), "{wrong}: {refused:?}");
        assert_eq!(relays.place("acme/fraud"), before, "{wrong}");
    }
    assert!(
        seeded
            .tape(&as_mia(&["relay", "reset", "*/lake", "--to", "end"]))
            .status
            .success()
    );
    assert_eq!(relays.place("*/lake"), (end, 0));
}

#[tokio::test]
async fn a_relay_that_is_not_used_any_more_is_forgotten() {
    let relays = WithRelays::new().await;
    let seeded = &relays.seeded;
    let forget = ["relay", "forget", "*/lake"];
    seeded.refuses(&[&["--as", "mia"], &forget[..]].concat(), &expect![[r#"
        tape: nothing was done: this forgets where */lake is, in 1 part: a relay of that name begins anew. Without a terminal to ask on, add --yes
    "#]]);
    seeded.says(
        &as_mia(&forget),
        &expect![[r#"
        */lake is forgotten, in 1 part
    "#]],
    );
    seeded.refuses(
        &as_mia(&forget),
        &expect![[r#"
        tape: relay: no process has carried a part of */lake yet
    "#]],
    );
    let listed = String::from_utf8(seeded.tape(&["relay", "list"]).stdout).unwrap();
    assert!(
        listed.starts_with("acme/fraud") && !listed.contains("lake"),
        "{listed}"
    );
}

#[tokio::test]
async fn a_part_that_cannot_be_read_or_makes_no_sense_is_told_as_such() {
    let relays = WithRelays::new().await;
    let seeded = &relays.seeded;
    let newer = Swap::Make(Record {
        version: 1,
        bytes: Bytes::from_static(br#"{"form":2,"place":{}}"#),
    });
    let cursors = relays.engine.store().cursors();
    let made = cursors.swap_record("relay/acme/fraud/1", &newer);
    assert!(made.await.unwrap());
    let foreign = Progress {
        cursors: [(0, Bytes::from_static(b"foreign"))].into(),
        ..Progress::default()
    };
    relays.carry("acme/other/0", "relay-1", foreign).await;
    seeded.says(&["relay", "list", "--tenant", "acme"], &expect![[r#"
        acme/fraud  idle  0 of 1 parts carried  17 delivered, 1 refused  at the end
        acme/other  idle  0 of 1 parts carried  0 delivered, 0 refused  how far behind is not known: cursor is not valid here: it was not made by this store
        relay/acme/fraud/1  DAMAGED: the journal cannot be used as it is: the record 'relay/acme/fraud/1' cannot be read: it has the form 2, this build knows 1
    "#]]);
    let disable = ["relay", "disable", "acme/fraud", "--reason", "maintenance"];
    let disabled = seeded.tape(&as_mia(&disable));
    assert_eq!(disabled.status.code(), Some(1), "{disabled:?}");
    expect![[r#"
        acme/fraud is disabled, in 1 part
        relay/acme/fraud/1  DAMAGED: the journal cannot be used as it is: the record 'relay/acme/fraud/1' cannot be read: it has the form 2, this build knows 1
    "#]].assert_eq(&String::from_utf8(disabled.stdout).unwrap());
    seeded.says(
        &as_mia(&["relay", "forget", "acme/fraud"]),
        &expect![[r#"
        acme/fraud is forgotten, in 2 parts
    "#]],
    );
    // One that is of no relay goes by its name.
    let stray = Swap::Make(Record {
        version: 1,
        bytes: Bytes::from_static(b"{}"),
    });
    assert!(cursors.swap_record("relay/nonsense", &stray).await.unwrap());
    let forget = ["relay", "forget", "--record", "relay/nonsense"];
    seeded.says(
        &as_mia(&forget),
        &expect![[r#"
        relay/nonsense is removed
    "#]],
    );
    seeded.refuses(
        &as_mia(&forget),
        &expect![[r#"
            This removes the record 'relay/nonsense', if this build cannot read it.
            tape: record: there is none of the name 'relay/nonsense'
        "#]],
    );
    seeded.refuses(
        &as_mia(&["relay", "forget", "--record", "relay/acme/other/0"]),
        &expect![[r#"
            This removes the record 'relay/acme/other/0', if this build cannot read it.
            tape: request: record: can be read: forget its relay
        "#]],
    );
}

#[tokio::test]
async fn what_a_sink_refused_is_listed_until_it_was_sent_again() {
    let relays = WithRelays::new().await;
    let seeded = &relays.seeded;
    let acme = Tenant::new("acme").unwrap();
    let of_all = RelayStream::of(&"*/lake".parse().unwrap(), &acme).unwrap();
    let first = relays.refuse(&of_all, 3, "400 bad").await;
    relays.refuse(&of_all, 5, "413 too large").await;
    let list = ["relay", "refused", "*/lake", "--tenant", "acme"];
    seeded.says(
        &list,
        &expect![[r#"
        1  2026-11-22 13:00:00.000  acme/run/treasury/ann/s1/done entry 3  after 3 attempts: 400 bad
        2  2026-11-22 13:00:00.000  acme/run/treasury/ann/s1/done entry 5  after 3 attempts: 413 too large
    "#]],
    );
    let body = RelayCommand::Redelivered { refusal: first };
    let again = Command::new(relays.engine.request_id(), body);
    relays.engine.record(&of_all, again).await.unwrap();
    seeded.says(&[&list[..], &["--json"]].concat(), &expect![[r#"
        {"at":"2026-11-22 13:00:00.000","attempts":3,"reason":"413 too large","refusal":2,"seq":5,"stream":"acme/run/treasury/ann/s1/done"}
        {"cut":false,"listed":1}
    "#]]);
    seeded.says(
        &["relay", "refused", "acme/fraud"],
        &expect![[r#"
        none
    "#]],
    );
    seeded.refuses(
        &["relay", "refused", "*/lake"],
        &expect![[r#"
        tape: tenant: has to be said with --tenant: */lake has a record in each tenant
    "#]],
    );
    seeded.refuses(
        &["relay", "refused", "acme/fraud", "--tenant", "other"],
        &expect![[r#"
            tape: tenant: is 'other', and acme/fraud is of another
        "#]],
    );
}

#[tokio::test]
async fn an_erasure_lacks_the_receipts_of_subscribers_that_did_not_confirm_it() {
    let relays = WithRelays::new().await;
    let (seeded, engine) = (&relays.seeded, &relays.engine);
    let receipts = ["relay", "receipts", "acme/fraud"];
    seeded.says(
        &receipts,
        &expect![[r#"
        none
    "#]],
    );
    let run: StreamId = DONE.replace("acme/", "acme/run/").parse().unwrap();
    let mut erased = Vec::new();
    for seq in [1, 5] {
        let body = tape_client::core::erasure::Erasure {
            entries: vec![Seq(seq)],
            reason: "on request".to_owned(),
        };
        let command = Command::new(engine.request_id(), body);
        erased.push(engine.erase(&run, command).await.unwrap().seq.to_string());
    }
    let told = seeded.tape(&receipts);
    assert_eq!(told.status.code(), Some(1));
    expect![[r#"
        acme/run/treasury/ann/s1/done entry 8  LACKING: no subscriber has confirmed it, erased 2026-11-22 13:00:00.000
        acme/run/treasury/ann/s1/done entry 10  LACKING: no subscriber has confirmed it, erased 2026-11-22 13:00:00.000
    "#]].assert_eq(&String::from_utf8(told.stdout).unwrap());
    let run = run.to_string();
    let confirm = |subscriber: &'static str, seq: &str| {
        let words = ["relay", "receipt", "acme/fraud", "--subscriber", subscriber];
        let of = ["--stream", run.as_str(), "--seq", seq];
        let output = seeded.tape(&as_mia(&[&words[..], &of].concat()));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = confirm("partner", &erased[0]);
    expect![[r#"
        entry 1: records the receipt
    "#]]
    .assert_eq(&first);
    assert_eq!(confirm("partner", &erased[0]), first, "it is on record once");
    confirm("lake", &erased[0]);
    confirm("lake", &erased[1]);
    let told = seeded.tape(&[&receipts[..], &["--json"]].concat());
    assert_eq!(told.status.code(), Some(1));
    let lines = String::from_utf8(told.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lacking: Vec<_> = lines.iter().filter(|line| line.get("erased").is_some()).collect();
    assert_eq!(lacking.len(), 1, "{lines:?}");
    assert_eq!(
        (&lacking[0]["subscriber"], lacking[0]["seq"].to_string()),
        (&Value::from("partner"), erased[1].clone())
    );
    confirm("partner", &erased[1]);
    assert!(seeded.tape(&receipts).status.success());
    let foreign = ["--stream", "other/run/a/u/s/i", "--seq", "1"];
    let words = ["relay", "receipt", "acme/fraud", "--subscriber", "partner"];
    let refused = seeded.tape(&as_mia(&[&words[..], &foreign].concat()));
    assert_eq!(refused.status.code(), Some(2));
}
