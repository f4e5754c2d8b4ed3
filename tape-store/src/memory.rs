//! The store in memory: for tests, for experiments, and as the model that other stores are compared with.

use crate::anchor::{Anchored, Anchors, Found};
use crate::contract::{
    Batch, Capabilities, CommitOutcome, Committed, Cursor, FeedEntry, Head, Hint, JournalStore, NamePage,
    PageToken, RunFilter, RunPage, Shard, Snapshot, SnapshotChange, StoreTime, TailPage,
};
use crate::cursors::{CursorStore, Record, Swap};
use crate::error::{CommitError, StoreError};
use crate::listing::Place;
use crate::named::{self, Bounds};
use crate::upkeep::{Correction, End, Indexed, StreamPage, Upkeep};
use crate::wake::Wake;
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, Seq, StreamId, StreamPrefix};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::payload::Digest;
use tape_core::status::Summary;
use tape_core::time::Timestamp;
use tape_environment::{Environment, machine, micros};

/// Keeps everything in the memory of this process. Linearizable; nothing outlives the process.
#[derive(Debug)]
pub struct MemoryStore {
    shards: u16,
    state: Mutex<State>,
    wake: Wake,
    environment: Arc<dyn Environment>,
    /// The time when the store was made, and what had passed by then.
    started: (Timestamp, Duration),
    anchors: Anchors,
}

#[derive(Debug, Default)]
struct State {
    ids: HashMap<StreamId, usize>,
    streams: Vec<Log>,
    feeds: HashMap<Shard, Vec<(usize, usize)>>,
    agenda: BTreeSet<(Queue, Shard, Timestamp, usize, Item)>,
    runs: BTreeMap<Place, usize>,
    /// Sessions and values.
    names: BTreeSet<String>,
    index_version: u32,
    records: BTreeMap<String, Record>,
}

impl State {
    /// Which entry is the last of the first `passed` entries of a feed.
    fn found(&self, feed: &[(usize, usize)], passed: usize) -> Found {
        let Some((id, index)) = passed.checked_sub(1).and_then(|last| feed.get(last)) else {
            return Found::Beyond;
        };
        let entry = self.streams[*id].entry(*index);
        entry.map_or(Found::Dropped, |entry| Found::Entry(entry.digest))
    }
}

#[derive(Debug)]
struct Log {
    stream: StreamId,
    shard: Shard,
    epoch: Epoch,
    /// How many entries were dropped: the first entry kept has the next number.
    dropped: usize,
    entries: Vec<StoredEntry>,
    snapshot: Option<Snapshot>,
    summary: Option<Summary>,
}

impl Log {
    fn seq(&self) -> Seq {
        Seq(self.end() as u64)
    }

    fn ends(&self) -> End {
        End {
            seq: self.seq(),
            epoch: self.epoch,
            digest: self
                .entries
                .last()
                .map_or_else(Digest::default, |entry| entry.digest),
        }
    }

    /// The index of the entry to come.
    fn end(&self) -> usize {
        self.dropped + self.entries.len()
    }

    /// The entry with an index, counted from the stream's first; none where it was dropped or is not there.
    fn entry(&self, index: usize) -> Option<&StoredEntry> {
        self.entries.get(index.checked_sub(self.dropped)?)
    }

