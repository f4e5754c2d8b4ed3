//! Random histories: after any operations, a store agrees with the store in memory.

use super::Fixture;
use super::pen::{Dice, Pen};
use crate::contract::{Batch, Committed, JournalStore, RunFilter, Shard, SnapshotChange};
use crate::error::CommitError;
use crate::memory::MemoryStore;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::id::{Epoch, Key, Seq, StreamId, Tenant, TimerName};
use tape_core::payload::Digest;
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

const STREAMS: usize = 6;
const STEPS: usize = 150;

/// The histories' seeds: more of them find more, each takes some tens of milliseconds.
const SEEDS: u64 = 12;

pub(super) async fn random_histories_are_as_in_memory(fixture: Fixture) {
    let store = fixture.store.as_ref();
    for seed in 0..SEEDS {
        // Each history has a tenant of its own, so one store serves all.
        let model = MemoryStore::with_shards(store.capabilities().shards);
        let mut history = History::new(seed);
        for step in 0..STEPS {
            history
                .step(store, &model, &format!("seed {seed}, step {step}"))
                .await;
        }
        history.compare(store, &model, &format!("seed {seed}")).await;
    }
}

struct History {
    dice: Dice,
    tenant: Tenant,
    pens: Vec<Pen>,
    /// The index, by stream.
    agenda: Vec<BTreeMap<(Queue, Item), Timestamp>>,
    batches: Vec<Batch>,
}

