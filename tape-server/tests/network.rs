//! A server on a network: silent peers, too large messages, and pages that would be too large.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Driver, Server, begin, checkpoint, execute, request, run};
use std::collections::BTreeMap;
use std::net::TcpStream;
use tape_core::command::{Create, DriverCommand, RunCommand};
use tape_core::id::Epoch;
use tape_core::payload::Payload;
use tape_proto::convert::RunCall;
use tape_proto::failure::Failure;
use tape_proto::v1;

#[tokio::test]
async fn one_bad_message_costs_the_others_of_its_stream_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut driver = Driver::open(server.connect().await).await;
    let driven = run("driven");
    driver.ask(&driven, begin(&driven, 60_000, false)).await.unwrap();
    let error = "x".repeat(5 << 20);
    let fail = RunCommand::Drive(Epoch(1), DriverCommand::Fail { error });
    let large = request(&run("other"), fail);
    let RunCall::Drive(known) = request(&driven, begin(&driven, 60_000, false)) else {
        panic!("it is a driver's");
    };
    let unknown = RunCall::Drive(v1::DriveRequest {
        command: None,
        ..known
    });
    let good = request(&driven, RunCommand::Drive(Epoch(1), checkpoint(10)));
    let large = driver.send(large).await;
    let unknown = driver.send(unknown).await;
    let good = driver.send(good).await;
    let mut answers = BTreeMap::new();
    while answers.len() < 3 {
        let (call, outcome) = driver.receive().await.unwrap().expect("the stream is open");
        answers.insert(call, outcome);
    }
    for bad in [large, unknown] {
        assert!(matches!(answers[&bad], Err(Failure::Invalid(_))), "{answers:?}");
    }
    answers[&good].as_ref().unwrap();
    driver.drive(&driven, Epoch(1), checkpoint(10)).await.unwrap();
}

#[tokio::test]
async fn mute_peers_keep_no_client_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--max-connections", "8"]);
    let address = server.url().trim_start_matches("http://").to_owned();
    let first = run("first");
    let mut runs = server.runs().await;
    execute(&mut runs, request(&first, begin(&first, 60_000, false)))
        .await
        .unwrap();
    let _mute: Vec<_> = (0..20).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let second = run("second");
    execute(
        &mut server.runs().await,
        request(&second, begin(&second, 60_000, false)),
    )
    .await
    .unwrap();
    let go_on = RunCommand::Drive(Epoch(1), checkpoint(1));
    execute(&mut runs, request(&first, go_on)).await.unwrap();
}

#[tokio::test]
async fn pages_of_runs_with_long_labels_fit_messages() {
    const RUNS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    for n in 0..RUNS {
        let run = run(&format!("i{n}"));
        let RunCommand::Begin(mut begin) = begin(&run, 60_000, false) else {
            unreachable!("it begins")
        };
        let label = |n| (format!("label{n}").parse().unwrap(), "x".repeat(8_000));
        begin.create = Some(Create {
            labels: (0..32).map(label).collect(),
            input: Payload::empty(),
            forked_from: None,
        });
        execute(&mut runs, request(&run, RunCommand::Begin(begin)))
            .await
            .unwrap();
        let complete = DriverCommand::Complete {
            output: Payload::empty(),
        };
        execute(&mut runs, request(&run, RunCommand::Drive(Epoch(1), complete)))
            .await
            .unwrap();
    }
    let (mut found, mut page_token) = (0, String::new());
    loop {
        let query = v1::ListRunsRequest {
            filter: Some(v1::RunFilter {
                tenant: "acme".into(),
                ..Default::default()
            }),
            page_size: 100,
            page_token,
        };
        let page = runs.list_runs(query).await.unwrap().into_inner();
        assert!(!page.runs.is_empty());
        found += page.runs.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, RUNS);
}