    fn place(&self, id: usize) -> Option<Place> {
        self.summary.as_ref().map(|summary| Place {
            begun_at: summary.begun_at,
            stream: id as u64,
        })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store with one shard.
    #[must_use]
    pub fn new() -> Self {
        Self::with_shards(1)
    }

    /// An empty store with `shards` shards, at least one.
    #[must_use]
    pub fn with_shards(shards: u16) -> Self {
        let environment = machine();
        Self {
            shards: shards.max(1),
            state: Mutex::default(),
            wake: Wake::new(),
            started: (environment.wall(), environment.elapsed()),
            environment,
            anchors: Anchors::new(),
        }
    }

    /// The store in another environment than the machine's: it tells the time by its clocks.
    #[must_use]
    pub fn environment(self, environment: Arc<dyn Environment>) -> Self {
        Self {
            started: (environment.wall(), environment.elapsed()),
            environment,
            ..self
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds the state")
    }

    fn check_shard(&self, shard: Shard) -> Result<(), StoreError> {
        if shard.0 < self.shards {
            return Ok(());
        }
        Err(StoreError::Invalid {
            what: "shard",
            problem: format!("{} of {}", shard.0, self.shards),
        })
    }
}

#[async_trait]
impl JournalStore for MemoryStore {
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        let state = self.lock();
        let Some(log) = state.log(stream) else {
            return Ok(None);
        };
        let head = log.entries.last().map(|last| Head {
            seq: last.seq,
            epoch: log.epoch,
            digest: last.digest,
            snapshot: log.snapshot.clone(),
        });
        Ok(head)
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let state = self.lock();
        let Some(log) = state.log(stream) else {
            return Ok(Vec::new());
        };
        let from = usize::try_from(after.0).unwrap_or(usize::MAX);
        let from = from.saturating_sub(log.dropped);
        Ok(log.entries.iter().skip(from).take(page(limit)).cloned().collect())
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let answers: Vec<_> = {
            let mut state = self.lock();
            batches
                .into_iter()
                .map(|batch| state.commit(batch, self.shards))
                .collect()
        };
        if answers.iter().any(Result::is_ok) {
            self.wake.notify();
        }
        answers
    }

    /// No attempt arrives late: a commit is over when its call returns.
    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        let state = self.lock();
        let log = state.log(&batch.stream);
        let end = log.map_or(Seq::ZERO, Log::seq);
        let entry = log.and_then(|log| log.entries.iter().find(|entry| entry.seq >= batch.last()));
        let fate = batch.compare(end, entry).outcome(batch);
        Ok(fate.unwrap_or(CommitOutcome::NotCommitted))
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        self.check_shard(shard)?;
        let state = self.lock();
        let from = match after {
            None => Bound::Included((queue, shard, Timestamp::MIN, 0, Item::Run)),
            Some(after) => match state.ids.get(&after.stream) {
                Some(id) => Bound::Excluded((queue, shard, after.due, *id, after.item.clone())),
                None => Bound::Included((queue, shard, after.due, 0, Item::Run)),
            },
        };
        let due = state
            .agenda
            .range((from, Bound::Unbounded))
            .take_while(|key| (key.0, key.1) == (queue, shard) && key.2 <= until);
        let hint = |key: &(Queue, Shard, Timestamp, usize, Item)| Hint {
            queue,
            stream: state.streams[key.3].stream.clone(),
            item: key.4.clone(),
            due: key.2,
        };
        Ok(due.take(page(limit)).map(hint).collect())
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        self.check_shard(shard)?;
        let anchored = self.anchors.open(cursor)?;
        let place = crate::listing::read_cursor(&anchored.place)?;
        let from = usize::try_from(place).unwrap_or(usize::MAX);
        let state = self.lock();
        let feed = state.feeds.get(&shard).map_or(&[][..], Vec::as_slice);
        if anchored.is_unknown() {
            anchored.check(state.found(feed, from))?;
        }
        let (mut entries, mut end) = (Vec::new(), from);
        for (id, index) in feed.iter().skip(from) {
            if entries.len() == page(limit) {
                break;
            }
            end += 1;
            let log = &state.streams[*id];
            entries.extend(log.entry(*index).map(|entry| FeedEntry {
                stream: log.stream.clone(),
                entry: entry.clone(),
            }));
        }
        let page = TailPage {
            cursor: crate::listing::cursor(end as u64),
            damaged: Vec::new(),
            entries,
        };
        Ok(self.anchors.page(anchored, page))
    }

    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError> {
        self.check_shard(shard)?;
        let state = self.lock();
        let feed = state.feeds.get(&shard).map_or(&[][..], Vec::as_slice);
        let place = crate::listing::cursor(feed.len() as u64);
        let digest = match state.found(feed, feed.len()) {
            Found::Entry(digest) => Some(digest),
            Found::Dropped | Found::Beyond => None,
        };
        Ok(self.anchors.note(&Anchored::new(place, digest)))
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.wake.changed()
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        let from = from.map(Place::read).transpose()?;
        let state = self.lock();
        let after = |place: &Place| from.is_none_or(|from| *place < from);
        let listed = state.runs.iter().rev().filter(|(place, _)| after(place));
        let mut fitting = listed.filter_map(|(place, id)| {
            let log = &state.streams[*id];
            let run = log.stream.as_run().filter(|run| run.tenant == filter.tenant)?;
            let summary = log.summary.as_ref().filter(|summary| filter.fits(run, summary))?;
            Some((*place, (run.clone(), summary.clone())))
        });
        let page: Vec<_> = fitting.by_ref().take(page(limit)).collect();
        let more = fitting.next().is_some();
        let next = page.last().filter(|_| more).map(|(place, _)| place.token());
        Ok(RunPage {
            runs: page.into_iter().map(|(_, run)| run).collect(),
            next,
        })
    }

    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError> {
        let bounds = Bounds::of(prefix, from)?;
        let state = self.lock();
        let names = state.names.range(bounds.from..bounds.before);
        let names = names.take(page(limit)).cloned();
        Ok(named::page(names.collect(), crate::group::page(limit)))
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        let mut state = self.lock();
        let Some(id) = state.ids.get(stream).copied() else {
            return Ok(());
        };
        let log = &mut state.streams[id];
        for seq in entries {
            let index = usize::try_from(seq.0)
                .ok()
                .and_then(|n| n.checked_sub(log.dropped + 1));
            if let Some(entry) = index.and_then(|index| log.entries.get_mut(index)) {
                entry.payload = None;
            }
        }
        Ok(())
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (stream, seq) in drops {
            state.drop_before(stream, *seq);
        }
        Ok(())
    }

