//! The stream of a file that is being read.

use super::Heads;
use super::line::{EntryLine, SnapshotLine, StreamLine, base64};
use crate::stream::{Known, Sound, StreamAudit};
use bytes::Bytes;
use tape_client::core::codec::StoredEntry;
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;

pub(super) struct OpenStream {
    name: String,
    /// Up to the first thing that is broken.
    audit: Result<StreamAudit, String>,
    has_head: bool,
}

impl OpenStream {
    pub(super) fn begin(line: StreamLine, published: &Heads) -> Self {
        let has_head = line.head.is_some();
        let audit = audit(&line, published);
        Self {
            name: line.stream,
            audit,
            has_head,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn entry(&mut self, line: EntryLine) {
        let Ok(audit) = &mut self.audit else { return };
        let checked = stored(line).and_then(|stored| audit.check(&stored).map_err(|broken| broken.what));
        if let Err(what) = checked {
            self.audit = Err(what);
        }
    }

    /// Notes what is broken, unless something is already.
    pub(super) fn broken(&mut self, what: String) {
        if self.audit.is_ok() {
            self.audit = Err(what);
        }
    }

    pub(super) fn unread(&mut self, what: &str) {
        if let Ok(audit) = &mut self.audit {
            audit.stop(what);
        }
    }

    pub(super) fn finish(self) -> (String, Result<Sound, String>) {
        let finished = self
            .audit
            .and_then(|audit| audit.finish().map_err(|broken| broken.what));
        let found = finished.map(|mut sound| {
            if !self.has_head {
                let doubt = "the journal had no head of it, so nothing says where it ends";
                sound.doubts.push(doubt.to_owned());
            }
            sound
        });
        (self.name, found)
    }
}

/// An audit of a stream that begins with this line. The head that the file has is one that was published: it may be among dropped
/// entries.
fn audit(line: &StreamLine, published: &Heads) -> Result<StreamAudit, String> {
    let stream: StreamId = line.stream.parse().map_err(|error| format!("{error}"))?;
    let known = line.head.as_ref().map(|head| Known {
        by: "its head",
        seq: Seq(head.seq.get()),
        digest: head.digest,
    });
    let snapshot = line.snapshot.as_ref().map(snapshot).transpose()?;
    let heads = published.get(&stream).into_iter().flatten().copied();
    let heads = heads.chain(known.map(|head| (head.seq, head.digest)));
    Ok(StreamAudit::new(
        &stream,
        heads,
        known.into_iter().collect(),
        snapshot,
    ))
}

fn snapshot(line: &SnapshotLine) -> Result<(Seq, Bytes), String> {
    let bytes = base64(&line.bytes)?;
    if Digest::of(&bytes) != line.sha256 {
        return Err("the bytes of its snapshot do not have their digest".to_owned());
    }
    Ok((Seq(line.seq.get()), bytes))
}

fn stored(line: EntryLine) -> Result<StoredEntry, String> {
    let seq = Seq(line.seq.get());
    let payload = line.payload.as_deref().map(base64).transpose();
    Ok(StoredEntry {
        seq,
        envelope: line.envelope.into(),
        payload: payload.map_err(|problem| format!("the payload of entry {seq} is {problem}"))?,
        digest: line.digest,
    })
}
