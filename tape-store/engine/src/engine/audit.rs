//! Verifies a stream before any of it is destroyed: destroyed entries can prove nothing any more. Only the entries themselves answer that,
//! not a cached state or a snapshot.

use super::Parts;
use crate::stream_service::{EngineError, damaged, page_to_end};
use std::sync::Arc;
use tape_core::chain::ChainError;
use tape_core::codec::{StoredEntry, decode, kind};
use tape_core::id::{Seq, StreamId};
use tape_core::verify::{Audit, AuditError, Verified};
use tape_store::contract::Head;
use tape_store::error::StoreError;
use tokio::sync::Semaphore;

/// Entries that are in memory at once for each stream that is verified.
const PAGE: u32 = 256;
/// Streams that one process verifies at once, so that it has no more pages than that in memory.
const AT_ONCE: usize = 4;

/// How many streams may still be verified at once.
#[derive(Debug)]
pub(super) struct Audits(Semaphore);

impl Default for Audits {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

/// Why an audit failed.
enum Broken {
    /// Entries were dropped or erased while they were read: the audit starts again with the rest.
    Overtaken,
    Found(EngineError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Found(error.into())
    }
}

impl Parts {
    /// Verifies a stream from its first entry to its head, page by page, with payloads, erasures and snapshot, as `tape verify` does.
    ///
    /// # Errors
    /// [`EngineError::Damaged`], or the store's [`StoreError::Corrupt`], where anything does not fit.
    pub(super) async fn audit(&self, stream: &StreamId) -> Result<Verified, EngineError> {
        let _permit = self.audits.0.acquire().await;
        let found = match self.audit_once(stream).await {
            Err(Broken::Overtaken) => self.audit_once(stream).await,
            found => found,
        };
        found.map_err(|broken| match broken {
            Broken::Found(error) => error,
            Broken::Overtaken => EngineError::Contended {
                stream: stream.clone(),
                attempts: 2,
            },
        })
    }

    async fn audit_once(&self, stream: &StreamId) -> Result<Verified, Broken> {
        // The head is read first: what is written meanwhile comes after it.
        let head = self.store.head(stream).await?;
        let snapshot = head.as_ref().and_then(|head| head.snapshot.as_ref());
        let snapshot = snapshot.map(|snapshot| (snapshot.seq, snapshot.bytes.clone()));
        let mut audit = Audit::new(stream, None, snapshot);
        loop {
            let page = page_to_end(self.store.as_ref(), stream, audit.seq(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            for stored in &page {
                let checked = audit.check(stored);
                checked.map_err(|error| broken(stream, stored, head.as_ref(), error))?;
                check_head(stream, stored, head.as_ref())?;
            }
        }
        let verified = audit.finish();
        verified.map_err(|error| Broken::Found(damaged(stream, Arc::new(error))))
    }

    /// Verifies entries whose payloads are to be destroyed. A damaged entry keeps its payload as the proof.
    ///
    /// # Errors
    /// As [`Parts::audit`].
    pub(super) async fn check_payloads(&self, stream: &StreamId, entries: &[Seq]) -> Result<(), EngineError> {
        let mut sorted = entries.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut rest = &sorted[..];
        while let Some(first) = rest.first().copied() {
            let in_turn = rest.iter().zip(first.onward()).take_while(|(seq, n)| *seq == n);
            let limit = u32::try_from(in_turn.count()).map_or(PAGE, |entries| entries.min(PAGE));
            let page = self
                .store
                .read(stream, Seq(first.0.saturating_sub(1)), limit)
                .await?;
            for stored in &page {
                decode(stored).map_err(|error| damaged(stream, Arc::new(error)))?;
            }
            let last = page.last().map_or(first, |stored| stored.seq.max(first));
            rest = &rest[rest.partition_point(|seq| *seq <= last)..];
        }
        Ok(())
    }
}

fn broken(stream: &StreamId, stored: &StoredEntry, head: Option<&Head>, error: AuditError) -> Broken {
    let gap = matches!(error, AuditError::Chain(ChainError::Gap { .. }));
    let dropped = gap && kind(stored).is_ok_and(|kind| kind == "run.retired");
    // What was read before an erasure was finished may be gone now.
    let erased = error
        .finished()
        .is_some_and(|finished| head.is_none_or(|head| head.seq < finished));
    if dropped || erased {
        return Broken::Overtaken;
    }
    Broken::Found(damaged(stream, Arc::new(error)))
}

fn check_head(stream: &StreamId, stored: &StoredEntry, head: Option<&Head>) -> Result<(), StoreError> {
    let (seq, digest) = (stored.seq, stored.digest);
    match head {
        Some(head) if head.seq == seq && head.digest != digest => {
            let problem = format!("entry {seq} has digest {digest}, its head has {}", head.digest);
            Err(StoreError::corrupt(stream.to_string(), problem))
        }
        _ => Ok(()),
    }
}
