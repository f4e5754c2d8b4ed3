//! Bad input for every call: a typed error that names the cause, and nothing is written.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;
#[path = "harness/raw.rs"]
mod raw_bytes;

use harness::{Driver, Runs, Server, all_tenants, begin, checkpoint, context, execute, read, request, run};
use raw_bytes::Raw;
use std::time::Duration;
use tape_core::command::RunCommand;
use tape_core::id::Epoch;
use tape_core::reply::{Missing, Rejection};
use tape_proto::convert::RunCall;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::feed_service_client::FeedServiceClient;
use tape_proto::v1::session_service_client::SessionServiceClient;
use tape_proto::v1::stream_service_client::StreamServiceClient;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// The command of a driver.
fn drive(call: RunCall) -> v1::DriveRequest {
    match call {
        RunCall::Drive(request) => request,
        other => panic!("{other:?} is no driver's"),
    }
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
        start: v1::tail_request::Start::Beginning.into(),
        tenants: all_tenants(),
        once: true,
        ..Default::default()
    };
    let mut pages = FeedServiceClient::new(channel)
        .tail(all)
        .await
        .unwrap()
        .into_inner();
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
    let mut runs = Runs::new(channel.clone());
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
    let command = Some(v1::DriveRequest {
        run: bad_run(),
        ..drive(request(&there, begin(&there, 1, false)))
    });
    let bad = v1::DriveOnceRequest { command };
    assert_eq!(field(runs.drive_once(bad).await), "command.run.tenant");
    assert_eq!(field(runs.read_run(v1::ReadRunRequest::default()).await), "run");
    assert_eq!(
        field(
            runs.get_run(v1::GetRunRequest {
                run: bad_run(),
                only: None
            })
            .await
        ),
        "run.tenant"
    );
    let list = |statuses: &[i32]| v1::ListRunsRequest {
        filter: Some(v1::RunFilter {
            tenant: "acme".into(),
            statuses: statuses.to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(field(runs.list_runs(list(&[1, 99])).await), "filter.statuses");
    let lost = v1::ListRunsRequest {
        page_token: "-1".into(),
        ..list(&[])
    };
    assert_eq!(field(runs.list_runs(lost).await), "page_token");

    let mut sessions = SessionServiceClient::new(channel.clone());
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
        field(sessions.create_session(v1::CreateSessionRequest::default()).await),
        "session"
    );
    let append = v1::AppendEventRequest {
        session: session(),
        context: context(),
        ..Default::default()
    };
    assert_eq!(field(sessions.append_event(append).await), "event_id");
    assert_eq!(
        field(sessions.get_session(v1::GetSessionRequest::default()).await),
        "session"
    );
    let rewind = v1::RewindSessionRequest {
        session: session(),
        ..Default::default()
    };
    assert_eq!(field(sessions.rewind_session(rewind).await), "context");
    assert_eq!(
        field(sessions.delete_session(v1::DeleteSessionRequest::default()).await),
        "context"
    );

    let mut values = ValueServiceClient::new(channel.clone());
    let value_id = || {
        Some(v1::ValueId {
            tenant: "acme".into(),
            name: "rate".into(),
        })
    };
    let put = v1::PutValueRequest {
        value_id: value_id(),
        context: context(),
        ..Default::default()
    };
    assert_eq!(field(values.put_value(put).await), "value");
    assert_eq!(
        field(values.delete_value(v1::DeleteValueRequest::default()).await),
        "value_id"
    );
    assert_eq!(
        field(values.get_value(v1::GetValueRequest::default()).await),
        "value_id"
    );
    assert_eq!(
        field(values.watch_value(v1::WatchValueRequest::default()).await),
        "value_id"
    );

    let mut feed = FeedServiceClient::new(channel.clone());
    assert_eq!(field(feed.tail(v1::TailRequest::default()).await), "tenants");
    let tail = v1::TailRequest {
        tenants: all_tenants(),
        ..Default::default()
    };
    assert_eq!(field(feed.tail(tail.clone()).await), "start");
    let tail = v1::TailRequest {
        pattern: "a..b".into(),
        start: 1,
        ..tail
    };
    assert_eq!(field(feed.tail(tail).await), "pattern");
    let mut work = WorkServiceClient::new(channel.clone());
    assert_eq!(field(work.list_due(v1::ListDueRequest::default()).await), "queue");
    let watch = v1::WatchDueRequest {
        queue: 1,
        ..Default::default()
    };
    assert_eq!(field(work.watch_due(watch.clone()).await), "tenants");
    let watch = v1::WatchDueRequest {
        tenants: all_tenants(),
        repeat_ms: 1,
        ..watch
    };
    assert_eq!(field(work.watch_due(watch).await), "repeat_ms");
    let mut streams = StreamServiceClient::new(channel.clone());
    let nowhere = v1::EraseEntriesRequest {
        stream: Some(v1::StreamId::default()),
        seqs: vec![1],
        ..Default::default()
    };
    assert_eq!(field(streams.erase_entries(nowhere).await), "stream.kind");

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
    let nameless = v1::DriveRequest {
        run: None,
        ..drive(request(&run, begin(&run, 1, false)))
    };
    driver.send(RunCall::Drive(nameless)).await;
    let (_, refused) = driver.receive().await.unwrap().unwrap();
    let Failure::Invalid(field) = refused.unwrap_err() else {
        panic!("a field is wrong")
    };
    assert_eq!(field.path, "run");
    let mut large = drive(request(&run, RunCommand::Drive(Epoch(1), checkpoint(1))));
    if let Some(v1::drive_request::Command::Checkpoint(checkpoint)) = &mut large.command {
        checkpoint.state.as_mut().unwrap().data = vec![0; 1024 * 1024 + 1].into();
    }
    driver.send(RunCall::Drive(large)).await;
    let (_, refused) = driver.receive().await.unwrap().unwrap();
    let Failure::Invalid(field) = refused.unwrap_err() else {
        panic!("a field is wrong")
    };
    assert_eq!(field.path, "checkpoint.state.data");
    driver.drive(&run, Epoch(1), checkpoint(1)).await.unwrap();
    assert_eq!(read(&mut server.runs().await, &run, 0).await.len(), 3);
}

async fn raw(channel: Channel, bytes: Vec<u8>) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = "/tape.v1.RunService/CancelRun".parse().unwrap();
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
    assert_eq!(too_large.code(), Code::InvalidArgument, "{too_large:?}");
    assert!(too_large.message().contains("4194304"), "{too_large:?}");
    assert!(everything(channel).await.is_empty());
}

/// Calls a method and sends no request.
async fn silent(channel: Channel) {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let never = tonic::Request::new(tokio_stream::pending::<Vec<u8>>());
    let path = "/tape.v1.RunService/GetRun".parse().unwrap();
    let told = grpc.client_streaming(never, path, Raw).await.map(drop);
    panic!("it is answered: {told:?}");
}

#[tokio::test]
async fn calls_that_send_no_request_hold_up_no_other_caller() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (mut runs, there) = (server.runs().await, run("there"));
    execute(&mut runs, request(&there, begin(&there, 60_000, false)))
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let channel = server.connect().await;
        for _ in 0..40 {
            calls.spawn(silent(channel.clone()));
        }
    }
    // All of them are under way by then, and none is over.
    let early = tokio::time::timeout(Duration::from_secs(1), calls.join_next()).await;
    assert!(early.is_err(), "{early:?}");
    let get = v1::GetRunRequest {
        run: Some(there.into()),
        only: None,
    };
    let got = tokio::time::timeout(Duration::from_secs(10), runs.get_run(get)).await;
    got.expect("it waits for none of them").unwrap();
}
