//! Every statement costs what it returns, whatever the history: it is a search in an index that has its order, and touches about
//! as many pages in a large database as in a small one.

#[path = "../../tests/postgres_server/mod.rs"]
mod postgres_server;

use super::links::Links;
use super::settings::Target;
use super::{append, cursors, due, named, read, retention, runs, tail, writer};
use crate::listing::filters_of_each_kind;
use postgres_server::Database;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

/// Entries of each run.
const ENTRIES: usize = 10;
/// Runs of the small database.
const SMALL: usize = 2_000;
/// The allowance for an index that has grown a level or two, and for pages that are a little fuller or emptier.
const PAGES_MORE: u64 = 60;

/// Runs that ended, each with [`ENTRIES`] entries and a label; every thousandth has due work. As many records.
fn grow(from: usize, to: usize) -> String {
    let mark = mark(from);
    format!(
        "INSERT INTO tape_head(key, name, seq, epoch, part, digest) \
           SELECT tape_key(n), n, {ENTRIES}, 0, 1, {mark} FROM (SELECT 't/run/a/u/s/' || i AS n FROM generate_series({from}, {to} - 1) i) runs; \
         INSERT INTO tape_head(key, stream, name, seq, epoch, part, digest) OVERRIDING SYSTEM VALUE \
           SELECT tape_key(n), 1000000000 + i, n, 1, 0, 0, sha256('') \
           FROM (SELECT i, 't/session/a/u/' || i AS n FROM generate_series({from}, {to} - 1) i) sessions; \
         INSERT INTO tape_entry(ord, stream, seq, part, digest, batch, envelope, payload) \
           SELECT h.stream, h.stream, q, 1, sha256(''), sha256((h.stream * 100 + q)::text::bytea), repeat('e', 200)::bytea, 'p' \
           FROM tape_head h, generate_series(1, {ENTRIES}) q WHERE h.digest = {mark}; \
         INSERT INTO tape_run(stream, begun_at, changed_at, tenant, app, status, labels, label_keys) \
           SELECT stream, stream, stream, 't', 'a', 'completed', '{{}}', sha256(('k' || chr(1) || stream % 100)::bytea) \
           FROM tape_head WHERE digest = {mark}; \
         INSERT INTO tape_snapshot(stream, seq, bytes) SELECT stream, {ENTRIES}, '' FROM tape_head WHERE digest = {mark}; \
         INSERT INTO tape_agenda(queue, due, stream, item) \
           SELECT 1, stream + CASE WHEN stream % 1000 = 0 THEN 0 ELSE 1000000000 END, stream, 'run' \
           FROM tape_head WHERE digest = {mark}; \
         INSERT INTO tape_record(name, version, bytes) \
           SELECT 't/relay-' || i || '/0', i, '' FROM generate_series({from}, {to} - 1) i; \
         ANALYZE"
    )
}

/// The last digest of the runs made from a number on.
fn mark(from: usize) -> String {
    format!("sha256('{from}')")
}

/// The statements with their arguments, for the run of that number.
fn statements(run: usize) -> Vec<(String, String)> {
    let name = format!("t/run/a/u/s/{run}");
    let stream = format!("tape_key('{name}'), '{name}'");
    let mut statements = vec![
        (read::HEAD.to_owned(), stream.clone()),
        (read::ENTRIES.to_owned(), format!("{stream}, 3, 8, 8000000")),
        (retention::ERASE.to_owned(), format!("{}, 4", run + 1)),
        (
            retention::HEADS.to_owned(),
            format!("ARRAY[tape_key('{name}')], ARRAY['{name}'], '{{10}}'"),
        ),
        (
            retention::COPY.to_owned(),
            format!("'{{{run}}}', '{{1}}', '{{10}}'"),
        ),
        (retention::MOVE.to_owned(), format!("'{{{run}}}', '{{10}}'")),
        (retention::FORGET.to_owned(), format!("'{{{run}}}'")),
        (
            retention::SWEEP.to_owned(),
            format!("'{{{run}}}', '{{10}}', 2000"),
        ),
        (retention::UNLIST.to_owned(), format!("'{{{run}}}'")),
        (writer::ENDS.to_owned(), format!("ARRAY[tape_key('{name}')]")),
        (
            due::DUE.to_owned(),
            "1, 500000000, -1, NULL, '', 10, NULL".to_owned(),
        ),
        (
            due::DUE.to_owned(),
            format!("1, 500000000, {run}, tape_key('{name}'), 'run', 10, NULL"),
        ),
        (
            named::NAMED.to_owned(),
            "'t/session/a/u/7', 't/session/a/u0', 10".to_owned(),
        ),
        (cursors::READ.to_owned(), format!("'t/relay-{run}/0'")),
        (
            cursors::LIST.to_owned(),
            format!("'t/relay-{run}/', 't/relay-{run}0', 1000"),
        ),
        (cursors::MAKE.to_owned(), format!("'t/relay-{run}/1', 1, ''")),
        (
            cursors::REPLACE.to_owned(),
            format!("'t/relay-{run}/0', {run} + 1, '', {run}"),
        ),
        (cursors::REMOVE.to_owned(), format!("'t/relay-{run}/1', 1")),
        (tail::TAIL.to_owned(), format!("{run}, 0, 0, 10, 8000000")),
        (tail::BEYOND.to_owned(), "9000000000, 0, 0".to_owned()),
        (tail::TAIL_END.to_owned(), String::new()),
        (
            append::text(false, false).to_owned(),
            batch(&name, ENTRIES, &mark(if run < SMALL { 0 } else { SMALL })),
        ),
        (
            append::text(true, true).to_owned(),
            batch(&format!("{name}-new"), 0, "''") + ", " + &work(run),
        ),
    ];
    statements.extend(filters_of_each_kind().iter().map(|filter| {
        let app = filter.app.as_ref().map_or("NULL", |_| "'a'");
        let status = match filter.statuses.len() {
            0 => "NULL",
            1 => "'{completed}'",
            _ => "'{running,suspended,completed}'",
        };
        let label = filter
            .label
            .as_ref()
            .map_or("NULL", |_| "sha256(('k' || chr(1) || 7)::bytea)");
        (
            runs::select(filter),
            format!("'t', 0, 9000000000, 0, 11, {app}, {status}, {label}"),
        )
    }));
    statements
}

