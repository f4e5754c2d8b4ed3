//! Lists and counts of runs.

use super::agent::{Driven, TENANTS, ask, begin, run_id, tenant, text};
use super::due::CLAIM_MS;
use crate::Journal;
use crate::query::{RunCounts, RunQuery};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tape_core::command::{DriverCommand, RunCommand, WorkerCommand};
use tape_core::id::{App, Key, RunId};
use tape_core::limits::STATES_PER_PAGE_MAX;
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

/// All runs that fit, in pages of one.
async fn listed(journal: &Arc<dyn Journal>, query: &RunQuery) -> Vec<RunId> {
    let found = summaries(journal, query).await;
    found.into_iter().map(|(run, _)| run).collect()
}

async fn summaries(journal: &Arc<dyn Journal>, query: &RunQuery) -> Vec<(RunId, Summary)> {
    let (mut runs, mut from): (Vec<_>, Option<String>) = (Vec::new(), None);
    loop {
        let page = journal.runs(query, from.as_deref(), 1).await.unwrap();
        assert!(page.runs.len() <= 1, "a page has at most what was asked for");
        runs.extend(page.runs);
        from = page.next;
        if from.is_none() {
            return runs;
        }
    }
}

/// The counts of all pages, and how many pages there were.
async fn counted(journal: &Arc<dyn Journal>, query: &RunQuery) -> (RunCounts, u64) {
    let (mut sum, mut pages, mut from): (RunCounts, u64, Option<String>) = Default::default();
    loop {
        let page = journal.count_runs(query, from.as_deref()).await.unwrap();
        for (status, runs) in page.by_status {
            assert!(runs > 0, "a status without runs is left out");
            *sum.by_status.entry(status).or_default() += runs;
        }
        (sum.looked_at, pages) = (sum.looked_at + page.looked_at, pages + 1);
        from = page.next;
        if from.is_none() {
            return (sum, pages);
        }
    }
}

fn all() -> RunQuery {
    RunQuery::all(tenant("t"))
}

fn label(topic: &str) -> Option<(Key, String)> {
    Some((Key::new("topic").unwrap(), topic.to_owned()))
}

/// Four runs, oldest first: one that is driven, one that completed, one that failed, and one that waits without a driver.
async fn four(journal: &Arc<dyn Journal>) -> [RunId; 4] {
    let begin = async |name, topic| Driven::begin(journal, run_id("t", name), topic).await;
    let driven = begin("i", "red").await;
    let completed = begin("j", "blue").await;
    let failed = begin("k", "red").await;
    let waiting = begin("l", "blue").await;
    Driven::begin(journal, run_id("u", "other"), "red").await;
    let output = text("done");
    completed.drive(DriverCommand::Complete { output }).await;
    let error = "it went wrong".to_owned();
    failed.drive(DriverCommand::Fail { error }).await;
    waiting.suspend().await;
    [driven, completed, failed, waiting].map(|run| run.run)
}

pub(super) async fn runs_are_listed_by_every_filter(journal: Arc<dyn Journal>) {
    let [driven, completed, failed, waiting] = four(&journal).await;
    let is = async |query: RunQuery, fit: &[&RunId]| {
        let fit: Vec<RunId> = fit.iter().map(|run| (*run).clone()).collect();
        assert_eq!(listed(&journal, &query).await, fit, "{query:?}");
    };
    let newest_first = [&waiting, &failed, &completed, &driven];
    is(all(), &newest_first).await;
    let statuses = |of: &[RunStatus]| RunQuery {
        statuses: of.iter().copied().collect(),
        ..all()
    };
    is(statuses(&RunStatus::ALL), &newest_first).await;
    is(statuses(&[RunStatus::Running]), &[&driven]).await;
    let open = [RunStatus::Running, RunStatus::Suspended];
    is(statuses(&open), &[&waiting, &driven]).await;
    let ended = [RunStatus::Failed, RunStatus::Completed, RunStatus::Cancelled];
    is(statuses(&ended), &[&failed, &completed]).await;
    is(statuses(&[RunStatus::Stuck]), &[]).await;
    let red = RunQuery {
        label: label("red"),
        ..all()
    };
    is(red.clone(), &[&failed, &driven]).await;
    let statuses = BTreeSet::from(open);
    is(RunQuery { statuses, ..red }, &[&driven]).await;
    let of_app = |app| RunQuery {
        app: Some(App::new(app).unwrap()),
        ..all()
    };
    is(of_app("app"), &newest_first).await;
    is(of_app("ap"), &[]).await;
}

