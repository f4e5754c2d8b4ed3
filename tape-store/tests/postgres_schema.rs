//! The tables are made and upgraded while servers of several versions write.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod postgres_server;

use pen::Pen;
use postgres_server::Database;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tape_core::id::Seq;
use tape_store::contract::JournalStore;
use tape_store::error::StoreError;
use tape_store::migrated::Migrated;
use tape_store::postgres::{PostgresStore, Target, migrate};

fn with(url: &str, parameters: &str) -> Target {
    format!("{url}?{parameters}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_migrates_and_others_wait() {
    let Some(database) = Database::bare() else { return };
    let target: Target = database.url().parse().unwrap();
    assert_eq!(migrate(&target, true).await.unwrap(), Migrated { from: 0, to: 4 });
    assert_eq!(
        database.psql("SELECT count(*) FROM pg_class WHERE relname LIKE 'tape%'"),
        "0",
        "a dry run changes nothing"
    );
    let absent = tape_store::open::check_exists(&database.url()).await;
    assert!(
        matches!(&absent, Err(StoreError::Invalid { problem, .. }) if problem.contains("tape-server migrate")),
        "{absent:?}"
    );
    let never = with(&database.url(), "migrate=never");
    assert!(matches!(
        PostgresStore::open(&never).await,
        Err(StoreError::Invalid { .. })
    ));
    let opened = futures::future::join_all((0..8).map(|_| PostgresStore::open(&target))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    assert_eq!(database.psql("SELECT count(*) FROM tape_schema"), "4");
    assert_eq!(
        migrate(&target, false).await.unwrap(),
        Migrated { from: 4, to: 4 }
    );
    PostgresStore::open(&never).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_stops_an_older_build_unless_it_says_otherwise() {
    let Some(database) = Database::create() else {
        return;
    };
    let target: Target = database.url().parse().unwrap();
    database.psql("INSERT INTO tape_schema VALUES (5, 4)");
    PostgresStore::open(&target)
        .await
        .expect("version 5 says that builds of version 4 work with it");
    database.psql("INSERT INTO tape_schema VALUES (6, 5)");
    let refused = PostgresStore::open(&target).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 6, known: 4 }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("use a newer build"), "{refused}");
}

/// The writes of a server of the first version of the schema: it knows no streams that begin later than their first entry, and not their
/// index.
async fn write_as_version_1(pool: &sqlx::PgPool, n: usize, writing: &AtomicBool) -> i64 {
    let mut last = 0;
    while last < 20 || writing.load(Ordering::Acquire) {
        let begin = "INSERT INTO tape_head(key, name, part, seq, epoch, digest) \
             SELECT tape_key($1), $1, part, 1, 0, sha256('') FROM tape_store ON CONFLICT (key) DO UPDATE SET seq = tape_head.seq + 1 \
             RETURNING stream, seq, part";
        let entry = "INSERT INTO tape_entry(ord, stream, seq, part, digest, batch, envelope, payload) \
             SELECT pg_current_xact_id()::text::bigint + base, $1, $2, $3, sha256(''), sha256($4), '', '' FROM tape_store";
        let mut transaction = pool.begin().await.unwrap();
        let (stream, seq, part): (i64, i64, i16) = sqlx::query_as(begin)
            .bind(format!("t/run/app/user/session/old-{n}"))
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        let written = sqlx::query(entry).bind(stream).bind(seq).bind(part);
        written
            .bind(format!("{n} {seq}").into_bytes())
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        last = seq;
    }
    last
}

/// The tables of version 1 become those of version 2 while servers of version 1 write before, during and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_version_is_made_while_servers_of_the_first_write() {
    let Some(database) = Database::bare() else { return };
    database.psql(include_str!("../src/postgres/schema.sql"));
    database.psql(
        "CREATE TABLE tape_schema(version int PRIMARY KEY, compatible_from int NOT NULL, \
           migrated_at timestamptz NOT NULL DEFAULT now()); INSERT INTO tape_schema VALUES (1, 1)",
    );
    let url = database.url();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let writing = Arc::new(AtomicBool::new(true));
    let old = |n| {
        let (pool, writing) = (pool.clone(), Arc::clone(&writing));
        tokio::spawn(async move { write_as_version_1(&pool, n, &writing).await })
    };
    let old: Vec<_> = (0..3).map(old).collect();
    let target: Target = url.parse().unwrap();
    let opened = futures::future::join_all((0..4).map(|_| PostgresStore::open(&target))).await;
    let store = opened.into_iter().next().unwrap().unwrap();
    let mut pen = Pen::new("new");
    pen.put(&store, "x", 5).await;
    store.drop_before(&[(pen.stream.clone(), Seq(5))]).await.unwrap();
    writing.store(false, Ordering::Release);
    for (n, last) in futures::future::join_all(old).await.into_iter().enumerate() {
        let entries = pen::all(&store, &Pen::new(&format!("old-{n}")).stream).await;
        assert_eq!(
            entries.len() as u64,
            last.unwrap().unsigned_abs(),
            "all that was written is read"
        );
    }
    assert_eq!(pen::all(&store, &pen.stream).await.len(), 1);
    assert_eq!(
        database.psql("SELECT version, compatible_from FROM tape_schema ORDER BY version"),
        "1|1\n2|1\n3|1\n4|1"
    );
    assert_eq!(
        database.psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'tape_head_part'::regclass"),
        "t"
    );
}
