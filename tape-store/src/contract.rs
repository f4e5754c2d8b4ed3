//! The storage contract: the primitives that a backend implements.
//!
//! Everything else (rules, caches, retries, group commit, sessions, business keys) is written once above it.
//! A backend stores bytes under keys; it never looks into an entry.

mod snapshot;

pub use snapshot::{Snapshot, SnapshotChange};

use crate::announce::Announcements;
use crate::cursors::CursorStore;
use crate::error::{CommitError, StoreError};
use crate::upkeep::{End, Upkeep};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use tape_core::agenda::{AgendaChange, Item, Queue};
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, RunId, Seq, StreamId, StreamPrefix, Tenant};
use tape_core::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use tape_core::payload::Digest;
use tape_core::status::{RunStatus, Summary};
use tape_core::time::Timestamp;

/// A journal store. Cheap to share: one value serves a whole process.
#[async_trait]
pub trait JournalStore: Send + Sync + 'static {
    /// Last sequence number, epoch, chain digest and newest snapshot of a stream; none where it has no entries.
    ///
    /// # Behavior
    /// Reads committed data: a commit that any process got acknowledged is visible.
    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError>;

    /// Entries of the stream after `after`, oldest first, at most `limit` of them, and at least one if there is one. They begin no earlier
    /// than the first entry that [`JournalStore::drop_before`] kept.
    ///
    /// # Behavior
    /// Without gaps: only dropped entries are missing. A short page does not mean the end; an empty one does. `limit` is at most
    /// [`PAGE_ENTRIES_MAX`](tape_core::limits::PAGE_ENTRIES_MAX). Stores may return fewer entries to bound the bytes of a page, but not
    /// fewer than two where there are two and the limit allows them. So a single entry, where more were requested, is the end.
    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError>;

    /// Appends each batch if its stream still ends with the entry that the batch names and its epoch still holds, else nothing of that
    /// batch. Answers come in the order of the batches.
    ///
    /// # Behavior
    /// Each batch is atomic. Batches are independent of each other and may share one physical commit: a conflict fails only its own batch.
    /// At most one batch of a call is for the same stream. `Ok` means durable. Dropping the future does not say whether the batches were
    /// committed. An epoch mismatch takes precedence over a sequence or digest mismatch.
    ///
    /// The digest is tested together with the sequence number and the epoch, in the one conditional write. A server that still has
    /// the state of a lost history (a lost primary, a restored backup) can therefore not extend the present one.
    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>>;

    /// What became of a batch whose commit through this store had an unknown outcome.
    ///
    /// # Behavior
    /// Compares what the stream has at the place of the batch with the batch ([`Batch::compare`]): the answer is the same however many
    /// entries came after it. [`CommitOutcome::Committed`] means durable, as the answer of a commit does. [`CommitOutcome::NotCommitted`]
    /// stays true: where nothing is at the place yet, the store first makes sure that no attempt of this store to commit the batch can
    /// still arrive, and looks again after that. [`CommitOutcome::Unknown`] is returned only where the entries at the place were dropped.
    ///
    /// A store whose database can have several servers compares on the server that takes commits, after a durable write of its own there.
    /// Where it cannot, it returns [`StoreError::Unavailable`], and the outcome stays unknown.
    async fn resolve(&self, batch: &Batch) -> Result<CommitOutcome, StoreError>;

    /// Waits until everything that was read from this store is as durable as what a commit acknowledges.
    ///
    /// # Behavior
    /// A caller that acknowledges a command on the ground of entries that it only read calls this first. The default does nothing, which is
    /// right where only durable entries can be read. A database that shows commits before its standbys have them makes a durable write.
    async fn barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Due work: hints in the order of their due times, at most `limit`, and only those after the hint `after` where one is given.
    ///
    /// # Behavior
    /// A hint may be stale, so it is verified against the stream. A hint is never missing. The cost is that of the due work, whatever the
    /// history. A hint that cannot be read is passed over: a newer build wrote it, or it is damaged. Hints with the same due time have an
    /// order of the store's own, which is stable. A reader that pages from each last hint sees every hint present throughout exactly once;
    /// the last hint itself may be gone by then. Fewer than `limit` hints, which is at most
    /// [`PAGE_ENTRIES_MAX`](tape_core::limits::PAGE_ENTRIES_MAX), mean the end.
    async fn due(
        &self,
        queue: Queue,
        shard: Shard,
        until: Timestamp,
        after: Option<&Hint>,
        limit: u32,
    ) -> Result<Vec<Hint>, StoreError>;

    /// Durable entries of all streams of a shard after `cursor`, at most `limit` of them, with the cursor to continue from.
    ///
    /// # Behavior
    /// Every durable entry is delivered at least once to a reader that continues from the cursors it is given, in order within a stream,
    /// also under concurrent and paused writers. An empty page means that nothing more is there yet. An entry that cannot be read is
    /// reported in the page; the entries after it are delivered. A cursor is refused where the journal does not have the last entry before
    /// it: the cursor is of another journal, or of this one before a backup was restored.
    async fn tail(&self, shard: Shard, cursor: &Cursor, limit: u32) -> Result<TailPage, StoreError>;

    /// The cursor after everything that is durable now, to follow a shard from here on.
    async fn tail_end(&self, shard: Shard) -> Result<Cursor, StoreError>;

    /// Waits until any process may have committed something after the call; may wake spuriously.
    ///
    /// # Behavior
    /// Counts from the call, not from the first poll of the future: a caller that calls this first, then looks, then waits misses nothing.
    /// Costs the store nothing, or next to nothing, while nothing happens.
    fn changed(&self) -> BoxFuture<'static, ()>;

    /// Announces the commits of all processes from now on, with their streams, where the store learns of commits sooner than its feed can
    /// deliver them. None where the feed never lags.
    ///
    /// A hint for readers of single streams, in no order. A process that dies right after a commit may leave it unannounced; the feed still
    /// delivers it.
    fn announcements(&self) -> Option<Announcements> {
        None
    }

    /// Runs of a tenant that fit a filter, after `from`: the latest begun first, of those begun at the same time the
    /// latest stored first.
    ///
    /// # Behavior
    /// The cost is that of the tenant's runs that have the filter's label or, without a label, its app and statuses. A row that
    /// cannot be read is passed over. A reader that pages from each page's token sees every run that fits throughout exactly once, also one
    /// that goes from one of the statuses to another meanwhile. Where a store reads its lists one after the other, a run that does so while
    /// a page of several statuses is read may be missed: in Bigtable.
    async fn runs(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<RunPage, StoreError>;

    /// Sessions or values whose names begin with a prefix, at most `limit` of them, in the order of the bytes of their names.
    ///
    /// # Behavior
    /// Every such stream that has entries is listed, whatever it says: a deleted session too. The cost is that of the streams with the
    /// prefix, however many others there are, also of the same tenant. A reader that pages from each page's token sees every stream present
    /// throughout exactly once. A name that cannot be read is passed over. The token is of the same prefix, and is refused with another.
    async fn named(
        &self,
        prefix: &StreamPrefix,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<NamePage, StoreError>;

    /// Erases the payload bytes of entries; their envelopes and the chain stay. Nothing happens where there is no such entry.
    ///
    /// # Behavior
    /// Once it returns, the store holds the bytes in no place that it could read them from again. After an error some of them may be
    /// erased; calling it again continues. Commits of others do not wait for it.
    ///
    /// The store remembers what was erased. Bytes that are missing for another reason are [`StoreError::Corrupt`] for a reader of the
    /// entry, never an erased payload.
    async fn erase(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), StoreError>;

    /// Drops the entries of each stream before a sequence number of its own, with the row of the stream in lists and its snapshot. The
    /// stream keeps its end, and from now on begins with the first entry kept.
    ///
    /// # Behavior
    /// An entry at the end of its stream is never dropped: a number beyond the end counts as the end's. Nothing happens where there is no
    /// such stream. Dropping again, also before a lower number, changes nothing more. After `Ok`, [`JournalStore::read`] from the start
    /// begins with the first entry kept, for every reader; [`JournalStore::resolve`] returns [`CommitOutcome::Unknown`] for a batch that
    /// was dropped to its last entry; the feed need not deliver what was dropped, and delivers what is kept as before.
    ///
    /// Where it fails or is interrupted, some of it may be done. At each step a reader sees all entries of a stream or begins with the
    /// first one kept, never with one in between. The row in lists goes last, so that a later search for streams to drop finds the stream
    /// again. Commits and reads continue meanwhile, also on these streams, and several callers may drop the same entries at once.
    async fn drop_before(&self, drops: &[(StreamId, Seq)]) -> Result<(), StoreError>;

    /// Gives back the space that dropped entries still take, in a store where dropping alone does not free it. Returns whether there is
    /// more to do.
    ///
    /// # Behavior
    /// A bounded piece of work; commits, reads and the feed continue meanwhile. Several callers may do it at once, and it may be
    /// interrupted anywhere. A store with nothing to give back returns false at once.
    async fn reclaim(&self) -> Result<bool, StoreError>;

    /// The time by the store's own clock: the one notion of time that all servers of a journal share.
    ///
    /// # Behavior
    /// All processes that use the store get the time of one clock, whatever the clocks of their machines show: a time that the clock had
    /// between the call and its answer. Costs about a read. The clock should run evenly; readers notice when it is set.
    async fn time(&self) -> Result<StoreTime, StoreError>;

    /// Whether the store would take a commit now: it is reachable, may be written to and, as far as it can tell, has room.
    ///
    /// # Behavior
    /// Leaves nothing behind, and costs about a commit.
    async fn probe(&self) -> Result<(), StoreError>;

    /// The part of the store that compares its indexes with its streams.
    fn upkeep(&self) -> &dyn Upkeep;

    /// The part of the store that keeps where readers of the feed are.
    fn cursors(&self) -> &dyn CursorStore;

    /// What this backend is and can do.
    fn capabilities(&self) -> Capabilities;
}

/// What the clock of a store shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTime {
    /// The time.
    pub at: Timestamp,
    /// By how many milliseconds the clock was set within the last [`LEASE_MS_MAX`](tape_core::limits::LEASE_MS_MAX), as far as the store
    /// knows: leases and claims from before may end that much later than they say.
    pub step_ms: u64,
}

