//! A store around another one that violates one rule of the contract.

mod cursors;

use async_trait::async_trait;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId, Tenant};
use tape_core::time::Timestamp;
use tape_environment::{Environment as _, Machine};
use tape_store::contract::{
    Batch, BatchId, Capabilities, CommitOutcome, Committed, Cursor, Head, Hint, JournalStore, PageToken,
    RunFilter, RunPage, Shard, Snapshot, SnapshotChange, TailPage,
};
use tape_store::cursors::{CursorStore, Swap};
use tape_store::error::{CommitError, StoreError};
use tape_store::layer::Layer;
use tape_store::upkeep::End;

/// The rule that is violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    IgnoresEpoch,
    IgnoresExpectedEnd,
    IgnoresDigest,
    LosesAgenda,
    NeverMovesWork,
    NeverEndsWork,
    IndexesRefusedBatches,
    FindsOnlyTheFirstDue,
    PassesWorkOfTheSameTime,
    BeginsPagesAnew,
    SkipsInFeed,
    RemembersHighest,
    ReordersFeed,
    ForgetsCursors,
    BelievesCursors,
    TearsBatches,
    AnswersEarly,
    FailsNeighbours,
    MixesTenants,
    ListsOtherTenants,
    FindsEveryBatch,
    FindsNoBatch,
    ForgetsBatches,
    MissesDroppedBatches,
    CommitsLate,
    SnapshotOfAnother,
    SnapshotAtHead,
    KeepsErasedSnapshots,
    KeepsSnapshotsBeforeLargeOnes,
    TruncatesPages,
    GivesEntriesAlone,
    LeavesLargeOut,
    ErasesEnvelope,
    ErasesNothing,
    TakesAnything,
    IgnoresStatus,
    EndsListsEarly,
    KeepsStaleHeads,
    DropsNothing,
    DropsOneTooMany,
    DropsTheEndToo,
    KeepsSnapshots,
    KeepsListed,
    IgnoresVersion,
    ComparesBeforehand,
    ListsBeyondPrefix,
    ListsBackwards,
}

pub(crate) struct BrokenStore {
    inner: Arc<dyn JournalStore>,
    defect: Defect,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The agenda changes of refused batches.
    refused: Vec<Hint>,
    /// Entries that a reader of highest numbers does not see yet.
    late: HashSet<(StreamId, Seq)>,
    buffered: Vec<Batch>,
    snapshot: Option<Snapshot>,
    erased: HashSet<(StreamId, Seq)>,
    heads: HashMap<StreamId, Option<Head>>,
    /// The snapshots of streams whose entries were dropped.
    kept: HashMap<StreamId, Option<Snapshot>>,
    /// The rows of these streams in lists.
    listed: Vec<(tape_core::id::RunId, tape_core::status::Summary)>,
    /// The change of a record that was answered last.
    swap: Option<(String, Swap)>,
}

