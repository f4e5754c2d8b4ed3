//! Due work: hints that are never missing.

use super::Fixture;
use super::pen::{Pen, commit, run};
use crate::contract::{Batch, Hint, JournalStore, Shard};
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::{Seq, StreamId, TimerName};
use tape_core::time::Timestamp;

const fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn timer(n: i64) -> Item {
    Item::Timer(TimerName::new(format!("timer-{n}")).expect("it is a name"))
}

fn change(queue: Queue, item: Item, was: Option<i64>, due: Option<i64>) -> AgendaChange {
    AgendaChange {
        queue,
        item,
        was: was.map(at),
        due: due.map(at),
    }
}

/// Due work of all shards, by due time, as `(due, stream, item)`.
async fn due(store: &dyn JournalStore, queue: Queue, until: i64) -> Vec<(i64, String, String)> {
    let mut found: Vec<Hint> = Vec::new();
    for shard in 0..store.capabilities().shards {
        let hints = store
            .due(queue, Shard(shard), at(until), None, 1000)
            .await
            .unwrap();
        assert!(
            hints.is_sorted_by_key(|hint| hint.due),
            "hints come in the order of their times"
        );
        assert!(
            hints
                .iter()
                .all(|hint| hint.queue == queue && hint.due <= at(until))
        );
        let shards = store.capabilities().shards;
        assert!(
            hints
                .iter()
                .all(|hint| Shard::of(&hint.stream, shards) == Shard(shard))
        );
        found.extend(hints);
    }
    let mut found: Vec<_> = found
        .into_iter()
        .map(|hint| {
            (
                hint.due.as_micros(),
                hint.stream.to_string(),
                hint.item.to_string(),
            )
        })
        .collect();
    found.sort();
    found
}

fn name(n: i64) -> String {
    StreamId::Run(run(&format!("run-{n}"))).to_string()
}

pub(super) async fn work_is_found_when_it_is_due(fixture: Fixture) {
    let store = fixture.store.as_ref();
    for n in 0..20 {
        let mut pen = Pen::new(&format!("run-{n}"));
        let agenda = vec![
            change(Queue::Recovery, Item::Run, None, Some(100 - n)),
            change(Queue::Timers, timer(n), None, Some(n)),
            change(Queue::Timers, timer(-n - 1), None, Some(1_000)),
        ];
        pen.put(
            store,
            Batch {
                agenda,
                ..pen.batch(&["x"])
            },
        )
        .await;
    }
    let expected: Vec<_> = (0..=7).map(|n| (n, name(n), timer(n).to_string())).collect();
    assert_eq!(due(store, Queue::Timers, 7).await, expected);
    assert_eq!(due(store, Queue::Timers, 999).await.len(), 20);
    assert_eq!(due(store, Queue::Timers, 1_000).await.len(), 40);
    assert_eq!(due(store, Queue::Recovery, 80).await, []);
    assert_eq!(
        due(store, Queue::Recovery, 81).await,
        [(81, name(19), "run".to_owned())]
    );
    assert_eq!(due(store, Queue::Recovery, i64::MAX).await.len(), 20);
    assert_eq!(due(store, Queue::Outbox, i64::MAX).await, []);
    first_hints_come_first(store).await;
}

async fn first_hints_come_first(store: &dyn JournalStore) {
    for shard in (0..store.capabilities().shards).map(Shard) {
        let every = store
            .due(Queue::Timers, shard, at(i64::MAX), None, 1000)
            .await
            .unwrap();
        let first = store
            .due(Queue::Timers, shard, at(i64::MAX), None, 3)
            .await
            .unwrap();
        assert_eq!(first.len(), every.len().min(3));
        assert_eq!(
            first.last().map(|hint| hint.due),
            every.get(..3).and_then(|hints| Some(hints.last()?.due))
        );
    }
}

pub(super) async fn work_moves_and_goes(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("run-1");
    let begun = vec![
        change(Queue::Recovery, Item::Run, None, Some(10)),
        change(Queue::Timers, timer(1), None, Some(5)),
    ];
    pen.put(
        store,
        Batch {
            agenda: begun,
            ..pen.batch(&["x"])
        },
    )
    .await;
    let later = vec![change(Queue::Recovery, Item::Run, Some(10), Some(20))];
    pen.put(
        store,
        Batch {
            agenda: later,
            ..pen.batch(&["x"])
        },
    )
    .await;
    assert_eq!(
        due(store, Queue::Recovery, 19).await,
        [],
        "the work has moved away"
    );
    assert_eq!(
        due(store, Queue::Recovery, 20).await,
        [(20, name(1), "run".to_owned())]
    );
    let sooner = vec![change(Queue::Recovery, Item::Run, Some(20), Some(-7))];
    pen.put(
        store,
        Batch {
            agenda: sooner,
            ..pen.batch(&["x"])
        },
    )
    .await;
    assert_eq!(
        due(store, Queue::Recovery, 0).await,
        [(-7, name(1), "run".to_owned())]
    );
    let done = vec![
        change(Queue::Recovery, Item::Run, Some(-7), None),
        change(Queue::Timers, timer(1), Some(5), None),
    ];
    pen.put(
        store,
        Batch {
            agenda: done,
            ..pen.batch(&["x"])
        },
    )
    .await;
    for queue in Queue::ALL {
        assert_eq!(due(store, queue, i64::MAX).await, [], "the work is done");
    }
}