impl History {
    fn new(seed: u64) -> Self {
        let tenant = Tenant::new(format!("history-{seed}")).expect("it is a name");
        let run = |n: usize| {
            let run = super::pen::run(&format!("run-{n}"));
            Pen::on(StreamId::Run(tape_core::id::RunId {
                tenant: tenant.clone(),
                ..run
            }))
        };
        let pens = (0..STREAMS).map(run).collect();
        Self {
            dice: Dice(seed),
            pens,
            agenda: vec![BTreeMap::new(); STREAMS],
            batches: Vec::new(),
            tenant,
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.dice.roll(100) < percent
    }

    async fn step(&mut self, store: &dyn JournalStore, model: &MemoryStore, at: &str) {
        let mut streams: Vec<usize> = (0..STREAMS).filter(|_| self.dice.roll(3) == 0).collect();
        if self.chance(50) {
            streams.reverse();
        }
        let batches: Vec<Batch> = streams.iter().map(|n| self.batch(*n)).collect();
        let answers = store.commit(batches.clone()).await;
        let expected = model.commit(batches.clone()).await;
        for ((n, batch), (answer, expected)) in
            streams.iter().zip(&batches).zip(answers.iter().zip(&expected))
        {
            assert_eq!(brief(answer), brief(expected), "{at}: {batch:?}");
            self.batches.push(batch.clone());
            if answer.is_ok() {
                self.pens[*n].advance(batch);
                self.note(*n, &batch.agenda);
            }
        }
        if self.chance(5) {
            let (n, seq) = (
                usize::try_from(self.dice.roll(STREAMS as u64)).unwrap(),
                Seq(self.dice.roll(20)),
            );
            store.erase(&self.pens[n].stream, &[seq]).await.unwrap();
            model.erase(&self.pens[n].stream, &[seq]).await.unwrap();
        }
        if self.chance(4) {
            self.drop(store, model).await;
        }
        let n = usize::try_from(self.dice.roll(STREAMS as u64)).unwrap();
        let after = Seq(self.dice.roll(self.pens[n].seq.0 + 2));
        let stream = &self.pens[n].stream;
        assert_eq!(
            store.head(stream).await.unwrap(),
            model.head(stream).await.unwrap(),
            "{at}"
        );
        let read = store.read(stream, after, 20).await.unwrap();
        assert_eq!(read, model.read(stream, after, 20).await.unwrap(), "{at}");
    }

    async fn drop(&mut self, store: &dyn JournalStore, model: &MemoryStore) {
        let mut drops = Vec::new();
        for n in 0..STREAMS {
            if self.chance(30) {
                let seq = Seq(self.dice.roll(self.pens[n].seq.0 + 3));
                drops.push((self.pens[n].stream.clone(), seq));
            }
        }
        store.drop_before(&drops).await.unwrap();
        model.drop_before(&drops).await.unwrap();
    }

    /// A batch that mostly fits.
    fn batch(&mut self, n: usize) -> Batch {
        let mut pen = self.pens[n].clone();
        if self.chance(10) {
            pen.seq = Seq(self.dice.roll(pen.seq.0 + 3));
        }
        if self.chance(10) {
            pen.epoch = Epoch(self.dice.roll(pen.epoch.0 + 3));
        }
        if self.chance(10) {
            pen.digest = Digest::of(b"of another history");
        }
        let texts: Vec<String> = (0..=self.dice.roll(4)).map(|m| format!("{n}-{m}")).collect();
        let batch = pen.batch(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let next_epoch = if self.chance(15) {
            pen.epoch.next()
        } else {
            pen.epoch
        };
        let snapshot = match self.dice.roll(20) {
            0 | 1 => SnapshotChange::Replace(Bytes::from(format!("state of {n} at {}", batch.last()))),
            2 => SnapshotChange::Delete,
            _ => SnapshotChange::Keep,
        };
        let summary = self.chance(30).then(|| self.summary());
        Batch {
            next_epoch,
            snapshot,
            summary,
            agenda: self.changes(n),
            ..batch
        }
    }

    fn summary(&mut self) -> Summary {
        let status = RunStatus::ALL[usize::try_from(self.dice.roll(7)).unwrap()];
        let label = (Key::new("label").unwrap(), self.dice.roll(3).to_string());
        let begun_at = Timestamp::from_micros(i64::try_from(self.dice.roll(5)).unwrap());
        let labels = BTreeMap::from([label]);
        Summary {
            status,
            labels,
            begun_at,
            changed_at: Timestamp::from_micros(9),
        }
    }

    fn changes(&mut self, n: usize) -> Vec<AgendaChange> {
        let mut changes = BTreeMap::new();
        for _ in 0..self.dice.roll(4) {
            let queue = Queue::ALL[usize::try_from(self.dice.roll(5)).unwrap()];
            let item = Item::Timer(TimerName::new(self.dice.roll(4).to_string()).unwrap());
            let was = self.agenda[n].get(&(queue, item.clone())).copied();
            let due = self
                .chance(60)
                .then(|| Timestamp::from_micros(i64::try_from(self.dice.roll(10)).unwrap()));
            changes.insert(
                (queue, item.clone()),
                AgendaChange {
                    queue,
                    item,
                    was,
                    due,
                },
            );
        }
        changes
            .into_values()
            .filter(|change| change.was != change.due)
            .collect()
    }

    fn note(&mut self, n: usize, changes: &[AgendaChange]) {
        for change in changes {
            let key = (change.queue, change.item.clone());
            match change.due {
                Some(due) => self.agenda[n].insert(key, due),
                None => self.agenda[n].remove(&key),
            };
        }
    }

    async fn compare(&self, store: &dyn JournalStore, model: &MemoryStore, at: &str) {
        let mut fed: HashMap<StreamId, Vec<_>> = HashMap::new();
        for entry in super::feed::read_everything(store).await {
            fed.entry(entry.stream).or_default().push(entry.entry);
        }
        for pen in &self.pens {
            assert_eq!(
                store.head(&pen.stream).await.unwrap(),
                model.head(&pen.stream).await.unwrap(),
                "{at}"
            );
            let entries = super::pen::all(store, &pen.stream).await;
            assert_eq!(entries, super::pen::all(model, &pen.stream).await, "{at}");
            let mut fed = fed.remove(&pen.stream).unwrap_or_default();
            // Dropped entries may still be in the feed.
            fed.retain(|fed| entries.first().is_some_and(|first| fed.seq >= first.seq));
            assert_eq!(fed, entries, "{at}: the feed of {}", pen.stream);
        }
        for batch in self.batches.iter().step_by(11) {
            let fate = store.resolve(batch).await.unwrap();
            assert_eq!(fate, model.resolve(batch).await.unwrap(), "{at}: {batch:?}");
        }
        for queue in Queue::ALL {
            assert_eq!(
                self.due(store, queue).await,
                self.due(model, queue).await,
                "{at}: {queue}"
            );
        }
        for filter in self.filters() {
            let listed = store.runs(&filter, None, 100).await.unwrap().runs;
            assert_eq!(
                sorted(listed),
                sorted(model.runs(&filter, None, 100).await.unwrap().runs),
                "{at}: {filter:?}"
            );
        }
    }

    async fn due(&self, store: &dyn JournalStore, queue: Queue) -> Vec<(Timestamp, String, String)> {
        let mut due = Vec::new();
        for shard in (0..store.capabilities().shards).map(Shard) {
            let hints = store
                .due(queue, shard, Timestamp::from_micros(7), None, 1_000)
                .await
                .unwrap();
            due.extend(
                hints
                    .into_iter()
                    .filter(|hint| *hint.stream.tenant() == self.tenant),
            );
        }
        let mut due: Vec<_> = due
            .into_iter()
            .map(|hint| (hint.due, hint.stream.to_string(), hint.item.to_string()))
            .collect();
        due.sort();
        due
    }

    fn filters(&self) -> Vec<RunFilter> {
        let all = RunFilter::all(self.tenant.clone());
        let mut filters: Vec<_> = RunStatus::ALL
            .iter()
            .map(|status| RunFilter {
                statuses: BTreeSet::from([*status]),
                ..all.clone()
            })
            .collect();
        filters.push(RunFilter {
            statuses: RunStatus::ALL.into_iter().step_by(2).collect(),
            ..all.clone()
        });
        let label = |n: u64| Some((Key::new("label").unwrap(), n.to_string()));
        filters.extend((0..3).map(|n| RunFilter {
            label: label(n),
            ..all.clone()
        }));
        filters.push(RunFilter {
            begun_from: Some(Timestamp::from_micros(3)),
            ..all.clone()
        });
        filters.push(all);
        filters
    }
}

/// Runs that began at the same time may be listed in another order where their batches came in one call.
fn sorted<T: Ord, U>(mut listed: Vec<(T, U)>) -> Vec<(T, U)> {
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    listed
}

/// The part of an answer that all stores give alike.
fn brief(answer: &Result<Committed, CommitError>) -> String {
    match answer {
        Ok(committed) => format!("committed {}", committed.seq),
        Err(CommitError::Conflict {
            expected, current, ..
        }) => format!("conflict {expected} {current}"),
        Err(CommitError::Fenced { given, current, .. }) => format!("fenced {given} {current}"),
        Err(other) => format!("{other}"),
    }
}
