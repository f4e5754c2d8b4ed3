//! Lists and counts of runs, through an engine over the store.

use super::engines::{begin, drive, text};
use crate::Engine;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tape_api::JournalError;
use tape_api::query::{GateQuery, RunQuery};
use tape_core::command::DriverCommand;
use tape_core::decider::Decider as _;
use tape_core::id::{App, Epoch, GateName, Holder, RunId, Tenant};
use tape_core::limits::STATES_PER_PAGE_MAX;
use tape_core::status::RunStatus;
use tape_core::time::{Deadline, Timestamp};
use tape_store::clock::ManualClock;
use tape_store::conformance::Fixture;

/// Tenants whose names begin alike, with and without characters that are escaped.
pub(super) const TENANTS: [&str; 4] = ["acme", "acme2", "acme/x", "acme%2Fx"];

/// The names of the runs of each tenant, the holder that drives each, and where each stands in the end.
const RUNS: [([&str; 4], &str, RunStatus); 8] = [
    (["pay", "ann", "s1", "i1"], "one", RunStatus::Running),
    (["pay", "ann", "s1", "i2"], "two", RunStatus::Completed),
    (["pay", "ann", "s10", "i1"], "one", RunStatus::Suspended),
    (["pay", "ann", "s/1", "i1"], "one", RunStatus::Running),
    (["pay", "anne", "s1", "i1"], "two", RunStatus::Running),
    (["pay/roll", "ann", "s1", "i1"], "one", RunStatus::Completed),
    (["pay.2", "ann", "s 1", "100%"], "two", RunStatus::Suspended),
    (["Pay", "ann", "s1", "i1"], "two", RunStatus::Running),
];

pub(super) fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

pub(super) fn by_hand(fixture: &Fixture) -> (Engine, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_000_000_000)));
    let engine = Engine::new(Arc::clone(&fixture.store), Arc::clone(&clock) as _);
    (engine, clock)
}

/// Suspends a run; its driver has seen all of it.
pub(super) async fn suspend(engine: &Engine, run: &RunId, epoch: Epoch) {
    let seen = engine.run_state(run).await.unwrap().unwrap().seq();
    let resume = Some(Deadline::InMs(3_600_000));
    let suspend = DriverCommand::Suspend { seen, resume };
    drive(engine, run, epoch, suspend).await.unwrap();
}

/// A run of a test, as it should be listed.
#[derive(Clone, Debug)]
struct Known {
    run: RunId,
    holder: &'static str,
    status: RunStatus,
    begun_at: Timestamp,
}

/// The runs of all tenants, newest first.
async fn fill(engine: &Engine, clock: &ManualClock) -> Vec<Known> {
    let mut all = Vec::new();
    for ([app, user, session, invocation], holder, status) in RUNS {
        for tenant in TENANTS {
            clock.advance_ms(1);
            let run = RunId::new(tenant, app, user, session, invocation).unwrap();
            let begun_at = engine.now().await.unwrap();
            let epoch = begin(engine, &run, holder).await;
            match status {
                RunStatus::Completed => {
                    let complete = DriverCommand::Complete { output: text("done") };
                    drive(engine, &run, epoch, complete).await.unwrap();
                }
                RunStatus::Suspended => suspend(engine, &run, epoch).await,
                _ => {}
            }
            all.push(Known {
                run,
                holder,
                status,
                begun_at,
            });
        }
    }
    all.reverse();
    all
}

async fn listed(engine: &Engine, query: &RunQuery, limit: u32) -> Vec<RunId> {
    let (mut runs, mut from): (Vec<RunId>, Option<String>) = (Vec::new(), None);
    loop {
        let page = engine.list_runs(query, from.as_deref(), limit).await.unwrap();
        assert!(
            page.runs.len() <= limit as usize,
            "a page has at most what was asked for"
        );
        runs.extend(page.runs.into_iter().map(|(run, _)| run));
        assert!(
            runs.len() <= RUNS.len() * TENANTS.len(),
            "the pages come to an end"
        );
        from = page.next;
        if from.is_none() {
            return runs;
        }
    }
}