impl From<Timestamp> for StoreTime {
    fn from(at: Timestamp) -> Self {
        Self { at, step_ms: 0 }
    }
}

/// Where a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its last entry.
    pub seq: Seq,
    /// The epoch (fencing token) in force.
    pub epoch: Epoch,
    /// The chain digest of the last entry.
    pub digest: Digest,
    /// The newest snapshot, where there is one; deleting it is harmless.
    pub snapshot: Option<Snapshot>,
}

impl Head {
    /// The same without the snapshot.
    #[must_use]
    pub const fn end(&self) -> End {
        End {
            seq: self.seq,
            epoch: self.epoch,
            digest: self.digest,
        }
    }
}

/// Names a batch, in errors and for people who inspect a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub uuid::Uuid);

impl BatchId {
    /// A fresh name that no other batch has.
    #[must_use]
    pub fn random(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }
}

/// What one commit appends to one stream.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// The stream.
    pub stream: StreamId,
    /// The last entry the stream must have; zero where the stream must not exist.
    pub expected: Seq,
    /// The chain digest of that entry, which the first one of the batch is linked to; all zero where the stream must not exist.
    pub before: Digest,
    /// The epoch the stream must be at.
    pub epoch: Epoch,
    /// The epoch of the stream afterwards: the same, or greater.
    pub next_epoch: Epoch,
    /// The entries, in order, from `expected + 1`; at least one.
    pub entries: Vec<StoredEntry>,
    /// The changes to the index of due work.
    pub agenda: Vec<AgendaChange>,
    /// The change to the stream's snapshot.
    pub snapshot: SnapshotChange,
    /// What lists of runs show from now on, where that changed.
    pub summary: Option<Summary>,
}

