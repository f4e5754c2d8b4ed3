//! Runs over the wire, against the real binary.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use harness::{
    Driver, Server, all_tenants, begin, begin_effect, checkpoint, decision, execute, read, request,
    request_as, run, verified_kinds,
};
use tape_core::command::{AttemptOutcome, DriverCommand, RunCommand};
use tape_core::effect::{Mode, Status};
use tape_core::entry::run::RunOutcome;
use tape_core::id::{EffectId, Epoch, Position, Scope, StreamId};
use tape_core::payload::Payload;
use tape_core::reply::{Rejection, ReplyResult};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::stream_service_client::StreamServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;
use tape_store::clock::{Clock as _, SystemClock};

const HOUR_MS: u64 = 3_600_000;

#[tokio::test]
async fn a_run_is_begun_driven_read_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    let mut driver = Driver::open(server.connect().await).await;
    let run = run("i1");
    let leased = driver.ask(&run, begin(&run, HOUR_MS, false)).await.unwrap();
    let ReplyResult::Leased { epoch, .. } = leased.result else {
        panic!("{leased:?}")
    };
    driver.drive(&run, epoch, decision(0)).await.unwrap();
    let begun = driver
        .drive(&run, epoch, begin_effect(0, Mode::Inline))
        .await
        .unwrap();
    assert_eq!(
        begun.result,
        ReplyResult::Effect {
            status: Status::Started,
            attempt: 1,
            until: None
        }
    );

    // A reader that follows from the start sees the present entries, then new ones.
    let follow = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        follow: true,
        ..Default::default()
    };
    let mut followed = runs.read_run(follow).await.unwrap().into_inner();
    let mut seen = followed.message().await.unwrap().unwrap().entries;
    assert_eq!(seen.len(), 4);
    let finish = DriverCommand::FinishEffect {
        effect: EffectId {
            position: Position {
                scope: Scope::root(),
                k: 0,
            },
            call: 0,
        },
        attempt: 1,
        ending: AttemptOutcome::Confirmed {
            result: Payload::empty(),
            undo: None,
            spent: None,
        },
    };
    driver.drive(&run, epoch, finish).await.unwrap();
    let ended = driver
        .drive(
            &run,
            epoch,
            DriverCommand::Complete {
                output: Payload::empty(),
            },
        )
        .await
        .unwrap();
    assert_eq!(
        ended.result,
        ReplyResult::Ended {
            ending: RunOutcome::Completed
        }
    );
    while seen.len() < 6 {
        seen.extend(followed.message().await.unwrap().unwrap().entries);
    }
    let kinds = [
        "run.begun",
        "lease.acquired",
        "decision.recorded",
        "effect.begun",
        "effect.confirmed",
        "run.completed",
    ];
    assert_eq!(verified_kinds(&run, &seen), kinds);
    assert_eq!(read(&mut runs, &run, 0).await, seen);
    assert_eq!(read(&mut runs, &run, 4).await, seen[4..]);

    let limited = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        after_seq: 2,
        limit: 1,
        follow: true,
    };
    let mut limited = runs.read_run(limited).await.unwrap().into_inner();
    assert_eq!(limited.message().await.unwrap().unwrap().entries, seen[2..3]);
    assert!(limited.message().await.unwrap().is_none());

    let view = runs
        .get_run(v1::GetRunRequest {
            run: Some(run.clone().into()),
            only: None,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((view.head_seq, view.head_digest), (6, seen[5].digest.clone()));
    assert_eq!(view.summary.unwrap().status(), v1::RunStatus::Completed);
    let by_label = |value: &str| v1::ListRunsRequest {
        filter: Some(v1::RunFilter {
            tenant: "acme".into(),
            label: Some(v1::run_filter::Label {
                key: "desk".into(),
                value: value.into(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let found = runs.list_runs(by_label("rates")).await.unwrap().into_inner().runs;
    assert_eq!(
        found
            .into_iter()
            .map(|summary| summary.run.unwrap())
            .collect::<Vec<_>>(),
        [run.into()]
    );
    assert!(
        runs.list_runs(by_label("fx"))
            .await
            .unwrap()
            .into_inner()
            .runs
            .is_empty()
    );
}

#[tokio::test]
async fn commands_of_many_runs_share_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut driver = Driver::open(server.connect().await).await;
    let names: Vec<_> = (0..64).map(|i| run(&format!("i{i}"))).collect();
    for run in &names {
        driver.send(request(run, begin(run, HOUR_MS, false))).await;
    }
    let mut answered = Vec::new();
    for _ in &names {
        let (call, reply) = driver.receive().await.unwrap().unwrap();
        assert_eq!(reply.unwrap().seq.0, 2);
        answered.push(call);
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=64).collect::<Vec<u64>>());
    // A refusal of one command does not affect others.
    let refused = driver
        .drive(&names[0], Epoch(9), checkpoint(1))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        Rejection::Fenced {
            given: Epoch(9),
            current: Epoch(1)
        }
        .into()
    );
    driver.drive(&names[1], Epoch(1), checkpoint(1)).await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_returns_its_first_outcome_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let run = run("i1");
    let begins = request_as(SystemClock.request_id(), &run, begin(&run, HOUR_MS, false));
    let records = request_as(
        SystemClock.request_id(),
        &run,
        RunCommand::Drive(Epoch(1), checkpoint(100)),
    );
    let mut runs = server.runs().await;
    let first = execute(&mut runs, begins.clone()).await.unwrap();
    let second = execute(&mut runs, records.clone()).await.unwrap();
    assert_eq!(execute(&mut runs, begins.clone()).await.unwrap(), first);
    let entries = read(&mut runs, &run, 0).await;

    server.kill();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    assert_eq!(execute(&mut runs, begins).await.unwrap(), first);
    assert_eq!(execute(&mut runs, records).await.unwrap(), second);
    assert_eq!(read(&mut runs, &run, 0).await, entries);
}

#[tokio::test]
async fn the_runs_of_a_dropped_connection_become_due_for_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (gone, finished, kept) = (run("gone"), run("finished"), run("kept"));
    let due = v1::WatchDueRequest {
        queue: v1::Queue::Recovery.into(),
        tenants: all_tenants(),
        hints_max: 10,
        ..Default::default()
    };
    let mut due = WorkServiceClient::new(server.connect().await)
        .watch_due(due)
        .await
        .unwrap()
        .into_inner();
    let mut driver = Driver::open(server.connect().await).await;
    let mut other = Driver::open(server.connect().await).await;
    for run in [&gone, &finished, &kept] {
        driver.ask(run, begin(run, HOUR_MS, false)).await.unwrap();
    }
    driver
        .drive(
            &finished,
            Epoch(1),
            DriverCommand::Complete {
                output: Payload::empty(),
            },
        )
        .await
        .unwrap();
    // The driver of this run has moved to another connection, with the same lease.
    other.drive(&kept, Epoch(1), checkpoint(1)).await.unwrap();
    drop(driver);

    let hints = due.message().await.unwrap().unwrap().hints;
    let streams: Vec<_> = hints.into_iter().map(|hint| hint.stream.unwrap()).collect();
    assert_eq!(streams, [StreamId::Run(gone.clone()).into()]);
    let mut runs = server.runs().await;
    let taken = execute(&mut runs, request(&gone, begin(&gone, HOUR_MS, true)))
        .await
        .unwrap();
    assert!(matches!(
        taken.result,
        ReplyResult::Leased { epoch: Epoch(2), .. }
    ));
    let refused = execute(&mut runs, request(&kept, begin(&kept, HOUR_MS, true)))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, Failure::Rejected(Rejection::LeaseHeld { .. })),
        "{refused:?}"
    );
    assert_eq!(
        verified_kinds(&gone, &read(&mut runs, &gone, 0).await),
        ["run.begun", "lease.acquired", "lease.released", "lease.acquired"]
    );
}

#[tokio::test]
async fn a_driver_that_closes_its_side_gets_its_answers_first() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut driver = Driver::open(server.connect().await).await;
    let run = run("i1");
    driver.send(request(&run, begin(&run, HOUR_MS, false))).await;
    driver.close();
    let (_, reply) = driver.receive().await.unwrap().expect("an answer, then the end");
    assert!(matches!(reply.unwrap().result, ReplyResult::Leased { .. }));
    assert!(driver.receive().await.unwrap().is_none());
}

