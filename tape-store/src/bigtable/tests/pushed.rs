//! Commits of others through the change stream: streams that break, expire or are silent, and partitions that split and merge.

use super::logbook::Logbook;
use super::pen::{Pen, all};
use super::service::{ChangeStream, Service};
use super::{NEVER, SHARDS, bigtable_emulator};
use crate::bigtable::end::End;
use crate::bigtable::hint;
use crate::bigtable::links::{Access, Links};
use crate::bigtable::watch::{Pace, Watch};
use crate::bigtable::{BigtableStore, Target, migrate};
use crate::contract::{Cursor, JournalStore, Shard};
use crate::wake::Wake;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::Seq;
use tape_environment::{Environment as _, Machine, machine};
use tokio::sync::watch;
use tonic::Status;

/// Streams may be silent for as long as the tests run.
const SLOW: Pace = Pace {
    heartbeat: Duration::from_secs(5),
    silence: NEVER,
    pause: Duration::from_millis(1),
    pause_max: Duration::from_millis(20),
};
const LOST: &str = "the change stream is not heard";

/// A service, a watch on its change stream, and how often the watch woke readers.
struct Scene {
    service: Service,
    target: Target,
    watch: Watch,
    wakes: watch::Receiver<u64>,
}

impl Scene {
    async fn begin(partitions: &[&str], pace: Pace) -> Option<Self> {
        Self::asking(partitions, pace, Ok(true)).await
    }

    async fn asking(partitions: &[&str], pace: Pace, of_table: Result<bool, Status>) -> Option<Self> {
        let table = bigtable_emulator::Table::new()?;
        let service = Service::start(table.address(), partitions).await;
        service.say_of_table(of_table);
        let url = table.url().replace(table.address(), service.address());
        let target: Target = url.parse().unwrap();
        let wake = Arc::new(Wake::new());
        let wakes = wake.subscribe();
        let access = Access::new(&target).unwrap();
        let watch = Watch::start(&target, &access, &wake, true, pace, machine());
        Some(Self {
            service,
            target,
            watch,
            wakes,
        })
    }

    /// The next wake-up, which is the only one since the last.
    async fn woken(&mut self) {
        let before = *self.wakes.borrow();
        self.wakes.changed().await.expect("the wake is there");
        assert_eq!(*self.wakes.borrow(), before + 1, "woken once");
    }

    /// A working stream of the whole table.
    async fn heard(&mut self) -> ChangeStream {
        let stream = self.service.opened().await;
        stream.beat("begun");
        self.woken().await;
        assert!(self.watch.is_pushed());
        stream
    }
}

/// The changes of a commit in a stream's row, the head last.
fn commit(stream: &ChangeStream, place: &str) {
    let end = End {
        seq: Seq(3),
        ..End::default()
    };
    let mut mutations = end.cells();
    mutations.reverse();
    stream.change(b"s0000/t/run/app/user/session/a", mutations, place);
}

/// Changes before a commit, and changes that are no commit.
fn announce(stream: &ChangeStream, place: &str) {
    let hint = hint::write(Bytes::from_static(b"n00t/run"), &End::default(), Machine.wall());
    stream.change(&hint.key, hint.mutations, place);
}

#[tokio::test]
async fn commits_wake_and_nothing_else_does() {
    let Some(mut scene) = Scene::begin(&["-m", "m-"], SLOW).await else {
        return;
    };
    let [low, high] = scene.service.opened_two().await;
    assert!(low.places().is_empty() && high.places().is_empty(), "from now on");
    low.beat("1");
    announce(&low, "2");
    commit(&low, "3");
    scene.woken().await;
    assert!(!scene.watch.is_pushed(), "not before all partitions are heard");
    high.beat("3");
    scene.woken().await;
    assert!(scene.watch.is_pushed());
    announce(&high, "4");
    commit(&high, "5");
    scene.woken().await;
    low.beat("6");
    announce(&low, "7");
    commit(&low, "8");
    scene.woken().await;
}