impl Batch {
    /// The last entry of the stream once the batch is committed.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq(self.expected.0.saturating_add(self.entries.len() as u64))
    }

    /// Bytes of its entries and snapshot.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.iter().map(StoredEntry::size).sum::<usize>()
            + self.snapshot.bytes().map_or(0, Bytes::len)
    }

    /// Checks what every store requires of a batch, independent of the stream.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where it has no entries or too many, where they do not follow `expected` one by one, where it begins
    /// a stream and names an entry before, or where the epoch would go back.
    pub fn check(&self) -> Result<(), StoreError> {
        let bytes: usize = self.entries.iter().map(StoredEntry::size).sum();
        let mut numbers = self.expected.onward().skip(1);
        let follow = self.entries.iter().all(|entry| Some(entry.seq) == numbers.next());
        let problem = if self.entries.is_empty() {
            "it has no entries".to_owned()
        } else if self.entries.len() > BATCH_ENTRIES_MAX {
            format!(
                "it has {} entries, the limit is {BATCH_ENTRIES_MAX}",
                self.entries.len()
            )
        } else if bytes > BATCH_BYTES_MAX {
            format!("it has {bytes} bytes, the limit is {BATCH_BYTES_MAX}")
        } else if !follow {
            format!("its entries do not follow entry {} one by one", self.expected)
        } else if self.expected == Seq::ZERO && self.before != Digest::default() {
            "it begins a stream, and names the digest of an entry before".to_owned()
        } else if self.next_epoch < self.epoch {
            format!(
                "it takes the epoch back from {} to {}",
                self.epoch, self.next_epoch
            )
        } else {
            return Ok(());
        };
        Err(StoreError::Invalid {
            what: "batch",
            problem,
        })
    }

    /// What the stream has at the place of the batch, its entries from `expected + 1` on. Takes the end of the stream, and the first entry
    /// that the stream has from [`Batch::last`] on, read no earlier than the end; none where there is no such entry.
    ///
    /// An entry's digest covers all entries before it, so the last entry of the batch stands for all of them.
    #[must_use]
    pub fn compare(&self, end: Seq, entry: Option<&StoredEntry>) -> AtPlace {
        let last = self.entries.last();
        match (entry, last) {
            (Some(entry), Some(last)) if entry.seq > last.seq => AtPlace::Dropped,
            (Some(entry), Some(last)) => {
                if (&entry.envelope, entry.digest) == (&last.envelope, last.digest) {
                    AtPlace::Batch
                } else {
                    AtPlace::Other
                }
            }
            _ if end >= self.last() => AtPlace::Dropped,
            // The stream ends within the place: a shorter batch is there.
            _ if end > self.expected => AtPlace::Other,
            _ => AtPlace::Nothing,
        }
    }

    /// Checks the batch against where its stream ends; [`End::default`] where there is no stream.
    ///
    /// # Errors
    /// [`CommitError::Fenced`] takes precedence over [`CommitError::Conflict`].
    pub fn check_end(&self, end: End) -> Result<(), CommitError> {
        if end.epoch != self.epoch {
            return Err(CommitError::Fenced {
                stream: self.stream.clone(),
                given: self.epoch,
                current: end.epoch,
            });
        }
        if (end.seq, end.digest) != (self.expected, self.before) {
            return Err(self.conflict(end.seq));
        }
        Ok(())
    }

    /// The error for a stream that ends with `current` and not with the entry that the batch names.
    #[must_use]
    pub fn conflict(&self, current: Seq) -> CommitError {
        CommitError::Conflict {
            stream: self.stream.clone(),
            expected: self.expected,
            current,
        }
    }
}