    async fn reclaim(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Continues from the time when the store was made, whatever happens to the clock of the machine.
    async fn time(&self) -> Result<StoreTime, StoreError> {
        let (at, then) = self.started;
        let passed = micros(self.environment.elapsed().saturating_sub(then));
        Ok(Timestamp::from_micros(at.as_micros().saturating_add(passed)).into())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "memory",
            shards: self.shards,
            durable: false,
            shared: false,
            commits_at_once: 1,
            pushed: true,
        }
    }
}

#[async_trait]
impl Upkeep for MemoryStore {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        let read = |token: &PageToken| {
            let number = token.0.parse::<usize>().ok();
            number.filter(|number| *number > 0 && number.to_string() == token.0)
        };
        let from = from.map_or(Some(0), read);
        let from = from.ok_or_else(|| StoreError::Invalid {
            what: "page token",
            problem: "it was not made by this store".to_owned(),
        })?;
        let state = self.lock();
        let logs = state.streams.iter().skip(from).take(page(limit));
        let streams: Vec<StreamId> = logs.map(|log| log.stream.clone()).collect();
        let end = from.saturating_add(streams.len());
        Ok(StreamPage {
            next: (end < state.streams.len()).then(|| PageToken(end.to_string())),
            streams,
            unreadable: Vec::new(),
        })
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        let state = self.lock();
        let Some(id) = state.ids.get(stream).copied() else {
            return Ok(Indexed {
                due: vec![false; hints.len()],
                summary: None,
                named: false,
            });
        };
        let log = &state.streams[id];
        let is_there = |hint: &Hint| {
            let key = (hint.queue, log.shard, hint.due, id, hint.item.clone());
            state.agenda.contains(&key)
        };
        Ok(Indexed {
            due: hints.iter().map(is_there).collect(),
            summary: log.summary.clone(),
            named: true,
        })
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let Some(id) = state.ids.get(stream).copied() else {
            return Ok(false);
        };
        let log = &state.streams[id];
        if log.ends() != end {
            return Ok(false);
        }
        state.index(id, &correction.agenda, correction.summary.as_ref());
        if correction.summary.is_some() {
            state.streams[id].summary.clone_from(&correction.summary);
        }
        Ok(true)
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        Ok(self.lock().index_version)
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.index_version = version.max(state.index_version);
        Ok(())
    }
}