/// A commit as the first record of a stream also wakes waiting readers.
#[tokio::test]
async fn a_commit_that_a_stream_begins_with_wakes() {
    let Some(mut scene) = Scene::begin(&["-m", "m-"], SLOW).await else {
        return;
    };
    let [low, _high] = scene.service.opened_two().await;
    commit(&low, "1");
    scene.woken().await;
    assert!(!scene.watch.is_pushed());
}

#[tokio::test]
async fn a_partition_that_is_split_is_read_on_in_both() {
    let Some(mut scene) = Scene::begin(&["-"], SLOW).await else {
        return;
    };
    let whole = scene.heard().await;
    whole.close(&[("-m", "-m", "low"), ("m-", "m-", "high")]);
    scene.woken().await;
    assert!(!scene.watch.is_pushed(), "until both are heard");
    let [low, high] = scene.service.opened_two().await;
    assert_eq!(
        (low.places(), high.places()),
        (vec!["low".to_owned()], vec!["high".to_owned()])
    );
    commit(&low, "1");
    scene.woken().await;
    assert!(!scene.watch.is_pushed());
    high.beat("2");
    scene.woken().await;
    assert!(scene.watch.is_pushed());
    commit(&high, "3");
    scene.woken().await;
    whole.left().await;
}

#[tokio::test]
async fn partitions_that_are_merged_are_read_on_once_both_were_closed() {
    let Some(mut scene) = Scene::begin(&["-m", "m-"], SLOW).await else {
        return;
    };
    let [low, high] = scene.service.opened_two().await;
    low.beat("1");
    high.beat("2");
    scene.woken().await;
    low.close(&[("-", "-m", "low")]);
    scene.woken().await;
    assert!(!scene.watch.is_pushed());
    // The partition that is not closed yet is still followed.
    commit(&high, "3");
    scene.woken().await;
    assert!(scene.service.nothing_more_was_opened());
    high.close(&[("-", "m-", "high")]);
    let whole = scene.service.opened().await;
    assert_eq!(whole.places(), ["low", "high"]);
    whole.beat("4");
    scene.woken().await;
    assert!(scene.watch.is_pushed());
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_from_where_it_was() {
    let mut log = Logbook::begin();
    let Some(mut scene) = Scene::begin(&["-"], SLOW).await else {
        return;
    };
    let stream = scene.service.opened().await;
    let from = stream.request.start_from.clone();
    stream.fail(Status::unavailable("not yet"));
    log.has(LOST).await;
    let mut stream = scene.service.opened().await;
    assert_eq!(stream.request.start_from, from, "nothing was heard yet");
    for (n, say) in [ChangeStream::beat, announce, ChangeStream::beat, commit]
        .into_iter()
        .enumerate()
    {
        stream.beat("begun");
        scene.woken().await;
        assert!(scene.watch.is_pushed());
        say(&stream, &n.to_string());
        if n == 3 {
            scene.woken().await;
        }
        stream.fail(Status::unavailable("broken"));
        scene.woken().await;
        assert!(!scene.watch.is_pushed());
        stream = scene.service.opened().await;
        assert_eq!(stream.places(), [n.to_string()]);
    }
    assert_eq!(log.count(LOST), 5, "each time");
    // A stream that is lost again before its first record is not reported again.
    stream.fail(Status::unavailable("broken"));
    let stream = scene.service.opened().await;
    stream.beat("begun");
    scene.woken().await;
    assert_eq!(log.count(LOST), 5);
}

/// Where the service no longer knows a place, or closes a stream without one, the watch restarts with the present partitions.
#[tokio::test]
async fn a_stream_that_cannot_go_on_begins_anew() {
    let mut log = Logbook::begin();
    let Some(mut scene) = Scene::begin(&["-"], SLOW).await else {
        return;
    };
    let stream = scene.heard().await;
    scene.service.divide(&["-m", "m-"]);
    stream.fail(Status::out_of_range("the place is too old"));
    scene.woken().await;
    assert!(!scene.watch.is_pushed());
    let [low, high] = scene.service.opened_two().await;
    assert!(low.places().is_empty() && high.places().is_empty(), "from now on");
    low.beat("1");
    high.beat("2");
    scene.woken().await;
    assert!(scene.watch.is_pushed());
    scene.service.divide(&["-"]);
    low.close(&[]);
    scene.woken().await;
    assert!(scene.heard().await.places().is_empty());
    // The other partition is read as part of the whole, and no longer separately.
    high.left().await;
    assert_eq!(log.count(LOST), 2);
    log.has("INFO message=commits of other servers are pushed").await;
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_lost() {
    let pace = Pace {
        silence: Duration::from_millis(50),
        ..SLOW
    };
    let mut log = Logbook::begin();
    let Some(mut scene) = Scene::begin(&["-"], pace).await else {
        return;
    };
    let silent = scene.service.opened().await;
    log.has(LOST).await;
    scene.service.opened().await;
    silent.left().await;
}

/// An unavailable service is tried again until it is available.
#[tokio::test]
async fn a_service_that_is_away_is_found_when_it_is_back() {
    let mut log = Logbook::begin();
    let Some(mut scene) = Scene::begin(&[], SLOW).await else {
        return;
    };
    log.has("no partition is left").await;
    scene.service.divide(&["-"]);
    scene.heard().await;
}

#[tokio::test]
async fn nobody_reads_once_the_watch_is_over() {
    let Some(mut scene) = Scene::begin(&["-m", "m-"], SLOW).await else {
        return;
    };
    let [low, high] = scene.service.opened_two().await;
    low.beat("1");
    drop(scene.watch);
    low.left().await;
    high.left().await;
}

#[tokio::test]
async fn where_there_is_no_change_stream_or_none_is_known_of_that_is_said() {
    for (of_table, said) in [
        (Ok(false), "INFO message=commits of other servers are looked for"),
        (
            Err(Status::permission_denied("who are you")),
            "WARN message=commits of other servers are looked for",
        ),
    ] {
        let mut log = Logbook::begin();
        let Some(mut scene) = Scene::asking(&["-"], SLOW, of_table).await else {
            return;
        };
        log.has(said).await;
        assert!(!scene.watch.is_pushed() && scene.service.nothing_more_was_opened());
    }
}

/// The emulator crashes when it is asked for a change stream.
#[tokio::test]
async fn before_an_emulator_commits_are_looked_for() {
    let log = Logbook::begin();
    let Some(table) = bigtable_emulator::Table::new() else {
        return;
    };
    for push in ["auto", "on", "off"] {
        let target: Target = format!("{}&push={push}", table.url()).parse().unwrap();
        let store = BigtableStore::open(&target).await.unwrap();
        assert!(!store.capabilities().pushed);
    }
    assert_eq!(log.count("reason=\"an emulator has no change streams\""), 2);
    assert_eq!(log.count("reason=\"push=off\""), 1);
}

/// A server learns of the commits of another: a reader that looks when it is woken finds them.
#[tokio::test]
async fn a_commit_of_another_server_is_found_by_who_is_woken() {
    let Some(mut scene) = Scene::begin(&["-"], SLOW).await else {
        return;
    };
    let _stream = scene.heard().await;
    migrate(&scene.target, false).await.unwrap();
    let links = || Links::new(&scene.target, &Access::new(&scene.target).unwrap()).unwrap();
    let store = || BigtableStore::over(Arc::new(links()), SHARDS, NEVER, machine());
    let (reader, writer) = (store(), store());
    let mut pen = Pen::new("a");
    let shard = Shard::of(&pen.stream, SHARDS);
    let mut cursor = Cursor::default();
    for n in 1..=20 {
        let mut wakes = scene.wakes.clone();
        wakes.mark_unchanged();
        pen.put(&writer, "x", n).await;
        wakes.changed().await.unwrap();
        let page = reader.tail(shard, &cursor, 100).await.unwrap();
        assert_eq!(page.entries.len(), n, "all of the commit");
        cursor = page.cursor;
    }
    assert_eq!(all(&reader, &pen.stream).await.len(), 210);
}
