//! What relays report.

use crate::query::Tail;
use crate::{Journal, JournalError};
use futures::StreamExt as _;
use std::sync::Arc;
use tape_core::codec::decode;
use tape_core::command::{Command, RelayCommand};
use tape_core::entry::relay::{RecordedErasure, SentEntry};
use tape_core::entry::{Entry, EntryBody};
use tape_core::erasure::Erasure;
use tape_core::id::{Principal, RelayStream, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::reply::{Field, Missing, Rejection, Reply, ReplyResult};

fn lake() -> RelayStream {
    match "t/relay/all/data%20lake".parse().unwrap() {
        StreamId::Relay(relay) => relay,
        other => panic!("{other} is not that of a relay"),
    }
}

fn refuse(stream: &str, seq: u64) -> RelayCommand {
    RelayCommand::Refuse {
        entry: SentEntry {
            stream: stream.parse().unwrap(),
            seq: Seq(seq),
            digest: Digest::of(&seq.to_be_bytes()),
        },
        attempts: 5,
        reason: "it is too large".to_owned(),
    }
}

fn receipt(stream: &str, seq: u64) -> RelayCommand {
    RelayCommand::Receipt {
        subscriber: "lake".parse().unwrap(),
        erasure: RecordedErasure {
            stream: stream.parse().unwrap(),
            seq: Seq(seq),
        },
    }
}

fn redelivered(refusal: u64) -> RelayCommand {
    RelayCommand::Redelivered {
        refusal: Seq(refusal),
    }
}

async fn record(journal: &Arc<dyn Journal>, body: RelayCommand) -> Result<Reply, JournalError> {
    let command = Command {
        principal: Some(Principal::new("relay@acme").unwrap()),
        ..Command::new(journal.request_id(), body)
    };
    journal.relays().record(&lake(), command).await
}

async fn entries(journal: &Arc<dyn Journal>) -> Vec<Entry> {
    let mut pages = journal.stream_entries(&StreamId::Relay(lake()));
    let mut entries = Vec::new();
    while let Some(page) = pages.next().await {
        entries.extend(page.unwrap().iter().map(|stored| decode(stored).unwrap()));
    }
    entries
}

pub(super) async fn what_a_relay_reports_is_on_record_once(journal: Arc<dyn Journal>) {
    let reports = [
        (refuse("t/value/rate", 1), 1),
        (refuse("t/value/rate", 2), 2),
        (refuse("t/value/rate", 1), 1),
        (receipt("t/session/a/u/s", 7), 3),
        (receipt("t/session/a/u/s", 7), 3),
        (redelivered(1), 4),
        (refuse("t/value/rate", 1), 5),
    ];
    for (report, seq) in reports {
        let reply = record(&journal, report.clone()).await.unwrap();
        let result = ReplyResult::Recorded;
        assert_eq!(
            reply,
            Reply {
                seq: Seq(seq),
                result
            },
            "{report:?}"
        );
    }
    let command = Command::new(journal.request_id(), redelivered(2));
    let first = journal.relays().record(&lake(), command.clone()).await.unwrap();
    let again = journal.relays().record(&lake(), command).await.unwrap();
    assert_eq!((first.seq, &again), (Seq(6), &first), "a repeated request");
    let entries = entries(&journal).await;
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.body.kind()).collect();
    let expected = "refused refused receipt redelivered refused redelivered";
    let expected: Vec<String> = expected.split(' ').map(|kind| format!("relay.{kind}")).collect();
    assert_eq!(kinds, expected);
    let EntryBody::RelayRefused(refused) = &entries[1].body else {
        panic!("{:?}", entries[1]);
    };
    assert_eq!(
        (refused.attempts, refused.reason.as_str()),
        (5, "it is too large")
    );
    assert_eq!(refused.entry.stream.to_string(), "t/value/rate");
    assert_eq!(entries[1].principal.as_ref().unwrap().as_str(), "relay@acme");
    // Readers of the feed find what was refused by the subject.
    let tail = Tail {
        from_start: true,
        ..Tail::new("t.relay.all.data%20lake.relay.refused".parse().unwrap())
    };
    let mut feed = journal.tail(&tail);
    let mut found = Vec::new();
    while found.len() < 3 {
        let page = feed.next().await.unwrap().unwrap();
        found.extend(
            page.entries
                .into_iter()
                .map(|(stream, entry)| (stream, entry.seq)),
        );
    }
    let stream = StreamId::Relay(lake());
    assert_eq!(found, [1, 2, 5].map(|seq| (stream.clone(), Seq(seq))));
}

pub(super) async fn what_a_relay_may_not_report_is_refused(journal: Arc<dyn Journal>) {
    record(&journal, refuse("t/value/rate", 1)).await.unwrap();
    record(&journal, redelivered(1)).await.unwrap();
    let rejected = async |report: RelayCommand| match record(&journal, report.clone()).await {
        Err(JournalError::Rejected(rejection)) => rejection,
        other => panic!("{report:?}: {other:?}"),
    };
    for about in ["u/value/rate", "t/relay/own/x"] {
        for report in [refuse(about, 1), receipt(about, 1)] {
            let refused = rejected(report).await;
            assert!(
                matches!(
                    refused,
                    Rejection::Invalid {
                        field: Field::Stream,
                        ..
                    }
                ),
                "{refused:?}"
            );
        }
    }
    let (refusal, seq) = (Seq(1), Seq(2));
    assert_eq!(
        rejected(redelivered(1)).await,
        Rejection::Redelivered { refusal, seq }
    );
    for unknown in [0, 2, 99, u64::MAX] {
        let name = Some(unknown.to_string());
        let what = Missing::Refusal;
        assert_eq!(
            rejected(redelivered(unknown)).await,
            Rejection::NotFound { what, name }
        );
    }
    let invalid = |field| move |refused: &Rejection| matches!(refused, Rejection::Invalid { field: found, .. } if *found == field);
    assert!(invalid(Field::Entry)(&rejected(refuse("t/value/rate", 0)).await));
    assert!(invalid(Field::Entry)(
        &rejected(receipt("t/value/rate", u64::MAX)).await
    ));
    assert_eq!(entries(&journal).await.len(), 2, "nothing is written");
}

pub(super) async fn the_reason_of_a_refusal_is_read_and_erased(journal: Arc<dyn Journal>) {
    record(&journal, refuse("t/value/rate", 1)).await.unwrap();
    let stream = StreamId::Relay(lake());
    let erasure = Erasure {
        entries: vec![Seq(1)],
        reason: "asked for".to_owned(),
    };
    let said = journal
        .erase(&stream, Command::new(journal.request_id(), erasure))
        .await
        .unwrap();
    assert_eq!(said, Seq(2));
    journal.finish_erasures(&stream).await.unwrap();
    let entries = entries(&journal).await;
    let EntryBody::RelayRefused(refused) = &entries[0].body else {
        panic!("{:?}", entries[0]);
    };
    assert_eq!(refused.reason, tape_core::payload::ERASED);
    assert_eq!(
        refused.entry.stream.to_string(),
        "t/value/rate",
        "the refusal stays"
    );
    assert!(matches!(
        entries.last().unwrap().body,
        EntryBody::ErasureFinished(_)
    ));
    assert_eq!(
        record(&journal, refuse("t/value/rate", 1)).await.unwrap().seq,
        Seq(1)
    );
}
