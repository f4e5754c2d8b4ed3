//! The mutations that commit a batch: one request, without a read before.
//!
//! The conditions are in the mutations themselves, since a commit fails as a whole where a row that it updates is missing, or a row that it
//! inserts exists. The row of `tape_end` has the end of its stream as its key, with the digest. A commit that extends the stream updates
//! the row at the end that the batch expects, deletes it, and inserts the one at the new end. So of two batches on the same end one wins,
//! and one with an old end or epoch, or of another history, finds no row. A batch that begins a stream inserts the stream's own row.
//!
//! A batch that was resolved and not found has a row in `tape_void`. Its commit would insert the same row, so the commit fails however late
//! it arrives. A commit deletes its own row again, so nothing of it is kept.

use crate::contract::{Batch, BatchId, Shard, SnapshotChange};
use crate::upkeep::End;
use google_cloud_spanner::builder::WriteBuilder;
use google_cloud_spanner::key;
use google_cloud_spanner::key::{KeyRange, KeySet};
use google_cloud_spanner::mutation::Mutation;
use tape_core::agenda::AgendaChange;
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, RunId, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::status::Summary;
use tape_core::time::Timestamp;

/// Stands for the time of the commit.
const COMMIT_TIME: &str = "spanner.commit_timestamp()";
/// Spanner takes cells of ten mebibytes. A snapshot may be missing, so for a larger one the previous one is only deleted.
const SNAPSHOT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The identifiers of a stream in the tables.
#[derive(Clone, Debug)]
pub(super) struct StreamKey {
    pub(super) name: String,
    pub(super) id: Vec<u8>,
    pub(super) shard: i64,
}

impl StreamKey {
    pub(super) fn new(stream: &StreamId, shards: u16) -> Self {
        let name = stream.to_string();
        Self {
            id: Digest::of(name.as_bytes()).0[..16].to_vec(),
            name,
            shard: Shard::of(stream, shards).0.into(),
        }
    }
}

/// As Spanner keeps numbers. No sequence ever gets that long; one that claims to be matches nothing.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Whether a batch can be committed at all: a stream without entries is at epoch zero.
pub(super) fn may_fit(batch: &Batch) -> bool {
    batch.expected > Seq::ZERO || batch.epoch == Epoch::default()
}

/// The mutations that commit a batch, if its stream ends where the batch says.
pub(super) fn mutations(stream: &StreamKey, batch: &Batch) -> Vec<Mutation> {
    let mut mutations = if batch.expected == Seq::ZERO {
        vec![begin(stream)]
    } else {
        leave(stream, batch).into()
    };
    mutations.push(end(stream, batch));
    mutations.extend(not_void(stream, batch.id));
    mutations.extend(entries(stream, batch));
    mutations.extend(agenda(stream, &batch.agenda));
    if let (Some(summary), StreamId::Run(run)) = (&batch.summary, &batch.stream) {
        mutations.extend(list(stream, run, summary));
    }
    match batch.snapshot.within(SNAPSHOT_BYTES_MAX) {
        SnapshotChange::Keep => {}
        SnapshotChange::Replace(bytes) => {
            let row = Mutation::new_insert_or_update_builder("tape_snapshot")
                .set("id")
                .to(stream.id.clone());
            let row = row.set("seq").to(signed(batch.last().0));
            mutations.push(row.set("bytes").to(bytes.clone()).build());
        }
        SnapshotChange::Delete => mutations.push(without_snapshot(stream)),
    }
    mutations
}

fn without_snapshot(stream: &StreamKey) -> Mutation {
    let key = KeySet::builder().add_key(key![stream.id]).build();
    Mutation::delete("tape_snapshot", key)
}

/// Fails where the stream exists.
fn begin(stream: &StreamKey) -> Mutation {
    let row = Mutation::new_insert_builder("tape_stream")
        .set("id")
        .to(stream.id.clone());
    let row = row.set("name").to(stream.name.clone());
    row.set("made").to(COMMIT_TIME).build()
}