pub(super) async fn runs_of_other_tenants_are_never_among_them(journal: Arc<dyn Journal>) {
    for name in TENANTS {
        Driven::begin(&journal, run_id(name, "i"), "x").await;
    }
    for name in TENANTS {
        let all = RunQuery::all(tenant(name));
        let queries = [
            all.clone(),
            RunQuery {
                prefix: Some("app/user/session/i".parse().unwrap()),
                ..all.clone()
            },
            RunQuery {
                statuses: BTreeSet::from([RunStatus::Running, RunStatus::Suspended]),
                label: label("x"),
                ..all.clone()
            },
            RunQuery {
                driver: Some("driver".parse().unwrap()),
                ..all
            },
        ];
        for query in queries {
            assert_eq!(listed(&journal, &query).await, [run_id(name, "i")], "{query:?}");
            let (counts, _) = counted(&journal, &query).await;
            assert_eq!(counts.by_status, BTreeMap::from([(RunStatus::Running, 1)]));
        }
    }
}

pub(super) async fn runs_are_listed_by_the_beginning_of_their_names(journal: Arc<dyn Journal>) {
    let names = [
        ("app", "user", "session", "i"),
        ("app", "user", "session", "i2"),
        ("app", "user", "session2", "i"),
        ("app2", "user", "session", "i"),
        ("a.p", "u/v", "s 1", "100%"),
    ];
    let runs = names.map(|(app, user, session, name)| RunId::new("t", app, user, session, name).unwrap());
    for run in &runs {
        ask(&journal, run, begin(run, "x")).await.unwrap();
    }
    for (prefix, fit) in [
        ("a", &[4, 3, 2, 1, 0][..]),
        ("app", &[3, 2, 1, 0]),
        ("app/", &[2, 1, 0]),
        ("app/user/session", &[2, 1, 0]),
        ("app/user/session/", &[1, 0]),
        ("app/user/session/i2", &[1]),
        ("a%2E", &[4]),
        ("a%2Ep/u%2Fv/s%201/100%25", &[4]),
        ("app/user/sessions", &[]),
        ("t", &[]),
    ] {
        let query = RunQuery {
            prefix: Some(prefix.parse().unwrap()),
            ..all()
        };
        let fit: Vec<RunId> = fit.iter().map(|n: &usize| runs[*n].clone()).collect();
        assert_eq!(listed(&journal, &query).await, fit, "{prefix}");
        let (counts, _) = counted(&journal, &query).await;
        assert_eq!(
            counts.by_status.values().sum::<u64>(),
            fit.len() as u64,
            "{prefix}"
        );
        let of_another = App::new("other").unwrap();
        let query = RunQuery {
            app: Some(of_another),
            ..query
        };
        assert_eq!(listed(&journal, &query).await, [], "{prefix}");
    }
}

pub(super) async fn runs_are_listed_by_when_they_began(journal: Arc<dyn Journal>) {
    let mut n = 0;
    // Runs may begin at the same time.
    let listed_all = loop {
        n += 1;
        Driven::begin(&journal, run_id("t", &format!("i{n}")), "x").await;
        let found = summaries(&journal, &all()).await;
        let times: BTreeSet<Timestamp> = found.iter().map(|(_, summary)| summary.begun_at).collect();
        if times.len() >= 4 {
            break found;
        }
    };
    let times: BTreeSet<Timestamp> = listed_all.iter().map(|(_, summary)| summary.begun_at).collect();
    let times: Vec<Option<Timestamp>> = times.into_iter().map(Some).collect();
    for (from, before) in [
        (times[1], None),
        (None, times[2]),
        (times[1], times[2]),
        (times[1], times[3]),
        (times[2], times[2]),
        (times[3], times[1]),
    ] {
        let query = RunQuery {
            begun_from: from,
            begun_before: before,
            ..all()
        };
        let fits = |summary: &Summary| {
            from.is_none_or(|from| from <= summary.begun_at)
                && before.is_none_or(|before| summary.begun_at < before)
        };
        let fit = listed_all.iter().filter(|(_, summary)| fits(summary));
        let fit: Vec<RunId> = fit.map(|(run, _)| run.clone()).collect();
        assert_eq!(listed(&journal, &query).await, fit, "{query:?}");
        let (counts, _) = counted(&journal, &query).await;
        assert_eq!(counts.by_status.values().sum::<u64>(), fit.len() as u64);
    }
}