async fn counted(engine: &Engine, query: &RunQuery) -> BTreeMap<RunStatus, u64> {
    let (mut counts, mut from) = (BTreeMap::new(), None);
    loop {
        let page = engine.count_runs(query, from.as_deref()).await.unwrap();
        for (status, count) in page.by_status {
            *counts.entry(status).or_default() += count;
        }
        from = page.next;
        if from.is_none() {
            return counts;
        }
    }
}

/// Whether a run of the tenant fits.
type Fits = Box<dyn Fn(&Known) -> bool + Send>;

/// Queries of a tenant, and which of its runs each should find.
fn queries(tenant: &Tenant, middle: Timestamp) -> Vec<(RunQuery, Fits)> {
    let all = || RunQuery::all(tenant.clone());
    let mut queries: Vec<(RunQuery, Fits)> = vec![(all(), Box::new(|_| true))];
    for statuses in [
        vec![RunStatus::Completed],
        vec![RunStatus::Suspended, RunStatus::Running],
        vec![RunStatus::Stuck, RunStatus::Completed],
    ] {
        let statuses: BTreeSet<RunStatus> = statuses.into_iter().collect();
        let query = RunQuery {
            statuses: statuses.clone(),
            ..all()
        };
        queries.push((query, Box::new(move |known| statuses.contains(&known.status))));
    }
    for prefix in [
        "p",
        "pay/",
        "pay/ann/s1",
        "pay/ann/s1/i",
        "pay/ann/s%2F",
        "pay%2E",
        "pay%2Froll/ann/s1/i1",
        "none",
    ] {
        let query = RunQuery {
            prefix: Some(prefix.parse().unwrap()),
            ..all()
        };
        let fits = move |known: &Known| {
            let name = known.run.to_string();
            let (_, path) = name.split_once('/').unwrap();
            path.starts_with(prefix)
        };
        queries.push((query, Box::new(fits)));
    }
    let elsewhere = RunQuery {
        app: Some(App::new("pay/roll").unwrap()),
        prefix: Some("pay/".parse().unwrap()),
        ..all()
    };
    queries.push((elsewhere, Box::new(|_| false)));
    let times = RunQuery {
        begun_from: Some(middle),
        statuses: BTreeSet::from([RunStatus::Running, RunStatus::Completed]),
        ..all()
    };
    queries.push((
        times,
        Box::new(move |known| known.begun_at >= middle && known.status != RunStatus::Suspended),
    ));
    let before = RunQuery {
        begun_before: Some(middle),
        ..all()
    };
    queries.push((before, Box::new(move |known| known.begun_at < middle)));
    for holder in ["one", "two", "three"] {
        let query = RunQuery {
            driver: Some(Holder::new(holder).unwrap()),
            ..all()
        };
        let fits = move |known: &Known| known.holder == holder && known.status == RunStatus::Running;
        queries.push((query, Box::new(fits)));
    }
    queries
}

pub(super) async fn runs_are_found_by_every_part_of_a_query(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let all = fill(&engine, &clock).await;
    let middle = all[all.len() / 2].begun_at;
    for name in TENANTS {
        for (query, fits) in queries(&tenant(name), middle) {
            let own = all.iter().filter(|known| known.run.tenant == query.tenant);
            let expected: Vec<&Known> = own.filter(|known| fits(known)).collect();
            let runs: Vec<RunId> = expected.iter().map(|known| known.run.clone()).collect();
            for limit in [1, 3, 100] {
                assert_eq!(
                    listed(&engine, &query, limit).await,
                    runs,
                    "{query:?} in pages of {limit}"
                );
            }
            let mut counts = BTreeMap::new();
            for known in expected {
                *counts.entry(known.status).or_default() += 1;
            }
            assert_eq!(counted(&engine, &query).await, counts, "{query:?}");
        }
    }
    let driven = RunQuery {
        driver: Some(Holder::new("one").unwrap()),
        ..RunQuery::all(tenant("acme"))
    };
    assert!(!listed(&engine, &driven, 10).await.is_empty());
    clock.advance_ms(5_000);
    assert_eq!(
        listed(&engine, &driven, 10).await,
        [],
        "a lease that is over drives nothing"
    );
    let refused = engine.list_runs(&driven, Some("not a token"), 10).await;
    assert!(matches!(refused, Err(JournalError::Invalid(_))), "{refused:?}");
}

