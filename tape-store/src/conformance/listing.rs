//! Lists of runs, and the isolation of tenants.

use super::Fixture;
use super::pen::{Pen, all};
use crate::contract::{Batch, JournalStore, RunFilter, Shard};
use std::collections::{BTreeMap, BTreeSet};
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::{App, Key, RunId, StreamId, Tenant};
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).expect("it is a name")
}

fn summary(n: i64, status: RunStatus) -> Summary {
    let color = if n % 3 == 0 { "red" } else { "it's \"blue\"" };
    let labels = BTreeMap::from([
        (Key::new("color").expect("it is a name"), color.to_owned()),
        (Key::new("n").expect("it is a name"), n.to_string()),
    ]);
    let begun_at = Timestamp::from_micros(1_000 + n / 2);
    Summary {
        status,
        labels,
        begun_at,
        changed_at: Timestamp::from_micros(5_000 + n),
    }
}

fn pen(tenant: &str, n: i64) -> Pen {
    let app = ["books", "pay/roll", "books.2"][usize::try_from(n % 3).expect("it is not negative")];
    Pen::on(StreamId::Run(
        RunId::new(tenant, app, "u", "s", &format!("i{n}")).expect("they are names"),
    ))
}

/// Thirty runs in two tenants, in the order of their numbers; then half of them end.
async fn fill(store: &dyn JournalStore) -> Vec<(RunId, Summary)> {
    let mut runs = Vec::new();
    for n in 0..30 {
        for name in ["t", "other"] {
            let mut pen = pen(name, n);
            let first = summary(n, RunStatus::Running);
            pen.put(
                store,
                Batch {
                    summary: Some(first.clone()),
                    ..pen.batch(&["x"])
                },
            )
            .await;
            pen.write(store, &["no news"]).await;
            let ended = Summary {
                changed_at: Timestamp::from_micros(9_000),
                ..summary(n, RunStatus::Completed)
            };
            let last = if n % 2 == 0 { ended } else { first };
            pen.put(
                store,
                Batch {
                    summary: Some(last.clone()),
                    ..pen.batch(&["y"])
                },
            )
            .await;
            if name == "t" {
                runs.push((pen.stream.as_run().expect("it is a run").clone(), last));
            }
        }
    }
    runs.reverse();
    runs
}

/// Every useful filter, alone and combined.
fn filters() -> Vec<RunFilter> {
    let all = RunFilter::all(tenant("t"));
    let label = |key: &str, value: &str| Some((Key::new(key).expect("it is a name"), value.to_owned()));
    let app = |name: &str| Some(App::new(name).expect("it is a name"));
    let at = |micros| Some(Timestamp::from_micros(micros));
    let in_any = |statuses: &[RunStatus]| statuses.iter().copied().collect::<BTreeSet<_>>();
    let (running, done) = (in_any(&[RunStatus::Running]), in_any(&[RunStatus::Completed]));
    vec![
        all.clone(),
        RunFilter {
            app: app("pay/roll"),
            ..all.clone()
        },
        RunFilter {
            app: app("pay"),
            ..all.clone()
        },
        RunFilter {
            statuses: running.clone(),
            ..all.clone()
        },
        RunFilter {
            statuses: done.clone(),
            app: app("books"),
            ..all.clone()
        },
        RunFilter {
            statuses: in_any(&[RunStatus::Stuck]),
            ..all.clone()
        },
        RunFilter {
            label: label("color", "red"),
            ..all.clone()
        },
        RunFilter {
            label: label("color", "it's \"blue\""),
            statuses: running.clone(),
            app: app("books.2"),
            ..all.clone()
        },
        RunFilter {
            statuses: in_any(&[RunStatus::Running, RunStatus::Completed, RunStatus::Stuck]),
            ..all.clone()
        },
        RunFilter {
            statuses: in_any(&[RunStatus::Running, RunStatus::Completed]),
            app: app("books"),
            begun_before: at(1_012),
            ..all.clone()
        },
        RunFilter {
            statuses: in_any(&[RunStatus::Running, RunStatus::Stuck]),
            label: label("color", "red"),
            ..all.clone()
        },
        RunFilter {
            label: label("n", "7"),
            ..all.clone()
        },
        RunFilter {
            label: label("n", "77"),
            ..all.clone()
        },
        RunFilter {
            begun_from: at(1_005),
            begun_before: at(1_010),
            ..all.clone()
        },
        RunFilter {
            begun_from: at(1_010),
            statuses: done,
            ..all.clone()
        },
        RunFilter {
            begun_before: at(1_003),
            label: label("color", "red"),
            ..all.clone()
        },
        RunFilter {
            begun_from: at(1_010),
            begun_before: at(1_005),
            ..all
        },
        RunFilter::all(tenant("nobody")),
    ]
}

