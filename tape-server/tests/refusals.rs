//! Every refusal of a server says its reason, also where the transport refuses the call.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;
#[path = "harness/raw.rs"]
mod raw_bytes;

use harness::{Driver, Server, begin, execute, request, run};
use prost::Message as _;
use raw_bytes::Raw;
use std::path::Path;
use tape_proto::failure::{ERROR_DOMAIN, Failure};
use tape_proto::v1;
use tape_proto::v1::server_service_client::ServerServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Calls a method with bytes, said to be compressed or not. Returns the refusal.
async fn refused(channel: &Channel, path: &str, bytes: &[u8], compressed: bool) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(bytes.to_vec());
    if compressed {
        request
            .metadata_mut()
            .insert("grpc-encoding", "gzip".parse().unwrap());
    }
    grpc.unary(request, path.parse().unwrap(), Raw).await.unwrap_err()
}

/// The reason of a refusal.
#[track_caller]
fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("it has no details: {status:?}"));
    assert_eq!(info.domain, ERROR_DOMAIN, "{status:?}");
    info.reason
}

#[tokio::test]
async fn the_transport_says_why_it_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let channel = server.connect().await;
    for path in [
        "/tape.v1.RunService/Fork",
        "/tape.v9.RunService/GetRun",
        "/nothing/at.all",
    ] {
        let status = refused(&channel, path, &[], false).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unimplemented, "UNKNOWN_METHOD")
        );
        assert_eq!(Failure::from(&status), Failure::UnknownMethod(path.to_owned()));
    }
    let large = vec![0; tape_proto::MESSAGE_BYTES_MAX + 1];
    let unread: [(&[u8], bool); 4] = [
        (&large, false),
        (&[0x0a, 0x7f], false),
        (&[0xff; 9], false),
        (&[0; 64], true),
    ];
    for (bytes, compressed) in unread {
        for path in [
            "/tape.v1.RunService/GetRun",
            "/tape.v1.RunService/ReadRun",
            "/tape.v1.ValueService/PutValue",
        ] {
            let status = refused(&channel, path, bytes, compressed).await;
            let told = (status.code(), reason(&status));
            assert_eq!(
                told,
                (Code::InvalidArgument, "INVALID_FIELD".to_owned()),
                "{path}: {status:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_with_no_version_in_common_is_told_which_side_to_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut service = ServerServiceClient::new(server.connect().await);
    let range = |first, last| Some(v1::VersionRange { first, last });
    let client = |contract, entries| v1::NegotiateRequest {
        client: "some-client/0.9".to_owned(),
        contract,
        entries,
    };
    let agreed = service
        .negotiate(client(range(1, 9), range(1, 9)))
        .await
        .unwrap()
        .into_inner();
    assert!(agreed.server.starts_with("tape-server/"), "{agreed:?}");
    for (contract, entries, what, side) in [
        (range(2, 9), range(1, 9), "contract", "server"),
        (range(1, 1), range(1, 1), "entries", "client"),
        (range(1, 1), range(3, 9), "entries", "server"),
    ] {
        let status = service.negotiate(client(contract, entries)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "VERSION_MISMATCH")
        );
        let info = status.get_details_error_info().unwrap().metadata;
        assert_eq!((info["what"].as_str(), info["upgrade"].as_str()), (what, side));
        assert_eq!(info["client"], "some-client/0.9");
    }
    for wrong in [
        client(None, range(1, 1)),
        client(range(0, 1), range(1, 1)),
        client(range(1, 1), range(3, 2)),
        v1::NegotiateRequest {
            client: String::new(),
            ..client(range(1, 1), range(1, 1))
        },
    ] {
        let status = service.negotiate(wrong).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELD");
    }
}

/// Each path leads from the request to the field, through a command that is in a field of another.
#[tokio::test]
async fn a_refusal_names_the_path_of_the_field_in_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let channel = server.connect().await;
    let key = v1::GetBusinessKeyRequest {
        business_key: Some(v1::BusinessKeyId {
            tenant: "acme".to_owned(),
            connector: "bank".to_owned(),
            key: String::new(),
        }),
    };
    let without_run = v1::DriveOnceRequest {
        command: Some(v1::DriveRequest::default()),
    };
    let first = v1::NegotiateRequest {
        client: "some-client/0.9".to_owned(),
        contract: Some(v1::VersionRange { first: 0, last: 1 }),
        entries: None,
    };
    for (method, bytes, path) in [
        (
            "RunService/GetBusinessKey",
            key.encode_to_vec(),
            "business_key.key",
        ),
        ("RunService/DriveOnce", without_run.encode_to_vec(), "command.run"),
        ("RunService/DriveOnce", Vec::new(), "command"),
        ("ServerService/Negotiate", first.encode_to_vec(), "contract.first"),
    ] {
        let status = refused(&channel, &format!("/tape.v1.{method}"), &bytes, false).await;
        assert_eq!(reason(&status), "INVALID_FIELD", "{method}");
        let metadata = status.get_details_error_info().unwrap().metadata;
        assert_eq!(metadata["field"], path, "{method}: {status:?}");
    }
}

