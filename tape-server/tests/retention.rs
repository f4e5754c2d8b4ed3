//! Retention over the wire, against the real binary.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{Runs, Server, begin, execute, read, request, run, verified_kinds};
use tape_core::command::{DriverCommand, ExternalCommand, RunCommand};
use tape_core::entry::run::RunOutcome;
use tape_core::id::Epoch;
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, ReplyResult};
use tape_core::status::RunStatus;
use tape_proto::v1;
use tape_proto::v1::retention_service_client::RetentionServiceClient;
use tonic::Code;
use tonic::transport::Channel;

const HOUR_MS: u64 = 3_600_000;
const RUNS: usize = 7;

/// Begins runs, and ends all but the last.
async fn ended(runs: &mut Runs) {
    for n in 0..RUNS {
        let run = run(&format!("i{n}"));
        execute(runs, request(&run, begin(&run, HOUR_MS, false)))
            .await
            .unwrap();
        let complete = DriverCommand::Complete {
            output: Payload::json(&serde_json::json!({ "n": n })),
        };
        if n + 1 < RUNS {
            let complete = RunCommand::Drive(Epoch(1), complete);
            execute(runs, request(&run, complete)).await.unwrap();
        }
    }
}

fn all(dry_run: bool) -> v1::RetireRunsRequest {
    v1::RetireRunsRequest {
        tenant: "acme".to_owned(),
        reason: "old".to_owned(),
        dry_run,
        page_size: 4,
        ..Default::default()
    }
}

/// All pages: how many runs and entries.
async fn retire(retention: &mut RetentionServiceClient<Channel>, first: v1::RetireRunsRequest) -> (u64, u64) {
    let (mut request, mut sum) = (first, (0, 0));
    loop {
        let page = retention.retire_runs(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.left, []);
        sum = (sum.0 + page.runs, sum.1 + page.entries);
        if page.next_page_token.is_empty() {
            return sum;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn what_ended_is_retired_page_by_page_and_stays_as_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    ended(&mut runs).await;
    let mut retention = RetentionServiceClient::new(server.connect().await);
    let young = v1::RetireRunsRequest {
        older_than_ms: HOUR_MS,
        ..all(false)
    };
    assert_eq!(retire(&mut retention, young).await, (0, 0));
    let ended = RUNS as u64 - 1;
    assert_eq!(retire(&mut retention, all(true)).await, (ended, ended * 3));
    assert_eq!(retire(&mut retention, all(false)).await, (ended, ended * 3));
    assert_eq!(retire(&mut retention, all(false)).await, (0, 0));
    while retention
        .reclaim_space(v1::ReclaimSpaceRequest {})
        .await
        .unwrap()
        .into_inner()
        .more
    {}
    for n in 0..RUNS - 1 {
        let run = run(&format!("i{n}"));
        let entries = read(&mut runs, &run, 0).await;
        assert_eq!(entries[0].seq, 4);
        assert_eq!(verified_kinds(&run, &entries), ["run.retired"]);
        let again = execute(&mut runs, request(&run, begin(&run, HOUR_MS, false))).await;
        let ending = RunOutcome::Completed;
        assert_eq!(again.unwrap().result, ReplyResult::Ended { ending });
        let got = runs
            .get_run(v1::GetRunRequest {
                run: Some(run.into()),
                only: None,
            })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(got.head_seq, 4);
        assert_eq!(got.summary.unwrap().labels["desk"], "rates");
    }
    // An open run is unchanged, and cannot be retired.
    let last = run(&format!("i{}", RUNS - 1));
    assert_eq!(read(&mut runs, &last, 0).await.len(), 2);
    let retire = RunCommand::External(ExternalCommand::Retire {
        reason: "old".to_owned(),
        last: None,
        ended: None,
    });
    let refused = execute(&mut runs, request(&last, retire)).await.unwrap_err();
    let status = RunStatus::Running;
    assert_eq!(refused, Rejection::NotEnded { status }.into());
}

/// A single run can be retired earlier; its entries are dropped when retention reaches it.
#[tokio::test]
async fn a_run_that_is_retired_alone_is_dropped_by_the_next_retention() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    ended(&mut runs).await;
    let run = run("i0");
    let retired = RunCommand::External(ExternalCommand::Retire {
        reason: "on request".to_owned(),
        last: None,
        ended: None,
    });
    let reply = execute(&mut runs, request(&run, retired)).await.unwrap();
    assert_eq!(reply.seq.0, 4);
    assert_eq!(read(&mut runs, &run, 0).await.len(), 4);
    let mut retention = RetentionServiceClient::new(server.connect().await);
    let ended = RUNS as u64 - 1;
    assert_eq!(retire(&mut retention, all(false)).await, (ended, ended * 3));
    assert_eq!(read(&mut runs, &run, 0).await.len(), 1);
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    ended(&mut runs).await;
    let mut retention = RetentionServiceClient::new(server.connect().await);
    for (bad, field) in [
        (
            v1::RetireRunsRequest {
                tenant: String::new(),
                ..all(false)
            },
            "tenant",
        ),
        (
            v1::RetireRunsRequest {
                reason: String::new(),
                ..all(false)
            },
            "reason",
        ),
        (
            v1::RetireRunsRequest {
                reason: "x".repeat(8_193),
                ..all(false)
            },
            "reason",
        ),
        (
            v1::RetireRunsRequest {
                reason: String::new(),
                page_token: "nonsense".to_owned(),
                ..all(false)
            },
            "reason",
        ),
        (
            v1::RetireRunsRequest {
                page_token: "nonsense".to_owned(),
                ..all(false)
            },
            "page_token",
        ),
    ] {
        let refused = retention.retire_runs(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{refused}");
    }
    for n in 0..RUNS - 1 {
        assert_eq!(read(&mut runs, &run(&format!("i{n}")), 0).await.len(), 3);
    }
}