/// A batch of one entry, for a stream that ends at `seq` with a digest.
fn batch(name: &str, seq: usize, digest: &str) -> String {
    let next = seq + 1;
    format!(
        "ARRAY[tape_key('{name}')], ARRAY['{name}'], '{{{seq}}}', '{{0}}', '{{{next}}}', '{{0}}', ARRAY[sha256('')], '{{t}}', \
         ARRAY[{digest}]::bytea[], '{{1}}', '{{{next}}}', ARRAY[sha256('')], ARRAY[sha256('b')], ARRAY[sha256('e')], ARRAY[sha256('p')]"
    )
}

/// Work that is removed and added, a row of the list of runs and a snapshot.
fn work(run: usize) -> String {
    format!(
        "'{{1}}', '{{1}}', '{{{run}}}', '{{run}}', '{{1}}', '{{1}}', '{{2000000000}}', '{{run}}', '{{1}}', '{{5}}', '{{5}}', '{{t}}', '{{a}}', \
         '{{running}}', '{{x}}', ARRAY[sha256('l')], '{{1}}', '{{1}}', ARRAY[sha256('s')], '{{1}}'"
    )
}

/// How many pages a statement touches. Fails where it reads a table or an index from one end to the other.
async fn pages(links: &Links, statement: &str, arguments: &str) -> u64 {
    let run = |text: String| async move { links.run(sqlx::query(AssertSqlSafe(text))).await.unwrap() };
    run(format!("PREPARE q AS {statement}")).await;
    let call = if arguments.is_empty() {
        "q".to_owned()
    } else {
        format!("q({arguments})")
    };
    let rows = run(format!(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON, TIMING OFF) EXECUTE {call}"
    ))
    .await;
    run("DEALLOCATE q".to_owned()).await;
    let text: String = rows[0].try_get_unchecked(0).unwrap();
    let explained: Value = serde_json::from_str(&text).unwrap();
    let plan = &explained[0]["Plan"];
    check(plan, statement);
    ["Shared Hit Blocks", "Shared Read Blocks"]
        .iter()
        .map(|count| plan[count].as_u64().unwrap())
        .sum()
}

fn check(node: &Value, statement: &str) {
    let (kind, table) = (
        node["Node Type"].as_str().unwrap(),
        node["Relation Name"].as_str(),
    );
    let scans_all = kind == "Seq Scan" && table != Some("tape_store");
    let searched = !kind.starts_with("Index") || node.get("Index Cond").is_some();
    assert!(!scans_all && searched, "{kind} of {table:?} in {statement}");
    assert!(
        !kind.starts_with("Gather") && !kind.starts_with("Bitmap"),
        "{kind} in {statement}"
    );
    // Only pages that are bounded already are sorted.
    let rows = node["Actual Rows"].as_u64().unwrap_or_default();
    assert!(
        kind != "Sort" || rows <= 16,
        "a sort of {rows} rows in {statement}"
    );
    for child in node["Plans"].as_array().into_iter().flatten() {
        check(child, statement);
    }
}

#[tokio::test]
async fn statements_cost_what_they_return_whatever_the_history() {
    let large = std::env::var("TAPE_PLAN_RUNS").map_or(8_000, |runs| runs.parse().unwrap());
    let Some(database) = Database::create() else {
        return;
    };
    let target: Target = format!("{}?statement_timeout_ms=600000", database.url())
        .parse()
        .unwrap();
    // The feed is read up to a transaction id; ids would have grown with the history.
    database.psql("UPDATE tape_store SET base = 10000000000");
    let mut before = Vec::new();
    for (from, to) in [(0, SMALL), (SMALL, large)] {
        database.psql(&grow(from, to));
        let links = Links::new(&target, 1);
        let mut counts = Vec::new();
        for (statement, arguments) in statements(to / 2) {
            counts.push(pages(&links, &statement, &arguments).await);
        }
        for ((count, small), (statement, _)) in counts.iter().zip(&before).zip(statements(0)) {
            assert!(
                *count <= small + PAGES_MORE,
                "{count} pages after {small}: {statement}"
            );
        }
        before = counts;
    }
}
