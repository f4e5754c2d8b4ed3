//! Dropped entries give their space back while others write, read, follow and erase.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pen;
mod postgres_server;

use pen::Pen;
use postgres_server::Database;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tape_core::chain::Verifier;
use tape_core::id::Seq;
use tape_store::contract::{Cursor, JournalStore, Shard};
use tape_store::postgres::PostgresStore;

const FEED: Shard = Shard(0);

async fn open(url: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::open(&url.parse().unwrap()).await.unwrap())
}

fn pages(database: &Database) -> String {
    database.psql("SELECT sum(pg_relation_size(format('tape_entry_%s', n))) FROM generate_series(1, 12) n")
}

/// Runs begin and are dropped while others are written, read and followed. Two servers give space back meanwhile. No call returns an error,
/// no kept entry is missing anywhere, and in the end no part has more than three rows of garbage for each kept row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_is_given_back_beside_writers_and_readers() {
    const LIVE: usize = 4;
    const COMING: usize = 4;
    const ROUNDS: usize = 25;
    let Some(database) = Database::create() else {
        return;
    };
    let url = database.url();
    let stores = futures::future::join_all((0..3).map(|_| open(&url))).await;
    let busy = Arc::new(AtomicUsize::new(LIVE + COMING));
    let live = |n: usize| {
        let (store, busy) = (Arc::clone(&stores[n % 3]), Arc::clone(&busy));
        tokio::spawn(async move {
            let mut pen = Pen::new(&format!("live-{n}"));
            for _ in 0..ROUNDS * 2 {
                pen.put(store.as_ref(), "goes on", 2).await;
                let entries = pen::all(store.as_ref(), &pen.stream).await;
                assert_eq!(entries.len() as u64, pen.seq.0);
            }
            busy.fetch_sub(1, Ordering::Release);
            pen
        })
    };
    let coming = |n: usize| {
        let (store, busy) = (Arc::clone(&stores[n % 3]), Arc::clone(&busy));
        tokio::spawn(async move {
            let mut pens = Vec::new();
            for round in 0..ROUNDS {
                let mut pen = Pen::new(&format!("coming-{n}-{round}"));
                pen.put(store.as_ref(), &"x".repeat(500), 40).await;
                let drops = [(pen.stream.clone(), pen.seq)];
                store.drop_before(&drops).await.unwrap();
                pens.push(pen);
            }
            busy.fetch_sub(1, Ordering::Release);
            pens
        })
    };
    let live: Vec<_> = (0..LIVE).map(live).collect();
    let coming: Vec<_> = (0..COMING).map(coming).collect();
    let reclaim = |store: Arc<PostgresStore>| {
        let busy = Arc::clone(&busy);
        tokio::spawn(async move {
            while busy.load(Ordering::Acquire) > 0 {
                store.reclaim().await.unwrap();
            }
        })
    };
    let reclaimers: Vec<_> = stores[..2].iter().cloned().map(reclaim).collect();
    let (store, following) = (Arc::clone(&stores[2]), Arc::clone(&busy));
    let follower = tokio::spawn(async move {
        let (mut cursor, mut seen) = (Cursor::default(), HashMap::<String, Vec<u64>>::new());
        loop {
            let over = following.load(Ordering::Acquire) == 0;
            let page = store.tail(FEED, &cursor, 7).await.unwrap();
            if page.entries.is_empty() && over {
                return seen;
            }
            for fed in page.entries {
                seen.entry(fed.stream.to_string())
                    .or_default()
                    .push(fed.entry.seq.0);
            }
            cursor = page.cursor;
        }
    });
    let live: Vec<Pen> = futures::future::join_all(live)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let gone: Vec<Pen> = futures::future::join_all(coming)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    for reclaimer in reclaimers {
        reclaimer.await.unwrap();
    }
    let seen = follower.await.unwrap();
    for pen in &live {
        let all: Vec<u64> = (1..=pen.seq.0).collect();
        assert_eq!(seen[&pen.stream.to_string()], all, "once each, in order");
        let entries = pen::all(stores[0].as_ref(), &pen.stream).await;
        let mut verifier = Verifier::new(&pen.stream, Some((pen.seq, pen.digest)));
        entries.iter().for_each(|entry| verifier.check(entry).unwrap());
        verifier.finish().unwrap();
    }
    for pen in &gone {
        assert_eq!(seen[&pen.stream.to_string()].last(), Some(&pen.seq.0));
    }
    while stores[0].reclaim().await.unwrap() {}
    let untidy = database.psql(
        "SELECT n FROM generate_series(1, 12) n WHERE \
           (SELECT count(*) FROM tape_entry WHERE part = n) > 4 * (SELECT coalesce(sum(seq - first + 1), 0) FROM tape_head WHERE part = n) \
           OR pg_relation_size(format('tape_entry_%s', n)) > 0 AND NOT EXISTS (SELECT FROM tape_head WHERE part = n)",
    );
    assert_eq!(untidy, "", "parts that are garbage for the most part");
    for pen in live.iter().chain(&gone) {
        let entries = pen::all(stores[1].as_ref(), &pen.stream).await;
        assert_eq!(entries.last().map(|entry| entry.seq), Some(pen.seq));
        let kept = if pen.stream.to_string().contains("coming") {
            1
        } else {
            pen.seq.0
        };
        assert_eq!(entries.len() as u64, kept, "{}", pen.stream);
    }
}