#[tokio::test]
async fn clients_that_are_refused_again_and_again_have_one_line_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, store) = (dir.path().join("log"), dir.path().join("tape.db"));
    let mut command = harness::binary();
    command.stderr(std::fs::File::create(&log).unwrap());
    let server = Server::start_by(command, &format!("sqlite:{}", store.display()), &[]);
    let mut service = ServerServiceClient::new(server.connect().await);
    for n in 0..50 {
        let range = Some(v1::VersionRange { first: 9, last: 9 });
        let client = v1::NegotiateRequest {
            client: format!("old-client/{n}"),
            contract: range,
            entries: range,
        };
        let status = service.negotiate(client).await.unwrap_err();
        assert_eq!(reason(&status), "VERSION_MISMATCH");
    }
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("a client is refused").count(), 1, "{log}");
}

/// Over both ways to a run: as a call of its own, and on a stream.
#[tokio::test]
async fn a_refusal_says_when_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (mut runs, run) = (server.runs().await, run("held"));
    execute(&mut runs, request(&run, begin(&run, 3_600_000, false)))
        .await
        .unwrap();
    let tape_proto::convert::RunCall::Drive(recovers) = request(&run, begin(&run, 60_000, true)) else {
        panic!("it is a driver's");
    };
    let once = v1::DriveOnceRequest {
        command: Some(recovers.clone()),
    };
    let status = runs.drive_once(once).await.unwrap_err();
    assert_eq!(reason(&status), "LEASE_HELD");
    let wait = status
        .get_details_retry_info()
        .unwrap()
        .retry_delay
        .unwrap()
        .as_secs();
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    let mut driver = Driver::open(server.connect().await).await;
    driver.send(tape_proto::convert::RunCall::Drive(recovers)).await;
    let wait_ms = driver.refusal().await.retry_after_ms.unwrap();
    assert!((3_000_000..=3_600_000).contains(&wait_ms), "{wait_ms}");
}

/// A status that is made elsewhere than from a failure of the contract would have no reason.
#[test]
fn no_status_is_made_but_from_a_failure() {
    fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 20, "the sources were found");
    let codes = [
        "aborted",
        "already_exists",
        "cancelled",
        "data_loss",
        "deadline_exceeded",
        "failed_precondition",
        "internal",
        "invalid_argument",
        "new",
        "not_found",
        "ok",
        "out_of_range",
        "permission_denied",
        "resource_exhausted",
        "unauthenticated",
        "unavailable",
        "unimplemented",
        "unknown",
        "with_details",
    ];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for made in codes.map(|code| format!("Status::{code}(")) {
            assert!(
                !code.contains(&made),
                "{} makes a status by {made}",
                file.display()
            );
        }
    }
}
