//! Values, sessions and the feed over the wire, against the real binary.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Runs, Server, all_tenants, begin, checkpoint, context, execute, request, run};
use std::collections::{BTreeMap, HashMap};
use tape_core::command::RunCommand;
use tape_core::id::{Epoch, StreamId};
use tape_core::reply::{Missing, Rejection};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::feed_service_client::FeedServiceClient;
use tape_proto::v1::session_service_client::SessionServiceClient;
use tape_proto::v1::stream_service_client::StreamServiceClient;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tonic::transport::Channel;

fn value_id() -> Option<v1::ValueId> {
    Some(v1::ValueId {
        tenant: "acme".into(),
        name: "rate".into(),
    })
}

fn text(text: &str) -> Option<v1::Payload> {
    Some(v1::Payload {
        content_type: "text/plain".into(),
        data: text.to_owned().into(),
    })
}

/// Raises a counter by compare-and-set, as often as others let it.
async fn count_up(mut values: ValueServiceClient<Channel>, rounds: u32) -> u32 {
    let mut won = 0;
    for _ in 0..rounds {
        let now = values
            .get_value(v1::GetValueRequest { value_id: value_id() })
            .await
            .unwrap()
            .into_inner();
        let put = v1::PutValueRequest {
            value_id: value_id(),
            context: context(),
            value: text(&(now.version + 1).to_string()),
            expected_version: Some(now.version),
        };
        match values
            .put_value(put)
            .await
            .map_err(|status| Failure::from(&status))
        {
            Ok(reply) => {
                assert_eq!(reply.into_inner().version, now.version + 1);
                won += 1;
            }
            Err(Failure::Rejected(Rejection::VersionConflict { .. })) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    won
}

#[tokio::test]
async fn a_watcher_sees_each_transition_once_and_in_order_under_64_writers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let values = ValueServiceClient::new(server.connect().await);
    let watch = v1::WatchValueRequest {
        value_id: value_id(),
        after_version: 0,
    };
    let mut watched = values
        .clone()
        .watch_value(watch.clone())
        .await
        .unwrap()
        .into_inner();
    let writers: Vec<_> = (0..64)
        .map(|_| tokio::spawn(count_up(values.clone(), 4)))
        .collect();
    let mut won = 0;
    for writer in writers {
        won += u64::from(writer.await.unwrap());
    }
    assert!(won > 0);
    let delete = v1::DeleteValueRequest {
        value_id: value_id(),
        context: context(),
        ..Default::default()
    };
    let deleted = values
        .clone()
        .delete_value(delete)
        .await
        .unwrap()
        .into_inner()
        .version;
    assert_eq!(deleted, won + 1);
    let mut late = values.clone().watch_value(watch).await.unwrap().into_inner();
    for watched in [&mut watched, &mut late] {
        let mut previous = None;
        for version in 1..=won {
            let change = watched.message().await.unwrap().unwrap();
            assert_eq!(
                (change.version, &change.value),
                (version, &text(&version.to_string()))
            );
            assert_eq!(change.previous, previous);
            previous = change.value;
        }
        let change = watched.message().await.unwrap().unwrap();
        assert_eq!(
            (change.version, change.value, change.previous),
            (deleted, None, previous)
        );
    }
}

#[tokio::test]
async fn the_tail_is_complete_and_in_order_under_concurrent_writers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut feed = FeedServiceClient::new(server.connect().await);
    let tail = v1::TailRequest {
        pattern: "acme.run.>".into(),
        start: v1::tail_request::Start::Now.into(),
        tenants: all_tenants(),
        ..Default::default()
    };
    let mut followed = feed.tail(tail).await.unwrap().into_inner();
    // The tail begins at some time before this answer: only later entries are guaranteed.
    let channel = server.connect().await;
    let first = run("first");
    let begins = request(&first, begin(&first, 60_000, false));
    execute(&mut Runs::new(channel.clone()), begins).await.unwrap();
    let mut seen: HashMap<StreamId, u64> = HashMap::new();
    let writers: Vec<_> = (0..16)
        .map(|i| {
            let mut runs = Runs::new(channel.clone());
            tokio::spawn(async move {
                let run = run(&format!("w{i}"));
                execute(&mut runs, request(&run, begin(&run, 60_000, false)))
                    .await
                    .unwrap();
                for _ in 0..30 {
                    let body = RunCommand::Drive(Epoch(1), checkpoint(64));
                    execute(&mut runs, request(&run, body)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut cursors: BTreeMap<u32, v1::ShardCursor> = BTreeMap::new();
    while (0..16).any(|i| seen.get(&StreamId::Run(run(&format!("w{i}")))) != Some(&32)) {
        let page = followed.message().await.unwrap().unwrap();
        note(&mut seen, page.entries);
        let place = page.position.unwrap();
        cursors.insert(place.shard, place);
    }
    // From the beginning, a reader gets the same again and the rest; from the cursors, none of the earlier entries.
    let from_start = v1::TailRequest {
        pattern: ">".into(),
        start: v1::tail_request::Start::Beginning.into(),
        tenants: all_tenants(),
        once: true,
        ..Default::default()
    };
    let mut all = HashMap::new();
    let mut pages = feed.tail(from_start.clone()).await.unwrap().into_inner();
    while let Some(page) = pages.message().await.unwrap() {
        note(&mut all, page.entries);
    }
    assert_eq!(all.len(), 17);
    assert_eq!(all.values().sum::<u64>(), 16 * 32 + 2);
    let resumed = v1::TailRequest {
        cursors: cursors.into_values().collect(),
        tenants: Some(v1::Tenants {
            which: Some(v1::tenants::Which::Only("acme".into())),
        }),
        ..from_start
    };
    let mut pages = feed.tail(resumed).await.unwrap().into_inner();
    while let Some(page) = pages.message().await.unwrap() {
        for entry in page.entries {
            let stream = StreamId::try_from(entry.stream.unwrap()).unwrap();
            assert_eq!(
                stream,
                StreamId::Run(first.clone()),
                "it was seen before the cursor"
            );
        }
    }
}

/// Records the last entry of each stream; each entry must be the next one.
fn note(seen: &mut HashMap<StreamId, u64>, entries: Vec<v1::FeedEntry>) {
    for entry in entries {
        let stream = StreamId::try_from(entry.stream.unwrap()).unwrap();
        let last = seen.entry(stream).or_default();
        *last += 1;
        assert_eq!(entry.entry.unwrap().seq, *last);
    }
}

fn session() -> Option<v1::SessionId> {
    let name = |text: &str| text.to_owned();
    Some(v1::SessionId {
        tenant: name("acme"),
        app: name("desk"),
        user: name("ann"),
        session: name("s1"),
    })
}

fn append(event: &str, key: &str, json: &str) -> v1::AppendEventRequest {
    let set = [(key.to_owned(), json.to_owned())].into();
    v1::AppendEventRequest {
        session: session(),
        context: context(),
        event_id: event.into(),
        author: "user".into(),
        delta: Some(v1::Delta {
            set,
            removed: Vec::new(),
        }),
        content: text(event),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_session_keeps_events_and_state_and_can_be_rewound() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut sessions = SessionServiceClient::new(server.connect().await);
    let create = v1::CreateSessionRequest {
        session: session(),
        context: context(),
        ..Default::default()
    };
    assert_eq!(
        sessions
            .create_session(create.clone())
            .await
            .unwrap()
            .into_inner()
            .seq,
        1
    );
    assert_eq!(sessions.create_session(create).await.unwrap().into_inner().seq, 1);
    let first = sessions
        .append_event(append("e1", "mood", "1.50"))
        .await
        .unwrap()
        .into_inner()
        .seq;
    sessions
        .append_event(append("e2", "user:name", "\"Ann\""))
        .await
        .unwrap();
    sessions.append_event(append("e3", "mood", "2")).await.unwrap();

    let get = |events_max| v1::GetSessionRequest {
        session: session(),
        events_max,
        ..Default::default()
    };
    let now = sessions.get_session(get(2)).await.unwrap().into_inner();
    let state = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, json)| ((*key).to_owned(), (*json).to_owned()))
            .collect()
    };
    assert_eq!(now.state, state(&[("mood", "2"), ("user:name", "\"Ann\"")]));
    assert_eq!(contents(&now), ["e2", "e3"]);

    let rewind = v1::RewindSessionRequest {
        session: session(),
        context: context(),
        to_seq: first,
        ..Default::default()
    };
    let rewound = sessions
        .rewind_session(rewind.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        sessions.rewind_session(rewind).await.unwrap().into_inner(),
        rewound
    );
    sessions.append_event(append("e4", "mood", "4")).await.unwrap();
    let now = sessions.get_session(get(100)).await.unwrap().into_inner();
    assert_eq!(now.state, state(&[("mood", "4"), ("user:name", "\"Ann\"")]));
    assert_eq!(contents(&now), ["e1", "e4"]);
    assert_eq!(now.next_page_token, "");

    let mut entries = StreamServiceClient::new(server.connect().await);
    let stream = v1::StreamId {
        kind: session().map(v1::stream_id::Kind::Session),
    };
    let erase = v1::EraseEntriesRequest {
        stream: Some(stream),
        context: context(),
        seqs: vec![first],
        reason: "on request".into(),
    };
    let erased = entries.erase_entries(erase.clone()).await.unwrap().into_inner();
    assert_eq!(entries.erase_entries(erase).await.unwrap().into_inner(), erased);
    let now = sessions.get_session(get(100)).await.unwrap().into_inner();
    assert!(now.events[0].payload_erased && !now.events[1].payload_erased);

    let delete = v1::DeleteSessionRequest {
        session: session(),
        context: context(),
    };
    sessions.delete_session(delete).await.unwrap();
    let gone = Failure::from(&sessions.get_session(get(1)).await.unwrap_err());
    assert_eq!(gone, Rejection::not_found(Missing::Session).into());
}

fn contents(session: &v1::GetSessionResponse) -> Vec<String> {
    session
        .events
        .iter()
        .map(|event| event.payload.split(|byte| *byte == b'[').next().unwrap())
        .map(|content| String::from_utf8(content.to_vec()).unwrap())
        .collect()
}

/// A reader that loses the connection before the first entry knows where to continue, and misses nothing.
#[tokio::test]
async fn a_tail_says_at_once_where_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut feed = FeedServiceClient::new(server.connect().await);
    let tail = v1::TailRequest {
        pattern: ">".into(),
        start: v1::tail_request::Start::Now.into(),
        tenants: all_tenants(),
        ..Default::default()
    };
    let mut followed = feed.tail(tail.clone()).await.unwrap().into_inner();
    let first = followed.message().await.unwrap().unwrap();
    assert_eq!(first.entries, []);
    drop(followed);
    let run = run("i1");
    execute(
        &mut server.runs().await,
        request(&run, begin(&run, 60_000, false)),
    )
    .await
    .unwrap();
    let again = v1::TailRequest {
        cursors: first.position.into_iter().collect(),
        ..tail
    };
    let mut followed = feed.tail(again).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = followed.message().await.unwrap().unwrap().entries;
    }
    assert_eq!(seen[0].entry.as_ref().unwrap().seq, 1);
}