/// A session reads an old part for long, as a copy of the database would. The part is left for later, after a bounded number of tries, and
/// no other session waits for longer than one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_somebody_reads_is_left_for_later() {
    let Some(database) = Database::create() else {
        return;
    };
    let url = database.url();
    let store = open(&url).await;
    let mut pen = Pen::new("gone");
    pen.put(store.as_ref(), "x", 100).await;
    store.drop_before(&[(pen.stream.clone(), pen.seq)]).await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM tape_entry_1 LIMIT 1")
        .fetch_all(&mut *reader)
        .await
        .unwrap();
    // A server whose statements may wait for a lock hardly longer than one try lasts.
    let impatient = open(&format!("{url}?statement_timeout_ms=1000")).await;
    let reclaiming = tokio::spawn({
        let store = Arc::clone(&store);
        async move { while store.reclaim().await.unwrap() {} }
    });
    let mut live = Pen::new("live");
    let mut rounds = 0;
    while !reclaiming.is_finished() || rounds < 20 {
        rounds += 1;
        live.put(impatient.as_ref(), "x", 1).await;
        assert_eq!(
            pen::all(impatient.as_ref(), &live.stream).await.len() as u64,
            live.seq.0
        );
        impatient.tail(FEED, &Cursor::default(), 10).await.unwrap();
    }
    reclaiming.await.unwrap();
    assert_ne!(pages(&database), "0", "it gave up for now");
    reader.rollback().await.unwrap();
    while store.reclaim().await.unwrap() {}
    assert_eq!(
        database.psql("SELECT pg_relation_size('tape_entry_1')"),
        "0",
        "later came"
    );
    assert_eq!(
        pen::all(impatient.as_ref(), &live.stream).await.len() as u64,
        live.seq.0
    );
}

/// A payload that is erased while its run moves is erased in the copy too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_while_a_run_moves_stays_erased() {
    let Some(database) = Database::create() else {
        return;
    };
    let url = database.url();
    let (store, other) = (open(&url).await, open(&url).await);
    let mut live = Pen::new("live");
    live.put(store.as_ref(), "secret", 300).await;
    let mut gone = Pen::new("gone");
    for _ in 0..5 {
        gone.put(store.as_ref(), "x", 300).await;
    }
    store
        .drop_before(&[(gone.stream.clone(), gone.seq)])
        .await
        .unwrap();
    let stream = live.stream.clone();
    let erasing = tokio::spawn(async move {
        for seq in 1..=300 {
            other.erase(&stream, &[Seq(seq)]).await.unwrap();
        }
    });
    while store.reclaim().await.unwrap() {}
    erasing.await.unwrap();
    assert_eq!(
        database.psql("SELECT part FROM tape_head WHERE name LIKE '%/live'"),
        "0",
        "it has moved"
    );
    let left = "SELECT count(*) FROM tape_entry e JOIN tape_head h USING (stream) WHERE h.name LIKE '%/live' AND payload IS NOT NULL";
    assert_eq!(database.psql(left), "0");
    assert_eq!(pen::all(store.as_ref(), &live.stream).await.len(), 300);
}