/// Fails where the stream does not end where the batch says.
fn leave(stream: &StreamKey, batch: &Batch) -> [Mutation; 2] {
    let end = End {
        seq: batch.expected,
        epoch: batch.epoch,
        digest: batch.before,
    };
    let (seq, epoch) = (signed(end.seq.0), signed(end.epoch.0));
    let key = key![stream.id, seq, epoch, end.digest.0.to_vec()];
    let key = KeySet::builder().add_key(key).build();
    [still_ends(stream, end), Mutation::delete("tape_end", key)]
}

/// Fails where the stream does not end there.
pub(super) fn still_ends(stream: &StreamKey, end: End) -> Mutation {
    let row = Mutation::new_update_builder("tape_end")
        .set("id")
        .to(stream.id.clone());
    let row = row.set("seq").to(signed(end.seq.0));
    let row = row.set("epoch").to(signed(end.epoch.0));
    let row = row.set("digest").to(end.digest.0.to_vec());
    // An update must set some column.
    row.set("gone").to(false).build()
}

fn end(stream: &StreamKey, batch: &Batch) -> Mutation {
    let digest = batch
        .entries
        .last()
        .map_or_else(Vec::new, |entry| entry.digest.0.to_vec());
    end_row(
        stream.id.clone(),
        signed(batch.last().0),
        signed(batch.next_epoch.0),
        digest,
    )
}

/// The row of a stream's end.
pub(super) fn end_row(id: Vec<u8>, seq: i64, epoch: i64, digest: Vec<u8>) -> Mutation {
    let row = Mutation::new_insert_builder("tape_end").set("id").to(id);
    let row = row.set("seq").to(seq).set("epoch").to(epoch);
    row.set("digest").to(digest).build()
}

/// Fails where the batch was resolved and not found. Leaves nothing behind.
pub(super) fn not_void(stream: &StreamKey, batch: BatchId) -> [Mutation; 2] {
    let key = KeySet::builder()
        .add_key(key![stream.id, batch.0.as_bytes().to_vec()])
        .build();
    [void(stream, batch), Mutation::delete("tape_void", key)]
}

/// Keeps a batch from being committed from now on. Fails where that was done before.
pub(super) fn void(stream: &StreamKey, batch: BatchId) -> Mutation {
    let row = Mutation::new_insert_builder("tape_void")
        .set("id")
        .to(stream.id.clone());
    let row = row.set("batch").to(batch.0.as_bytes().to_vec());
    row.set("committed_at").to(COMMIT_TIME).build()
}

fn entries(stream: &StreamKey, batch: &Batch) -> impl Iterator<Item = Mutation> {
    let last = batch.last();
    let row = move |entry: &StoredEntry| {
        let row = Mutation::new_insert_builder("tape_entry")
            .set("id")
            .to(stream.id.clone());
        let row = row.set("seq").to(signed(entry.seq.0));
        let row = row.set("shard").to(stream.shard);
        let row = row.set("committed_at").to(COMMIT_TIME);
        let row = row.set("digest").to(entry.digest.0.to_vec());
        let row = row.set("envelope").to(entry.envelope.clone());
        let row = row
            .set("size")
            .to(i64::try_from(entry.size()).unwrap_or(i64::MAX));
        let mut row = match &entry.payload {
            Some(payload) => row.set("payload").to(payload.clone()),
            None => row.set("erased").to(true),
        };
        if entry.seq == last {
            row = row.set("batch").to(batch.id.0.as_bytes().to_vec());
        }
        row.build()
    };
    batch.entries.iter().map(row)
}

