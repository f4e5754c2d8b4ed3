//! Bad input for every call: a typed error that names the cause, and nothing is written.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;
#[path = "harness/raw.rs"]
mod raw_bytes;

use harness::{Driver, Server, begin, checkpoint, execute, read, request, run};
use prost::bytes::Bytes;
use raw_bytes::Raw;
use tape_core::command::RunCommand;
use tape_core::id::Epoch;
use tape_core::id::RequestId;
use tape_core::reply::{Missing, Rejection};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::entries_client::EntriesClient;
use tape_proto::v1::feed_client::FeedClient;
use tape_proto::v1::runs_client::RunsClient;
use tape_proto::v1::sessions_client::SessionsClient;
use tape_proto::v1::values_client::ValuesClient;
use tape_store::clock::{Clock as _, SystemClock};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

fn id() -> Bytes {
    let request = RequestId::new(SystemClock.now(), 7);
    Bytes::copy_from_slice(request.0.as_bytes())
}

/// The field that a call was refused for.
#[track_caller]
fn field<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> String {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    match Failure::from(&status) {
        Failure::Invalid(field) => field.path,
        other => panic!("{other:?}"),
    }
}

async fn everything(channel: Channel) -> Vec<v1::Entry> {
    let all = v1::TailRequest {
        pattern: ">".into(),
        from: v1::tail_request::From::Beginning.into(),
        once: true,
        ..Default::default()
    };
    let mut pages = FeedClient::new(channel).tail(all).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        entries.extend(page.entries.into_iter().map(|entry| entry.entry.unwrap()));
    }
    entries
}

#[tokio::test]
async fn every_call_refuses_bad_input_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let channel = server.connect().await;
    let mut runs = RunsClient::new(channel.clone());
    let there = run("there");
    execute(&mut runs, request(&there, begin(&there, 60_000, false)))
        .await
        .unwrap();
    let before = everything(channel.clone()).await;

    let bad_run = || {
        Some(v1::RunId {
            tenant: "x".repeat(201),
            ..there.clone().into()
        })
    };
    let bad = v1::ExecuteRequest {
        run: bad_run(),
        ..request(&there, begin(&there, 1, false))
    };
    assert_eq!(field(runs.execute(bad).await), "run.tenant");
    assert_eq!(field(runs.read(v1::ReadRequest::default()).await), "run");
    assert_eq!(
        field(
            runs.get(v1::GetRunRequest {
                run: bad_run(),
                only: None
            })
            .await
        ),
        "run.tenant"
    );
    let list = v1::ListRunsRequest {
        tenant: "acme".into(),
        status: 99,
        ..Default::default()
    };
    assert_eq!(field(runs.list(list.clone()).await), "status");
    assert_eq!(
        field(
            runs.list(v1::ListRunsRequest {
                status: 0,
                page_token: "-1".into(),
                ..list
            })
            .await
        ),
        "page_token"
    );

    let mut sessions = SessionsClient::new(channel.clone());
    let session = || {
        let name = || "n".to_owned();
        Some(v1::SessionId {
            tenant: name(),
            app: name(),
            user: name(),
            session: name(),
        })
    };
    assert_eq!(
        field(sessions.create(v1::CreateSessionRequest::default()).await),
        "session"
    );
    let append = v1::AppendEventRequest {
        session: session(),
        request_id: id(),
        ..Default::default()
    };
    assert_eq!(field(sessions.append(append).await), "event");
    assert_eq!(
        field(sessions.get(v1::GetSessionRequest::default()).await),
        "session"
    );
    let rewind = v1::RewindSessionRequest {
        session: session(),
        ..Default::default()
    };
    assert_eq!(field(sessions.rewind(rewind).await), "request_id");
    assert_eq!(
        field(sessions.delete(v1::DeleteSessionRequest::default()).await),
        "request_id"
    );

    let mut values = ValuesClient::new(channel.clone());
    let value_id = || {
        Some(v1::ValueId {
            tenant: "acme".into(),
            name: "rate".into(),
        })
    };
    let put = v1::PutValueRequest {
        value_id: value_id(),
        request_id: id(),
        ..Default::default()
    };
    assert_eq!(field(values.put(put).await), "value");
    assert_eq!(
        field(values.delete(v1::DeleteValueRequest::default()).await),
        "value_id"
    );
    assert_eq!(
        field(values.get(v1::GetValueRequest::default()).await),
        "value_id"
    );
    assert_eq!(
        field(values.watch(v1::WatchValueRequest::default()).await),
        "value_id"
    );

    let mut feed = FeedClient::new(channel.clone());
    assert_eq!(field(feed.tail(v1::TailRequest::default()).await), "from");
    let tail = v1::TailRequest {
        pattern: "a..b".into(),
        from: 1,
        ..Default::default()
    };
    assert_eq!(field(feed.tail(tail).await), "pattern");
    assert_eq!(
        field(
            feed.due(v1::DueRequest {
                limit: 1,
                ..Default::default()
            })
            .await
        ),
        "queue"
    );
    assert_eq!(
        field(
            feed.due(v1::DueRequest {
                queue: 1,
                repeat_ms: 1,
                ..Default::default()
            })
            .await
        ),
        "repeat_ms"
    );
    let mut entries = EntriesClient::new(channel.clone());
    assert_eq!(
        field(
            entries
                .erase(v1::EraseRequest {
                    stream: "nowhere".into(),
                    seqs: vec![1],
                    ..Default::default()
                })
                .await
        ),
        "stream"
    );

    // The rules' own refusals.
    let over = execute(
        &mut runs,
        request(&there, RunCommand::Drive(Epoch(9), checkpoint(1))),
    )
    .await;
    assert_eq!(
        over.unwrap_err(),
        Rejection::Fenced {
            given: Epoch(9),
            current: Epoch(1)
        }
        .into()
    );
    let nobody = run("nobody");
    let lost = execute(
        &mut runs,
        request(&nobody, RunCommand::Drive(Epoch(1), checkpoint(1))),
    )
    .await;
    assert_eq!(lost.unwrap_err(), Rejection::not_found(Missing::Run).into());
    assert_eq!(everything(channel).await, before);
}