/// Runs that are suspended between two pages stay where they are in the list of those that have not ended.
pub(super) async fn a_run_that_changes_its_status_is_listed_once(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let mut runs = Vec::new();
    for n in 0..6 {
        clock.advance_ms(1);
        let run = RunId::new("acme", "app", "ann", "s", &format!("i{n}")).unwrap();
        let epoch = begin(&engine, &run, "one").await;
        runs.push((run, epoch));
    }
    runs.reverse();
    let query = RunQuery {
        statuses: BTreeSet::from([RunStatus::Running, RunStatus::Suspended]),
        ..RunQuery::all(tenant("acme"))
    };
    let (mut found, mut from): (Vec<RunId>, Option<String>) = (Vec::new(), None);
    // The last run of a page, after which the next begins, and one that was not listed.
    for moved in [&[1, 4][..], &[3, 5], &[]] {
        let page = engine.list_runs(&query, from.as_deref(), 2).await.unwrap();
        found.extend(page.runs.into_iter().map(|(run, _)| run));
        from = page.next;
        for (run, epoch) in moved.iter().map(|n: &usize| &runs[*n]) {
            suspend(&engine, run, *epoch).await;
        }
        if from.is_none() {
            break;
        }
    }
    let expected: Vec<RunId> = runs.into_iter().map(|(run, _)| run).collect();
    assert_eq!(found, expected);
    assert_eq!(from, None);
    let refused = engine.list_runs(&query, Some("[]"), 2).await;
    assert!(matches!(refused, Err(JournalError::Invalid(_))), "{refused:?}");
}

/// Only the oldest of many runs has what is looked for. Each page looks at a bounded number of them, and the pages find it.
pub(super) async fn a_page_looks_at_a_bounded_number_of_runs(fixture: Fixture) {
    let (engine, clock) = by_hand(&fixture);
    let id = |n: u32| RunId::new("acme", "app", "ann", "s", &format!("i{n}")).unwrap();
    let oldest = id(0);
    let epoch = begin(&engine, &oldest, "one").await;
    let open = DriverCommand::OpenGate {
        gate: GateName::new("approve").unwrap(),
        deadline: None,
    };
    drive(&engine, &oldest, epoch, open).await.unwrap();
    clock.advance_ms(1);
    let others: Vec<RunId> = (1..=STATES_PER_PAGE_MAX + 4).map(id).collect();
    for some in others.chunks(32) {
        join_all(some.iter().map(|run| begin(&engine, run, "two"))).await;
    }
    let query = RunQuery {
        driver: Some(Holder::new("one").unwrap()),
        ..RunQuery::all(tenant("acme"))
    };
    let first = engine.list_runs(&query, None, 1).await.unwrap();
    assert_eq!(first.runs, [], "it is not among the newest");
    let next = first.next.expect("there is more to look at");
    let second = engine.list_runs(&query, Some(&next), 1).await.unwrap();
    assert_eq!(second.runs[0].0, oldest);
    let counts = engine.count_runs(&query, None).await.unwrap();
    assert_eq!(counts.looked_at, u64::from(STATES_PER_PAGE_MAX));
    let gates = GateQuery {
        tenant: tenant("acme"),
        app: None,
    };
    let first = engine.open_gates(&gates, None, 1).await.unwrap();
    assert_eq!(first.gates, []);
    let next = first.next.expect("there is more to look at");
    let second = engine.open_gates(&gates, Some(&next), 1).await.unwrap();
    assert_eq!(second.gates[0].run, oldest);
}