/// Removed work comes before added work: an item may be in both.
pub(super) fn agenda(stream: &StreamKey, changes: &[AgendaChange]) -> Vec<Mutation> {
    let place = |queue: u8, due: Timestamp| (i64::from(queue), due.as_micros());
    let gone = changes.iter().filter_map(|change| {
        let was = change.was.filter(|was| Some(*was) != change.due)?;
        let (queue, due) = place(change.queue.number(), was);
        Some(key![queue, stream.shard, due, stream.id, change.item.to_string()])
    });
    let gone = gone
        .fold(KeySet::builder(), |keys, key| keys.add_key(key))
        .build();
    let new = changes.iter().filter_map(|change| {
        let (queue, due) = place(change.queue.number(), change.due?);
        let row = Mutation::new_insert_or_update_builder("tape_agenda")
            .set("queue")
            .to(queue);
        let row = row.set("shard").to(stream.shard).set("due").to(due);
        let row = row.set("id").to(stream.id.clone());
        let row = row.set("item").to(change.item.to_string());
        Some(row.set("name").to(stream.name.clone()).build())
    });
    let gone = (!changes.is_empty()).then(|| Mutation::delete("tape_agenda", gone));
    gone.into_iter().chain(new).collect()
}

/// The row of a run in lists, and the labels it is found by.
pub(super) fn list(stream: &StreamKey, run: &RunId, summary: &Summary) -> Vec<Mutation> {
    let row = Mutation::new_update_builder("tape_stream")
        .set("id")
        .to(stream.id.clone());
    let row = row.set("tenant").to(run.tenant.to_string());
    let row = row.set("app").to(run.app.to_string());
    let row = row.set("status").to(summary.status.as_str().to_owned());
    let row = row.set("begun_at").to(summary.begun_at.as_micros());
    let row = row.set("changed_at").to(summary.changed_at.as_micros());
    let labels = serde_json::to_string(&summary.labels).expect("labels are text");
    let row = row.set("labels").to(labels).build();
    let label = |(key, value): (&tape_core::id::Key, &String)| {
        let row = Mutation::new_insert_builder("tape_label")
            .set("id")
            .to(stream.id.clone());
        let row = row.set("label").to(label_key(key.as_str(), value));
        let row = row.set("tenant").to(run.tenant.to_string());
        row.set("begun_at").to(summary.begun_at.as_micros()).build()
    };
    [row, unlabel(stream)]
        .into_iter()
        .chain(summary.labels.iter().map(label))
        .collect()
}

/// The key that runs with a label are found by; values may be longer than an index takes.
pub(super) fn label_key(key: &str, value: &str) -> Vec<u8> {
    Digest::of(format!("{key}\0{value}").as_bytes()).0.to_vec()
}

/// Takes a run out of the lists.
pub(super) fn unlist(stream: &StreamKey) -> [Mutation; 2] {
    let row = Mutation::new_update_builder("tape_stream")
        .set("id")
        .to(stream.id.clone());
    let nothing = |row: WriteBuilder, column: &str| row.set(column).to(None::<String>);
    let row = ["tenant", "app", "status", "labels"]
        .into_iter()
        .fold(row, nothing);
    let row = row.set("begun_at").to(None::<i64>);
    [row.set("changed_at").to(None::<i64>).build(), unlabel(stream)]
}

fn unlabel(stream: &StreamKey) -> Mutation {
    let all = KeySet::builder().add_range(KeyRange::closed_closed(key![stream.id], key![stream.id]));
    Mutation::delete("tape_label", all.build())
}

/// From now on the stream begins with an entry, and its snapshot is gone.
pub(super) fn keep_from(stream: &StreamKey, first: i64) -> [Mutation; 2] {
    let row = Mutation::new_insert_or_update_builder("tape_kept")
        .set("id")
        .to(stream.id.clone());
    [row.set("first").to(first).build(), without_snapshot(stream)]
}

/// Drops the entries from `from` on and before `before`.
pub(super) fn drop_entries(stream: &StreamKey, from: i64, before: i64) -> Mutation {
    let range = KeyRange::closed_open(key![stream.id, from], key![stream.id, before]);
    Mutation::delete("tape_entry", KeySet::builder().add_range(range).build())
}

/// Erases the payload of an entry. Fails where there is no such entry.
pub(super) fn erase(stream: &StreamKey, seq: Seq) -> Mutation {
    let row = Mutation::new_update_builder("tape_entry")
        .set("id")
        .to(stream.id.clone());
    let row = row.set("seq").to(signed(seq.0));
    row.set("payload")
        .to(None::<Vec<u8>>)
        .set("erased")
        .to(true)
        .build()
}