pub(super) async fn a_refused_batch_leaves_the_agenda_alone(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pen = Pen::new("run-1");
    let begun = vec![change(Queue::Recovery, Item::Run, None, Some(10))];
    pen.put(
        store,
        Batch {
            agenda: begun,
            ..pen.batch(&["x"])
        },
    )
    .await;
    let agenda = vec![
        change(Queue::Recovery, Item::Run, Some(10), None),
        change(Queue::Outbox, timer(1), None, Some(1)),
    ];
    let behind = Pen {
        seq: Seq(0),
        ..pen.clone()
    };
    commit(
        store,
        Batch {
            agenda,
            ..behind.batch(&["x"])
        },
    )
    .await
    .expect_err("it is behind");
    assert_eq!(
        due(store, Queue::Recovery, 100).await,
        [(10, name(1), "run".to_owned())]
    );
    assert_eq!(due(store, Queue::Outbox, 100).await, []);
}

pub(super) async fn due_work_is_found_among_much_that_is_not(fixture: Fixture) {
    let store = fixture.store.as_ref();
    for group in 0..20 {
        let mut batches = Vec::new();
        for n in group * 100..(group + 1) * 100 {
            // Every two-hundredth run is due; the others are done, or due much later.
            let due = if n % 200 == 0 { 5 } else { 1_000_000 + n };
            let agenda = vec![
                change(Queue::Recovery, Item::Run, None, Some(due)),
                change(Queue::Timers, timer(n), None, Some(1)),
            ];
            batches.push(Batch {
                agenda,
                ..Pen::new(&format!("run-{n}")).batch(&["x"])
            });
        }
        assert!(store.commit(batches).await.iter().all(Result::is_ok));
    }
    let found: Vec<_> = due(store, Queue::Recovery, 10)
        .await
        .into_iter()
        .map(|(_, stream, _)| stream)
        .collect();
    let mut expected: Vec<_> = (0..10).map(|n| name(n * 200)).collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// A run with `timers` timers, all due at one time.
async fn with_timers(store: &dyn JournalStore, name: &str, timers: i64, due: i64) -> Pen {
    let mut pen = Pen::new(name);
    let agenda = (0..timers).map(|n| change(Queue::Timers, timer(n), None, Some(due)));
    let agenda = agenda.collect();
    pen.put(
        store,
        Batch {
            agenda,
            ..pen.batch(&["x"])
        },
    )
    .await;
    pen
}

/// All work due in a shard until a time, `first` and what comes after it, read in pages of `limit`.
async fn paged(
    store: &dyn JournalStore,
    shard: Shard,
    until: i64,
    limit: u32,
    first: Vec<Hint>,
) -> Vec<Hint> {
    let mut found = first;
    loop {
        let page = store
            .due(Queue::Timers, shard, at(until), found.last(), limit)
            .await;
        let page = page.unwrap();
        assert!(page.len() <= limit as usize);
        let full = page.len() == limit as usize;
        found.extend(page);
        assert!(found.len() <= 10_000, "the pages come to no end");
        if !full {
            return found;
        }
    }
}

pub(super) async fn pages_of_due_work_follow_each_other(fixture: Fixture) {
    let store = fixture.store.as_ref();
    let mut pens = Vec::new();
    // Many hints of one time, in one run and in several.
    for n in 0..12 {
        let due = if n < 9 { 5 } else { 6 + n };
        pens.push(with_timers(store, &format!("run-{n}"), 1 + n % 5, due).await);
    }
    for shard in (0..store.capabilities().shards).map(Shard) {
        let all = store
            .due(Queue::Timers, shard, at(20), None, 1_000)
            .await
            .unwrap();
        for limit in [1, 2, 7, 1_000] {
            let pages = paged(store, shard, 20, limit, Vec::new()).await;
            assert_eq!(pages, all, "in pages of {limit}");
            let early = paged(store, shard, 5, limit, Vec::new()).await;
            assert_eq!(
                early,
                all.iter()
                    .filter(|hint| hint.due == at(5))
                    .cloned()
                    .collect::<Vec<_>>()
            );
        }
        let first = store.due(Queue::Timers, shard, at(20), None, 3).await.unwrap();
        let Some(last) = first.last() else { continue };
        // It is done before the next page is read.
        let agenda = vec![change(
            Queue::Timers,
            last.item.clone(),
            Some(last.due.as_micros()),
            None,
        )];
        let pen = pens.iter_mut().find(|pen| pen.stream == last.stream);
        let pen = pen.expect("it is one of these runs");
        let done = Batch {
            agenda,
            ..pen.batch(&["x"])
        };
        pen.put(store, done).await;
        assert_eq!(paged(store, shard, 20, 3, first).await, all);
    }
}