#[tokio::test]
async fn a_long_journal_is_one_streamed_read() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut driver = Driver::open(server.connect().await).await;
    let run = run("long");
    driver.ask(&run, begin(&run, HOUR_MS, false)).await.unwrap();
    for _ in 0..40 {
        for _ in 0..50 {
            driver
                .send(request(&run, RunCommand::Drive(Epoch(1), checkpoint(512))))
                .await;
        }
        for _ in 0..50 {
            driver.receive().await.unwrap().unwrap().1.unwrap();
        }
    }
    let mut runs = server.runs().await;
    let request = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        ..Default::default()
    };
    let mut pages = runs.read_run(request).await.unwrap().into_inner();
    let (mut messages, mut entries) = (0, Vec::new());
    while let Some(page) = pages.message().await.unwrap() {
        messages += 1;
        entries.extend(page.entries);
    }
    assert_eq!(verified_kinds(&run, &entries).len(), 2_002);
    assert!(messages < 20, "{messages} messages");
}

/// As AIP-158 has it: zero is the usual size, and no page is larger than the largest.
#[tokio::test]
async fn pages_of_any_size_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut runs = server.runs().await;
    let run = run("i1");
    execute(&mut runs, request(&run, begin(&run, HOUR_MS, false)))
        .await
        .unwrap();
    let mut work = WorkServiceClient::new(server.connect().await);
    let mut entries = StreamServiceClient::new(server.connect().await);
    for page_size in [0, 1, 5_000, u32::MAX] {
        let list = v1::ListRunsRequest {
            filter: Some(v1::RunFilter {
                tenant: "acme".into(),
                ..Default::default()
            }),
            page_size,
            ..Default::default()
        };
        assert_eq!(runs.list_runs(list).await.unwrap().into_inner().runs.len(), 1);
        let due = v1::ListDueRequest {
            queue: v1::Queue::Timers.into(),
            tenants: all_tenants(),
            page_size,
            ..Default::default()
        };
        assert_eq!(work.list_due(due).await.unwrap().into_inner().hints, []);
        let streams = v1::ListStreamsRequest {
            tenants: all_tenants(),
            page_size,
            ..Default::default()
        };
        let streams = entries.list_streams(streams).await.unwrap().into_inner();
        assert_eq!(streams.streams.len(), 1);
        let check = v1::CheckIndexRequest {
            page_size,
            ..Default::default()
        };
        let mut found = entries.check_index(check).await.unwrap().into_inner();
        assert_eq!(found.message().await.unwrap().unwrap().looked_at, 1);
    }
}