/// A batch is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The stream's last entry after the batch.
    pub seq: Seq,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is durable.
    Committed(Committed),
    /// It was not committed, and never will be.
    NotCommitted,
    /// The entries at its place were dropped, so there is nothing to compare it with.
    Unknown,
}

/// What a stream has at the place of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtPlace {
    /// The batch.
    Batch,
    /// Other entries, for good: the batch is not committed and never will be.
    Other,
    /// Nothing yet.
    Nothing,
    /// Entries that were dropped.
    Dropped,
}

impl AtPlace {
    /// What it means for the batch; none where nothing is there yet: an attempt under way may still commit the batch.
    #[must_use]
    pub fn outcome(self, batch: &Batch) -> Option<CommitOutcome> {
        match self {
            Self::Batch => Some(CommitOutcome::Committed(Committed { seq: batch.last() })),
            Self::Other => Some(CommitOutcome::NotCommitted),
            Self::Nothing => None,
            Self::Dropped => Some(CommitOutcome::Unknown),
        }
    }
}

/// A part of the agenda and of the feed. A stream's name alone determines its shard. Stores have
/// [`Capabilities::shards`] of them, numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl Shard {
    /// The shard of a stream in a store with `shards` shards.
    #[must_use]
    pub fn of(stream: &StreamId, shards: u16) -> Self {
        let digest = Digest::of(stream.to_string().as_bytes());
        Self(u16::from_be_bytes([digest.0[0], digest.0[1]]) % shards.max(1))
    }
}

