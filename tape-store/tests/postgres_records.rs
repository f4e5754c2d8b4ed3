//! Records of readers of the feed in PostgreSQL: changes that are held up, and the space of records that change often.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod postgres_server;
mod proxy;

use postgres_server::{Cluster, Database};
use proxy::Proxy;
use tape_store::cursors::{CursorStore, Record, Swap};
use tape_store::error::StoreError;
use tape_store::postgres::{PostgresStore, Target};

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(&url.parse::<Target>().unwrap())
        .await
        .unwrap()
}

fn record(version: u64, text: &'static str) -> Record {
    Record {
        version,
        bytes: text.into(),
    }
}

fn replace(expected: u64, next: &Record) -> Swap {
    Swap::Replace {
        expected,
        next: next.clone(),
    }
}

async fn make(store: &PostgresStore, name: &str) {
    let made = store.swap_record(name, &Swap::Make(record(1, "made"))).await;
    assert!(made.unwrap());
}

/// A change that is delayed on the way is an error for its caller. It arrives later, and is made only if its version is still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_record_that_is_held_up_is_made_under_its_version_only() {
    let Some(database) = Database::create() else {
        return;
    };
    let proxy = Proxy::start(database.port()).await;
    let through = format!(
        "{}?statement_timeout_ms=500&commit_connections=1",
        database.url_at(proxy.port())
    );
    let (late, in_time) = (open(&through).await, open(&database.url()).await);
    for (name, moves) in [("moved", true), ("left", false)] {
        // The connection is there and knows the statement, so that nothing but the change is held up.
        make(&late, name).await;
        let known = late.swap_record(name, &replace(1, &record(2, "known"))).await;
        assert!(known.unwrap());
        proxy.hold();
        let answer = late.swap_record(name, &replace(2, &record(3, "late"))).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable { .. })),
            "{answer:?}"
        );
        let before = in_time.record(name).await.unwrap();
        assert_eq!(before, Some(record(2, "known")), "it has not arrived");
        let mut expected = record(3, "late");
        if moves {
            expected = record(4, "in time");
            let change = in_time.swap_record(name, &replace(2, &expected)).await;
            assert!(change.unwrap());
        }
        proxy.release().await;
        assert_eq!(in_time.record(name).await.unwrap(), Some(expected));
    }
}

/// Each change of a record is made in the page where the record is, beside all others, so that no index has to change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_change_often_stay_in_their_pages() {
    const PLACES: &str =
        "SELECT string_agg(split_part(ctid::text, ',', 1), ' ' ORDER BY name) FROM tape_record";
    // Open transactions of other tests would keep what was replaced.
    let Some(cluster) = Cluster::own() else { return };
    let database = cluster.database();
    database.psql(
        "INSERT INTO tape_record(name, version, bytes) \
         SELECT 't/' || i || '/0', 1, repeat('x', 100)::bytea FROM generate_series(1, 500) i",
    );
    let before = database.psql(PLACES);
    assert!(
        before.split(' ').any(|place| place != "(0"),
        "they need several pages"
    );
    for version in 1..4 {
        // A transaction each, as a swap is.
        database.psql(&format!(
            "DO $$ DECLARE n text; BEGIN PERFORM set_config('synchronous_commit', 'off', false); FOR n IN SELECT name FROM tape_record ORDER BY name LOOP \
               UPDATE tape_record SET version = {version} + 1 WHERE name = n AND version = {version}; COMMIT; END LOOP; END $$"
        ));
    }
    let after = database.psql(PLACES);
    let stayed = before.split(' ').zip(after.split(' '));
    let stayed = stayed.filter(|(before, after)| before == after).count();
    assert!(stayed >= 490, "{stayed} of 500 records stayed in their pages");
}
