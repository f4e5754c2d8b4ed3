//! Streams, indexes and retention.

use super::agent::{Driven, ask, begin, run_id, text};
use crate::Journal;
use crate::query::Retirement;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tape_core::command::DriverCommand;
use tape_core::entry::run::RunOutcome;
use tape_core::id::{Principal, StreamId, Tenant};
use tape_core::reply::ReplyResult;

pub(super) async fn streams_are_found_and_their_indexes_fit(journal: Arc<dyn Journal>) {
    let mut begun = BTreeSet::new();
    for name in ["i", "j", "k"] {
        begun.insert(Driven::begin(&journal, run_id("t", name), "x").await.stream());
    }
    let (mut found, mut from): (BTreeSet<StreamId>, Option<String>) = (BTreeSet::new(), None);
    loop {
        let page = journal.streams(from.as_deref()).await.unwrap();
        assert_eq!(page.unreadable, Vec::<String>::new());
        found.extend(page.streams);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(found, begun);
    let (mut looked_at, mut from): (u64, Option<String>) = (0, None);
    loop {
        let page = journal.check_index(from.as_deref(), false).await.unwrap();
        assert_eq!(page.findings, []);
        looked_at += page.looked_at;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert!(looked_at >= 3, "{looked_at}");
}

pub(super) async fn a_run_that_is_retired_says_how_it_ended(journal: Arc<dyn Journal>) {
    let run = Driven::begin(&journal, run_id("t", "i"), "x").await;
    run.drive(DriverCommand::Complete { output: text("done") }).await;
    let lived = Driven::begin(&journal, run_id("t", "j"), "x").await;
    let retirement = |older_than, dry_run| Retirement {
        tenant: Tenant::new("t").unwrap(),
        older_than,
        reason: "old".to_owned(),
        dry_run,
    };
    let olga = Principal::new("olga").unwrap();
    let retire = async |retirement: Retirement| {
        let (mut runs, mut from): (u64, Option<String>) = (0, None);
        loop {
            let page = journal.retire(&retirement, Some(&olga), from.as_deref());
            let page = page.await.unwrap();
            assert_eq!(page.left, []);
            runs += page.runs;
            from = page.next;
            if from.is_none() {
                return runs;
            }
        }
    };
    assert_eq!(retire(retirement(Duration::from_secs(3_600), false)).await, 0);
    assert_eq!(retire(retirement(Duration::ZERO, true)).await, 1);
    assert_eq!(
        journal.head(&run.run).await.unwrap().unwrap().0.0,
        3,
        "it only looked"
    );
    assert_eq!(retire(retirement(Duration::ZERO, false)).await, 1);
    while journal.reclaim().await.unwrap() {}
    let again = ask(&journal, &run.run, begin(&run.run, "x")).await.unwrap();
    let ReplyResult::Ended { ending, .. } = again.result else {
        panic!("{again:?}");
    };
    assert_eq!(ending, RunOutcome::Completed);
    assert_eq!(journal.head(&lived.run).await.unwrap().unwrap().0.0, 2);
}