/// Identifies a stream in announcements. Two streams may share a key, which costs a needless look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u64);

impl StreamKey {
    /// The key of a stream: the first eight bytes of the SHA-256 digest of its name.
    #[must_use]
    pub fn of(stream: &StreamId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(stream.to_string().as_bytes()).0;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// A piece of due work, as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Whose work it is.
    pub queue: Queue,
    /// The stream.
    pub stream: StreamId,
    /// Which item of the stream.
    pub item: Item,
    /// When it was due.
    pub due: Timestamp,
}

/// A place in the feed of one shard. Opaque: only the store that made it reads it; the default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(pub Bytes);

/// An entry in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    /// Its stream.
    pub stream: StreamId,
    /// The entry.
    pub entry: StoredEntry,
}

/// A page of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailPage {
    /// Entries in the order of the feed.
    pub entries: Vec<FeedEntry>,
    /// Entries that the page passes over because their stored bytes cannot be read.
    pub damaged: Vec<DamagedEntry>,
    /// The cursor to continue from.
    pub cursor: Cursor,
}

impl TailPage {
    /// A page after which nothing is there yet.
    #[must_use]
    pub const fn end(cursor: Cursor) -> Self {
        Self {
            entries: Vec::new(),
            damaged: Vec::new(),
            cursor,
        }
    }

    /// Whether the reader came to the end.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.entries.is_empty() && self.damaged.is_empty()
    }
}

/// An entry of the feed that cannot be read; a person must look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Its stream, where that is known.
    pub stream: Option<StreamId>,
    /// Where it is, and what does not fit.
    pub problem: String,
}

impl DamagedEntry {
    /// The report of a store's error about an entry.
    #[must_use]
    pub fn new(stream: Option<StreamId>, error: &StoreError) -> Self {
        let mut problem = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            problem = format!("{problem}: {error}");
            cause = error.source();
        }
        Self { stream, problem }
    }
}

/// Which runs to list; a field that is none does not restrict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFilter {
    /// Runs of this tenant.
    pub tenant: Tenant,
    /// Only runs of this app.
    pub app: Option<tape_core::id::App>,
    /// Only runs in one of these statuses; in any where there are none.
    pub statuses: BTreeSet<RunStatus>,
    /// Only runs with this label.
    pub label: Option<(tape_core::id::Key, String)>,
    /// Only runs that began at or after this time.
    pub begun_from: Option<Timestamp>,
    /// Only runs that began before this time.
    pub begun_before: Option<Timestamp>,
}

impl RunFilter {
    /// All runs of a tenant.
    #[must_use]
    pub const fn all(tenant: Tenant) -> Self {
        Self {
            tenant,
            app: None,
            statuses: BTreeSet::new(),
            label: None,
            begun_from: None,
            begun_before: None,
        }
    }
}

/// Where the next page of a list begins. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// A page of a list of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<(RunId, Summary)>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// A page of a list of sessions or values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamePage {
    /// The streams, in the order of the bytes of their names.
    pub streams: Vec<StreamId>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// What a backend is and can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Its name, such as `sqlite`.
    pub name: &'static str,
    /// The number of shards of the agenda and the feed.
    pub shards: u16,
    /// Whether committed entries outlive the process.
    pub durable: bool,
    /// Whether other processes can use the same store at the same time.
    pub shared: bool,
    /// How many commits of one process should be under way at once: one where a commit excludes every other, many where batches gain
    /// nothing from sharing a commit.
    pub commits_at_once: u16,
    /// Whether commits of other processes, if there can be any, are pushed to callers that wait in [`JournalStore::changed`]. Where not,
    /// the store polls for them. A store that can do both says what it does now.
    pub pushed: bool,
}
