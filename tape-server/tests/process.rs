//! The server as a process: how it starts, reports its health, and stops.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Driver, Server, begin, binary, checkpoint, execute, read, request, run};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use tape_core::command::RunCommand;
use tape_core::id::Epoch;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn health_and_reflection_speak_of_every_service() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let channel = server.connect().await;
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(Request::new(tokio_stream::iter([ask])))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let services: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    let mut health = HealthClient::new(channel);
    let own: Vec<_> = services
        .into_iter()
        .filter(|name| name.starts_with("tape.v1."))
        .collect();
    assert_eq!(own.len(), 9, "{own:?}");
    for service in own {
        let check = health
            .check(HealthCheckRequest { service })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(check.status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_is_under_way_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let run = run("i1");
    let mut driver = Driver::open(server.connect().await).await;
    driver.ask(&run, begin(&run, 60_000, false)).await.unwrap();
    let mut runs = server.runs().await;
    let follow = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        follow: true,
        after_seq: 2,
        limit: 0,
    };
    let mut followed = runs.read_run(follow).await.unwrap().into_inner();
    let mut health = HealthClient::new(server.connect().await)
        .watch(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        health.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );

    let mut sent = 0;
    for _ in 0..20 {
        sent = driver
            .send(request(&run, RunCommand::Drive(Epoch(1), checkpoint(10))))
            .await;
    }
    // The first command is answered, so the others have arrived too, or are under way.
    assert!(driver.receive().await.unwrap().unwrap().1.is_ok());
    server.terminate();
    assert_eq!(
        health.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );

    let mut acknowledged = 1;
    let end = loop {
        match driver.receive().await {
            Ok(Some((call, outcome))) => {
                assert!(call <= sent);
                outcome.unwrap();
                acknowledged += 1;
            }
            Ok(None) => panic!("the stream ends with a reason"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(end, Failure::Draining);
    let end = loop {
        match followed.message().await {
            Ok(page) => assert!(page.is_some(), "the stream ends with a reason"),
            Err(status) => break Failure::from(&status),
        }
    };
    assert_eq!(end, Failure::Draining);
    let refused = execute(&mut runs, request(&run, begin(&run, 60_000, false)))
        .await
        .unwrap_err();
    // The stream ends with the reason, or is cut off where the connection had closed by then.
    use tonic::Code::{Cancelled, Unavailable, Unknown};
    assert!(
        matches!(refused.code(), Unavailable | Unknown | Cancelled),
        "{refused:?}"
    );
    assert_eq!(server.exit_code(), Some(0));

    // Acknowledged entries are there, and the driver kept its lease and continues with it.
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    let entries = read(&mut runs, &run, 2).await;
    assert!(
        entries.len() >= acknowledged,
        "{} of {acknowledged}",
        entries.len()
    );
    let mut driver = Driver::open(server.connect().await).await;
    driver.drive(&run, Epoch(1), checkpoint(1)).await.unwrap();
}

#[test]
fn it_refuses_to_be_reached_from_outside_unless_told_so() {
    let refused = binary()
        .args(["--store", "memory:", "--listen", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        text.contains("0.0.0.0:0") && text.contains("--insecure"),
        "{text}"
    );
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_no_in_the_environment_is_a_no() {
    let start = |insecure: &str| {
        let refused = binary()
            .args(["--store", "memory:", "--listen", "0.0.0.0:0"])
            .env("TAPE_INSECURE", insecure)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2), "{insecure}");
        String::from_utf8(refused.stderr).unwrap()
    };
    for no in ["0", "false", "no"] {
        let text = start(no);
        assert!(text.contains("refusing to listen on 0.0.0.0:0"), "{no}: {text}");
    }
    let text = start("perhaps");
    assert!(
        text.contains("'perhaps'") && text.contains("--insecure"),
        "{text}"
    );
}

/// Templates set variables without a value like this.
#[test]
fn variables_that_are_empty_are_none() {
    let empty = [
        "TAPE_INSECURE",
        "TAPE_MAX_STREAMS",
        "TAPE_DRAIN_MS",
        "TAPE_READY_FILE",
        "TAPE_LOG",
    ];
    let mut server = binary()
        .args(["--store", "memory:", "--listen", "127.0.0.1:0"])
        .envs(empty.map(|name| (name, "")))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(
        ready.starts_with("tape-server listening on 127.0.0.1:"),
        "{ready}"
    );
}

#[test]
fn a_log_that_is_no_terminal_has_no_colours() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut server = binary()
        .args(["--store", "memory:", "--listen", "127.0.0.1:0", "--log", "info"])
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let ended = std::process::Command::new("kill")
        .args(["-TERM", &server.id().to_string()])
        .status();
    assert!(ended.unwrap().success());
    server.wait().unwrap();
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains("SIGTERM"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn told_so_it_listens_beyond_loopback_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let server = Server::start_with(
        dir.path(),
        &[
            "--listen",
            "0.0.0.0:0",
            "--insecure",
            "--ready-file",
            ready.to_str().unwrap(),
        ],
    );
    let address = std::fs::read_to_string(ready).unwrap();
    assert_eq!(format!("http://{}", address.trim()), server.url());
    assert!(!address.trim().ends_with(":0"));
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let failed = binary()
        .args(["--store", "cassette:x", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(text.contains("'cassette:'"), "{text}");
}