impl BrokenStore {
    pub(crate) fn new(inner: Arc<dyn JournalStore>, defect: Defect) -> Self {
        Self {
            inner,
            defect,
            state: Mutex::default(),
        }
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The stream that a store without tenants would take.
    fn stream(&self, stream: &StreamId) -> StreamId {
        if !self.is(Defect::MixesTenants) {
            return stream.clone();
        }
        let StreamId::Run(run) = stream else {
            return stream.clone();
        };
        StreamId::Run(tape_core::id::RunId {
            tenant: Tenant::new("t").unwrap(),
            ..run.clone()
        })
    }

    async fn end(&self, stream: &StreamId) -> End {
        let head = self.inner.head(stream).await.unwrap();
        head.map_or_else(End::default, |head| head.end())
    }

    /// Changes a batch before its commit, as the defect says.
    async fn spoil(&self, mut batch: Batch) -> Batch {
        batch.stream = self.stream(&batch.stream);
        let end = self.end(&batch.stream).await;
        match self.defect {
            Defect::IgnoresEpoch => {
                batch.next_epoch = batch.next_epoch.max(end.epoch);
                batch.epoch = end.epoch;
            }
            Defect::IgnoresDigest if batch.expected == end.seq => batch.before = end.digest,
            Defect::IgnoresExpectedEnd => {
                (batch.expected, batch.before) = (end.seq, end.digest);
                for (entry, seq) in batch.entries.iter_mut().zip(end.seq.0 + 1..) {
                    entry.seq = Seq(seq);
                }
            }
            Defect::KeepsErasedSnapshots if batch.snapshot == SnapshotChange::Delete => {
                batch.snapshot = SnapshotChange::Keep;
            }
            Defect::KeepsSnapshotsBeforeLargeOnes
                if batch.snapshot.within(1 << 23) == &SnapshotChange::Delete =>
            {
                batch.snapshot = SnapshotChange::Keep;
            }
            Defect::LosesAgenda => batch.agenda.clear(),
            Defect::NeverMovesWork => batch
                .agenda
                .retain(|change| change.was.is_none() || change.due.is_none()),
            Defect::NeverEndsWork => batch.agenda.retain(|change| change.due.is_some()),
            _ => {}
        }
        batch
    }

    async fn commit_one(&self, batch: Batch) -> Result<Committed, CommitError> {
        let given = batch.clone();
        let spoiled = self.spoil(batch).await;
        let answer = match self.defect {
            Defect::TearsBatches if spoiled.entries.len() > 1 => self.tear(spoiled).await,
            // It is appended, whatever was committed in between.
            Defect::IgnoresExpectedEnd => loop {
                match self
                    .inner
                    .commit(vec![self.spoil(given.clone()).await])
                    .await
                    .remove(0)
                {
                    Err(CommitError::Conflict { .. }) => {}
                    answer => break answer,
                }
            },
            _ => self.inner.commit(vec![spoiled]).await.remove(0),
        };
        match (&answer, self.defect) {
            (Err(CommitError::Store(StoreError::Invalid { .. })), Defect::TakesAnything) => {
                return Ok(Committed { seq: given.last() });
            }
            (Err(_), Defect::IndexesRefusedBatches) => {
                let hint = |change: &tape_core::agenda::AgendaChange| {
                    let (queue, item) = (change.queue, change.item.clone());
                    Some(Hint {
                        queue,
                        stream: given.stream.clone(),
                        item,
                        due: change.due?,
                    })
                };
                self.state().refused.extend(given.agenda.iter().filter_map(hint));
            }
            (Ok(committed), Defect::SnapshotOfAnother) => {
                if let SnapshotChange::Replace(bytes) = given.snapshot {
                    self.state().snapshot = Some(Snapshot {
                        seq: committed.seq,
                        bytes,
                    });
                }
            }
            _ => {}
        }
        answer
    }

    /// Commits the first entry, and a little later the others.
    async fn tear(&self, batch: Batch) -> Result<Committed, CommitError> {
        let (mut first, mut rest) = (batch.clone(), batch);
        first.id = BatchId(uuid());
        (first.summary, first.snapshot) = (None, SnapshotChange::Keep);
        first.agenda.clear();
        first.entries.truncate(1);
        rest.entries.remove(0);
        rest.expected = first.last();
        rest.before = first.entries[0].digest;
        rest.epoch = first.next_epoch;
        self.inner.commit(vec![first]).await.remove(0)?;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        self.inner.commit(vec![rest]).await.remove(0)
    }

    /// Commits even after the caller is gone.
    async fn commit_late(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let inner = Arc::clone(&self.inner);
        let committed = tokio::spawn(async move {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            inner.commit(batches).await
        });
        committed.await.unwrap()
    }

    async fn commit_early(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let before = std::mem::take(&mut self.state().buffered);
        if !before.is_empty() {
            self.inner.commit(before).await;
        }
        let answers = batches
            .iter()
            .map(|batch| Ok(Committed { seq: batch.last() }))
            .collect();
        self.state().buffered = batches;
        answers
    }

    async fn commit_all_or_none(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let mut fits = true;
        for batch in &batches {
            fits &= batch.check_end(self.end(&batch.stream).await).is_ok();
        }
        if fits {
            return self.inner.commit(batches).await;
        }
        let conflict = |batch: Batch| CommitError::Conflict {
            stream: batch.stream,
            expected: batch.expected,
            current: batch.expected,
        };
        batches.into_iter().map(|batch| Err(conflict(batch))).collect()
    }

    fn spoil_entries(&self, stream: &StreamId, entries: &mut Vec<StoredEntry>) {
        match self.defect {
            Defect::LeavesLargeOut => entries.retain(|entry| entry.size() < 100_000),
            Defect::ErasesEnvelope => {
                let erased = &self.state().erased;
                for entry in entries {
                    if erased.contains(&(stream.clone(), entry.seq)) {
                        entry.envelope = bytes::Bytes::new();
                    }
                }
            }
            _ => {}
        }
    }
}

fn uuid() -> uuid::Uuid {
    Machine.uuid()
}

#[async_trait]
impl Layer for BrokenStore {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        let mut head = self.inner.head(&self.stream(stream)).await?;
        if self.is(Defect::KeepsStaleHeads) {
            head = self.state().heads.entry(stream.clone()).or_insert(head).clone();
        }
        let Some(head) = &mut head else { return Ok(None) };
        match (self.defect, &mut head.snapshot) {
            (Defect::SnapshotOfAnother, snapshot @ Some(_)) => snapshot.clone_from(&self.state().snapshot),
            (Defect::SnapshotAtHead, Some(snapshot)) => snapshot.seq = head.seq,
            (Defect::KeepsSnapshots, snapshot) => {
                let kept = self.state().kept.get(stream).cloned().flatten();
                *snapshot = snapshot.take().or(kept);
            }
            (Defect::DropsTheEndToo, _) if self.state().kept.contains_key(stream) => return Ok(None),
            _ => {}
        }
        Ok(Some(head.clone()))
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        if self.is(Defect::TruncatesPages) && after.0 > 0 && after.0.is_multiple_of(256) {
            return Ok(Vec::new());
        }
        let mut entries = self.inner.read(&self.stream(stream), after, limit).await?;
        self.spoil_entries(stream, &mut entries);
        if self.is(Defect::GivesEntriesAlone) {
            entries.truncate(1);
        }
        Ok(entries)
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        match self.defect {
            Defect::AnswersEarly => return self.commit_early(batches).await,
            Defect::FailsNeighbours => return self.commit_all_or_none(batches).await,
            Defect::CommitsLate => return self.commit_late(batches).await,
            Defect::RemembersHighest => {
                let late = batches.iter().flat_map(|batch| {
                    batch
                        .entries
                        .iter()
                        .map(|entry| (batch.stream.clone(), entry.seq))
                });
                self.state().late = late.collect();
            }
            _ => {}
        }
        let mut answers = Vec::new();
        for batch in batches {
            answers.push(self.commit_one(batch).await);
        }
        answers
    }

    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError> {
        let end = self
            .inner
            .head(&batch.stream)
            .await?
            .map_or(Seq::ZERO, |head| head.seq);
        match self.defect {
            Defect::FindsNoBatch => Ok(CommitOutcome::NotCommitted),
            Defect::FindsEveryBatch if end > Seq::ZERO => {
                Ok(CommitOutcome::Committed(Committed { seq: batch.last() }))
            }
            Defect::ForgetsBatches if end.0 >= batch.last().0 + 1_024 => Ok(CommitOutcome::NotCommitted),
            // It does not make sure that no attempt is under way.
            Defect::CommitsLate => {
                let page = self.inner.read(&batch.stream, Seq(batch.last().0 - 1), 1).await?;
                let fate = batch.compare(end, page.first()).outcome(batch);
                Ok(fate.unwrap_or(CommitOutcome::NotCommitted))
            }
            _ => {
                let fate = self.inner.resolve(batch).await?;
                let missed = fate == CommitOutcome::Unknown && self.is(Defect::MissesDroppedBatches);
                Ok(if missed { CommitOutcome::NotCommitted } else { fate })
            }
        }
    }

    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError> {
        let asked = after.filter(|_| !self.is(Defect::BeginsPagesAnew));
        let mut hints = self.inner.due(queue, shard, until, asked, limit).await?;
        if self.is(Defect::PassesWorkOfTheSameTime) {
            hints.retain(|hint| after.is_none_or(|after| hint.due > after.due));
        }
        if self.is(Defect::FindsOnlyTheFirstDue) {
            hints.truncate(2);
        }
        let shards = Layer::capabilities(self).shards;
        let refused = self.state().refused.clone();
        hints.extend(refused.into_iter().filter(|hint| {
            let later = after.is_none_or(|after| hint.due > after.due);
            later && hint.queue == queue && hint.due <= until && Shard::of(&hint.stream, shards) == shard
        }));
        hints.sort_by_key(|hint| hint.due);
        Ok(hints)
    }

    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError> {
        let page = self.inner.tail(shard, cursor, limit).await;
        if self.defect == Defect::BelievesCursors && page.is_err() {
            return Ok(TailPage::end(cursor.clone()));
        }
        let mut page = page?;
        match self.defect {
            Defect::SkipsInFeed => page.entries.retain(|fed| fed.entry.seq != Seq(2)),
            Defect::RemembersHighest => {
                let late = &self.state().late;
                page.entries
                    .retain(|fed| !late.contains(&(fed.stream.clone(), fed.entry.seq)));
            }
            Defect::ReordersFeed => page.entries.reverse(),
            Defect::ForgetsCursors => page.cursor = self.inner.tail(shard, cursor, limit + 1).await?.cursor,
            _ => {}
        }
        for fed in &mut page.entries {
            let mut entries = vec![fed.entry.clone()];
            self.spoil_entries(&fed.stream, &mut entries);
            fed.entry = entries.pop().unwrap_or_else(|| fed.entry.clone());
        }
        Ok(page)
    }

    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError> {
        let mut filter = filter.clone();
        if self.is(Defect::IgnoresStatus) {
            filter.statuses.clear();
        }
        let mut page = self.inner.runs(&filter, from, limit).await?;
        match self.defect {
            Defect::EndsListsEarly => page.next = None,
            Defect::KeepsListed => page.runs.extend(self.state().listed.clone()),
            Defect::ListsOtherTenants => {
                filter.tenant = Tenant::new("t").unwrap();
                page.runs
                    .extend(self.inner.runs(&filter, None, limit).await?.runs);
            }
            _ => {}
        }
        Ok(page)
    }

    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError> {
        let erased = entries.iter().map(|seq| (stream.clone(), *seq));
        self.state().erased.extend(erased);
        if self.is(Defect::ErasesNothing) {
            return Ok(());
        }
        self.inner.erase(stream, entries).await
    }

    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError> {
        for (stream, seq) in drops {
            let head = self.inner.head(stream).await?;
            self.state()
                .kept
                .insert(stream.clone(), head.and_then(|head| head.snapshot));
            if let (true, StreamId::Run(run)) = (self.is(Defect::KeepsListed), stream) {
                let all = RunFilter::all(run.tenant.clone());
                let page = self.inner.runs(&all, None, 1_000).await?;
                let rows = page.runs.into_iter().filter(|(listed, _)| listed == run);
                self.state().listed.extend(rows);
            }
            let seq = match self.defect {
                Defect::DropsNothing => continue,
                Defect::DropsOneTooMany => seq.next(),
                _ => *seq,
            };
            self.inner.drop_before(&[(stream.clone(), seq)]).await?;
        }
        Ok(())
    }

    fn cursors(&self) -> &dyn CursorStore {
        self
    }

    fn capabilities(&self) -> Capabilities {
        let inner = self.inner.capabilities();
        Capabilities {
            durable: inner.durable || self.is(Defect::AnswersEarly),
            ..inner
        }
    }
}