#[tokio::test]
async fn a_bad_command_on_a_stream_is_its_own_affair() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut driver = Driver::open(server.connect().await).await;
    let run = run("i1");
    driver.ask(&run, begin(&run, 60_000, false)).await.unwrap();
    let nameless = v1::ExecuteRequest {
        run: None,
        ..request(&run, begin(&run, 1, false))
    };
    driver.send(nameless).await;
    let (_, refused) = driver.receive().await.unwrap().unwrap();
    let Failure::Invalid(field) = refused.unwrap_err() else {
        panic!("a field is wrong")
    };
    assert_eq!(field.path, "request.run");
    let mut large = request(&run, RunCommand::Drive(Epoch(1), checkpoint(1)));
    if let Some(v1::execute_request::Command::Drive(drive)) = &mut large.command
        && let Some(v1::drive::Command::Checkpoint(checkpoint)) = &mut drive.command
    {
        checkpoint.state.as_mut().unwrap().data = vec![0; 1024 * 1024 + 1].into();
    }
    driver.send(large).await;
    let (_, refused) = driver.receive().await.unwrap().unwrap();
    let Failure::Invalid(field) = refused.unwrap_err() else {
        panic!("a field is wrong")
    };
    assert_eq!(field.path, "request.drive.checkpoint.state.data");
    driver.drive(&run, Epoch(1), checkpoint(1)).await.unwrap();
    assert_eq!(read(&mut server.runs().await, &run, 0).await.len(), 3);
}

async fn raw(channel: Channel, bytes: Vec<u8>) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = "/tape.v1.Runs/Execute".parse().unwrap();
    grpc.unary(tonic::Request::new(bytes), path, Raw)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn bytes_that_are_no_message_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let channel = server.connect().await;
    // Field 1 (run), of length 3: field 1 (tenant), of length 1, a lone continuation byte.
    let not_utf8 = raw(channel.clone(), vec![0x0a, 0x03, 0x0a, 0x01, 0x80]).await;
    assert_eq!(not_utf8.code(), Code::InvalidArgument);
    assert!(
        not_utf8.message().contains("tenant") && not_utf8.message().contains("UTF-8"),
        "{not_utf8:?}"
    );
    let cut_off = raw(channel.clone(), vec![0x0a, 0x7f]).await;
    assert_eq!(cut_off.code(), Code::InvalidArgument, "{cut_off:?}");
    let too_large = raw(channel.clone(), vec![0; tape_proto::MESSAGE_BYTES_MAX + 1]).await;
    assert_eq!(too_large.code(), Code::OutOfRange, "{too_large:?}");
    assert!(too_large.message().contains("4194304"), "{too_large:?}");
    assert!(everything(channel).await.is_empty());
}