#[async_trait]
impl CursorStore for MemoryStore {
    async fn record(&self, name: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.lock().records.get(name).cloned())
    }

    async fn swap_record(&self, name: &str, swap: &Swap) -> Result<bool, StoreError> {
        swap.check(name)?;
        let records = &mut self.lock().records;
        if records.get(name).map(|record| record.version) != swap.expected() {
            return Ok(false);
        }
        match swap.next() {
            Some(next) => drop(records.insert(name.to_owned(), next.clone())),
            None => drop(records.remove(name)),
        }
        Ok(true)
    }

    async fn records(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Record)>, StoreError> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.lock();
        let records = state.records.range::<str, _>((from, Bound::Unbounded));
        let records = records.take_while(|(name, _)| name.starts_with(prefix));
        let record = |(name, record): (&String, &Record)| (name.clone(), record.clone());
        Ok(records.take(page(limit)).map(record).collect())
    }
}

/// A page has at least one place, and at most [`PAGE_ENTRIES_MAX`].
fn page(limit: u32) -> usize {
    limit.clamp(1, PAGE_ENTRIES_MAX) as usize
}

impl State {
    fn log(&self, stream: &StreamId) -> Option<&Log> {
        self.ids.get(stream).map(|id| &self.streams[*id])
    }

    fn commit(&mut self, batch: Batch, shards: u16) -> Result<Committed, CommitError> {
        batch.check().map_err(CommitError::Store)?;
        let end = self.log(&batch.stream).map_or_else(End::default, Log::ends);
        batch.check_end(end)?;
        let id = self.open(&batch.stream, shards);
        self.index(id, &batch.agenda, batch.summary.as_ref());
        Ok(self.append(id, batch))
    }

    fn open(&mut self, stream: &StreamId, shards: u16) -> usize {
        if let Some(id) = self.ids.get(stream) {
            return *id;
        }
        let id = self.streams.len();
        self.streams.push(Log {
            stream: stream.clone(),
            shard: Shard::of(stream, shards),
            epoch: Epoch::default(),
            dropped: 0,
            entries: Vec::new(),
            snapshot: None,
            summary: None,
        });
        self.ids.insert(stream.clone(), id);
        if stream.is_listed_by_name() {
            self.names.insert(stream.to_string());
        }
        id
    }

    /// Changes the agenda and the list of runs.
    fn index(&mut self, id: usize, agenda: &[AgendaChange], summary: Option<&Summary>) {
        let log = &self.streams[id];
        for change in agenda {
            let key = |due| (change.queue, log.shard, due, id, change.item.clone());
            if let Some(was) = change.was {
                self.agenda.remove(&key(was));
            }
            if let Some(due) = change.due {
                self.agenda.insert(key(due));
            }
        }
        if let Some(summary) = summary {
            if let Some(old) = log.place(id) {
                self.runs.remove(&old);
            }
            let place = Place {
                begun_at: summary.begun_at,
                stream: id as u64,
            };
            self.runs.insert(place, id);
        }
    }

    fn drop_before(&mut self, stream: &StreamId, seq: Seq) {
        let Some(id) = self.ids.get(stream).copied() else {
            return;
        };
        let log = &mut self.streams[id];
        let first = usize::try_from(seq.min(log.seq()).0).unwrap_or(usize::MAX);
        let gone = first.saturating_sub(log.dropped + 1);
        log.entries.drain(..gone);
        log.dropped += gone;
        log.snapshot = None;
        if let Some(place) = log.place(id) {
            self.runs.remove(&place);
        }
        log.summary = None;
    }

    fn append(&mut self, id: usize, batch: Batch) -> Committed {
        let log = &mut self.streams[id];
        let seq = batch.last();
        let feed = self.feeds.entry(log.shard).or_default();
        feed.extend((log.end()..log.end() + batch.entries.len()).map(|index| (id, index)));
        log.entries.extend(batch.entries);
        log.epoch = batch.next_epoch;
        match batch.snapshot {
            SnapshotChange::Keep => {}
            SnapshotChange::Replace(bytes) => log.snapshot = Some(Snapshot { seq, bytes }),
            SnapshotChange::Delete => log.snapshot = None,
        }
        if batch.summary.is_some() {
            log.summary = batch.summary;
        }
        Committed { seq }
    }
}
