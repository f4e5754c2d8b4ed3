//! Every query is a search in an index that has its order, so it costs what it returns, whatever the history.

use super::{
    SqliteStore, connect, cursors, due, index, named, read, retention, runs, settings::Settings, upkeep,
};
use crate::contract::RunFilter;
use crate::listing::{Place, filters_of_each_kind};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tape_core::time::Timestamp;

async fn plan(connection: &mut SqliteConnection, query: &str) -> Vec<String> {
    let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")));
    let rows = explained.fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

/// Steps that go through all of a table or an index, except what the query itself made.
fn scans<'a>(plan: &'a [String], own: &[&str]) -> Vec<&'a String> {
    let made = |step: &String| step.contains("CONSTANT ROW") || step.contains("VALUES CLAUSE");
    let of_own = |step: &String| own.iter().any(|name| step.starts_with(&format!("SCAN {name}")));
    plan.iter()
        .filter(|step| step.contains("SCAN") && !made(step) && !of_own(step))
        .collect()
}

#[tokio::test]
async fn queries_are_searches() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let mut connection = connect::reader(&path, &Settings::default(), connect::Access::Write)
        .connect()
        .await
        .unwrap();
    // A page of entries is a temporary table of its own: the walk, its totals, the head it starts from.
    for (query, own) in [
        (read::HEAD, &[][..]),
        (read::ENTRIES, &["walk", "head", "page", "(subquery"][..]),
        (read::TAIL, &["next", "page", "(subquery"][..]),
        (read::TAIL_END, &[]),
        (read::POSITION, &["walk"]),
        (due::DUE, &[]),
        (named::NAMED, &[]),
        (index::GONE, &["j VIRTUAL"]),
        (index::RELIST, &["j VIRTUAL"]),
        (index::UNLABEL, &["j VIRTUAL"]),
        (index::UNLABEL_RIGHT, &["j VIRTUAL"]),
        (upkeep::LISTED, &["j VIRTUAL"]),
        (retention::ERASED, &["walk"]),
        (retention::ENTRIES, &["walk"]),
        (cursors::READ, &[]),
        (cursors::LIST, &[]),
        (cursors::REPLACE, &[]),
        (cursors::REMOVE, &[]),
    ] {
        let plan = plan(&mut connection, query).await;
        assert_eq!(scans(&plan, own), Vec::<&String>::new(), "{query}: {plan:#?}");
    }
    for query in [due::DUE, named::NAMED, cursors::LIST] {
        let plan = plan(&mut connection, query).await;
        assert!(
            !plan.iter().any(|step| step.contains("TEMP B-TREE")),
            "{query} sorts nothing anew: {plan:#?}"
        );
    }
}

#[tokio::test]
async fn lists_of_runs_are_searches_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tape.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let mut connection = connect::reader(&path, &Settings::default(), connect::Access::Write)
        .connect()
        .await
        .unwrap();
    let at = Some(Timestamp::from_micros(1));
    let mut filters = filters_of_each_kind();
    let bounded = |filter: &RunFilter| RunFilter {
        begun_from: at,
        begun_before: at,
        ..filter.clone()
    };
    filters.extend(filters.iter().map(bounded).collect::<Vec<_>>());
    for filter in filters {
        let from = Place {
            begun_at: Timestamp::from_micros(5),
            stream: 7,
        };
        for from in [None, Some(from)] {
            let query = runs::select(&filter, from, 10);
            let plan = plan(&mut connection, query.sql().as_str()).await;
            assert_eq!(scans(&plan, &[]), Vec::<&String>::new(), "{filter:?}: {plan:#?}");
            assert!(
                !plan.iter().any(|step| step.contains("TEMP B-TREE")),
                "{filter:?}: {plan:#?}"
            );
        }
    }
}