pub(super) async fn runs_are_listed_by_the_driver_that_has_them_now(journal: Arc<dyn Journal>) {
    let begin = async |name, driver| Driven::begin_as(&journal, run_id("t", name), "x", driver).await;
    let driven = begin("i", "one").await;
    let other = begin("j", "one two").await;
    let ended = begin("k", "one").await;
    ended
        .drive(DriverCommand::Complete { output: text("done") })
        .await;
    begin("l", "one").await.suspend().await;
    let released = begin("m", "one").await;
    let release = DriverCommand::ReleaseLease {
        redrive_in_ms: CLAIM_MS,
        undriven: false,
    };
    released.drive(release).await;
    // A worker is no driver.
    other.decide().await;
    let effect = other.effect(0).await;
    let claim = WorkerCommand::ClaimEffect {
        effect,
        holder: "one".parse().unwrap(),
        claim_ms: CLAIM_MS,
    };
    other.work(claim).await;
    for (driver, fit) in [
        ("one", vec![driven.run]),
        ("one two", vec![other.run]),
        ("on", vec![]),
    ] {
        let query = RunQuery {
            driver: Some(driver.parse().unwrap()),
            ..all()
        };
        assert_eq!(listed(&journal, &query).await, fit, "{driver}");
        let (counts, _) = counted(&journal, &query).await;
        assert_eq!(counts.by_status.values().sum::<u64>(), fit.len() as u64);
    }
}

pub(super) async fn runs_are_counted_by_every_filter(journal: Arc<dyn Journal>) {
    four(&journal).await;
    let is = async |query: RunQuery, fit: &[RunStatus]| {
        let (counts, _) = counted(&journal, &query).await;
        let fit: BTreeMap<RunStatus, u64> = fit.iter().map(|status| (*status, 1)).collect();
        assert_eq!(counts.by_status, fit, "{query:?}");
        assert!(counts.looked_at >= fit.len() as u64);
    };
    let one_each = [
        RunStatus::Running,
        RunStatus::Suspended,
        RunStatus::Completed,
        RunStatus::Failed,
    ];
    is(all(), &one_each).await;
    let ended = [RunStatus::Completed, RunStatus::Failed];
    let statuses = BTreeSet::from(ended);
    is(RunQuery { statuses, ..all() }, &ended).await;
    let red = RunQuery {
        label: label("red"),
        ..all()
    };
    is(red, &[RunStatus::Running, RunStatus::Failed]).await;
    let elsewhere = RunQuery {
        app: Some(App::new("elsewhere").unwrap()),
        ..all()
    };
    is(elsewhere, &[]).await;
}

pub(super) async fn the_counts_of_all_pages_add_up(journal: Arc<dyn Journal>) {
    let runs = u64::from(STATES_PER_PAGE_MAX) + 1;
    let begin = async |n| {
        let run = run_id("t", &format!("i{n}"));
        ask(&journal, &run, begin(&run, "x")).await.unwrap();
        run
    };
    let begun = join_all((0..runs).map(begin)).await;
    let released = RunCommand::Drive(
        tape_core::id::Epoch(1),
        DriverCommand::ReleaseLease {
            redrive_in_ms: CLAIM_MS,
            undriven: false,
        },
    );
    ask(&journal, &begun[7], released).await.unwrap();
    let query = RunQuery {
        driver: Some("driver".parse().unwrap()),
        ..all()
    };
    let (counts, pages) = counted(&journal, &query).await;
    assert_eq!(counts.by_status, BTreeMap::from([(RunStatus::Running, runs - 1)]));
    assert_eq!(counts.looked_at, runs, "each once");
    assert!(pages > 1, "a page looks at a bounded number of runs");
}