pub(super) async fn runs_are_listed_by_every_filter(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let runs = fill(store).await;
    for filter in filters() {
        let fits =
            |(run, summary): &&(RunId, Summary)| run.tenant == filter.tenant && filter.fits(run, summary);
        let expected: Vec<_> = runs.iter().filter(fits).cloned().collect();
        let page = store.runs(&filter, None, 1_000).await.unwrap();
        assert_eq!(page.runs, expected, "{filter:?}");
        assert_eq!(page.next, None);
    }
    // The labels that a run is found by may change.
    let mut moved = pen("t", 31);
    let relabelled = Summary {
        labels: BTreeMap::new(),
        ..summary(40, RunStatus::Running)
    };
    for summary in [summary(31, RunStatus::Running), relabelled.clone()] {
        moved
            .put(
                store,
                Batch {
                    summary: Some(summary),
                    ..moved.batch(&["x"])
                },
            )
            .await;
    }
    let label = Some((Key::new("n").unwrap(), "31".to_owned()));
    let by_label = store
        .runs(
            &RunFilter {
                label,
                ..RunFilter::all(tenant("t"))
            },
            None,
            10,
        )
        .await
        .unwrap();
    assert_eq!(by_label.runs, []);
    let first = store
        .runs(&RunFilter::all(tenant("t")), None, 1)
        .await
        .unwrap()
        .runs;
    assert_eq!(first, [(moved.stream.as_run().unwrap().clone(), relabelled)]);
}

pub(super) async fn pages_of_runs_follow_each_other(fixture: Fixture) {
    let store = fixture.store.as_ref();
    fill(store).await;
    for filter in filters() {
        let every = store.runs(&filter, None, 1_000).await.unwrap().runs;
        for limit in [1, 4, 30] {
            let (mut listed, mut from) = (Vec::new(), None);
            loop {
                let page = store.runs(&filter, from.as_ref(), limit).await.unwrap();
                assert!(page.runs.len() <= limit as usize);
                listed.extend(page.runs);
                let Some(next) = page.next else { break };
                from = Some(next);
            }
            assert_eq!(listed, every, "{filter:?} by pages of {limit}");
        }
    }
    let page = store.runs(&RunFilter::all(tenant("t")), None, 1).await.unwrap();
    let given = page.next.expect("there are more").0;
    let none_of_these = [
        "no token".to_owned(),
        String::new(),
        format!("+{given}"),
        format!("0{given}"),
    ];
    for garbage in none_of_these {
        let garbage = crate::contract::PageToken(garbage);
        let refused = store.runs(&RunFilter::all(tenant("t")), Some(&garbage), 1).await;
        assert!(refused.is_err(), "{garbage:?}");
    }
}

/// The same names in two tenants, and names that would be equal if their parts were only concatenated.
pub(super) async fn tenants_are_separate(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let run =
        |t: &str, a: &str, u: &str| StreamId::Run(RunId::new(t, a, u, "s", "i").expect("they are names"));
    let streams = [
        run("t", "a", "u"),
        run("T", "a", "u"),
        run("t ", "a", "u"),
        run("t", "a/u", "u"),
        run("t/run", "a", "u"),
        run("t%", "a", "u"),
        run("t", "a", "ü"),
        StreamId::Shared {
            tenant: tenant("t"),
            app: App::new("a").unwrap(),
            user: None,
        },
        StreamId::Shared {
            tenant: tenant("o"),
            app: App::new("a").unwrap(),
            user: None,
        },
    ];
    let mut pens: Vec<Pen> = streams.iter().cloned().map(Pen::on).collect();
    for (n, pen) in pens.iter_mut().enumerate() {
        let agenda = vec![AgendaChange {
            queue: Queue::Timers,
            item: Item::Merge,
            was: None,
            due: Some(Timestamp::from_micros(i64::try_from(n).unwrap())),
        }];
        let summary = pen.stream.as_run().map(|_| summary(1, RunStatus::Running));
        pen.put(
            store,
            Batch {
                agenda,
                summary,
                ..pen.batch(&[format!("of {n}").as_str()])
            },
        )
        .await;
    }
    for (n, pen) in pens.iter().enumerate() {
        let entries = all(store, &pen.stream).await;
        assert_eq!(
            entries,
            pen_entries(pen, n),
            "{} has its own entry and no other",
            pen.stream
        );
        let listed = store
            .runs(&RunFilter::all(pen.stream.tenant().clone()), None, 100)
            .await
            .unwrap()
            .runs;
        assert!(
            listed.iter().all(|(run, _)| run.tenant == *pen.stream.tenant()),
            "{listed:?}"
        );
        let own = streams
            .iter()
            .filter(|s| s.as_run().is_some() && s.tenant() == pen.stream.tenant())
            .count();
        assert_eq!(listed.len(), own);
    }
    let mut hints = Vec::new();
    for shard in (0..store.capabilities().shards).map(Shard) {
        hints.extend(
            store
                .due(Queue::Timers, shard, Timestamp::MAX, None, 100)
                .await
                .unwrap(),
        );
    }
    hints.sort_by_key(|hint| hint.due);
    assert_eq!(
        hints.into_iter().map(|hint| hint.stream).collect::<Vec<_>>(),
        streams
    );
}

fn pen_entries(pen: &Pen, n: usize) -> Vec<tape_core::codec::StoredEntry> {
    Pen::on(pen.stream.clone()).entries(&[format!("of {n}").as_str()])
}
