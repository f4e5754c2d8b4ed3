//! Layers apply to the upkeep of a store like to the rest of it.

use super::{Fault, FaultyStore, Layer as _, MeteredStore, Point, RetryingStore};
use crate::contract::JournalStore;
use crate::error::StoreError;
use crate::memory::MemoryStore;
use crate::upkeep::{Correction, End};
use std::sync::Arc;
use std::time::Duration;
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::payload::Digest;

fn stream() -> StreamId {
    "acme/value/rate".parse().expect("it is a name")
}

/// Calls every method of upkeep, often enough that each call meets the fault planned for it.
async fn ask(store: &dyn JournalStore) -> Result<(), StoreError> {
    let upkeep = store.upkeep();
    let (seq, epoch, digest) = (Seq::ZERO, Epoch(0), Digest::default());
    upkeep.streams(None, 10).await?;
    upkeep.indexed(&stream(), &[]).await?;
    let end = End { seq, epoch, digest };
    upkeep.reindex(&stream(), end, &Correction::default()).await?;
    upkeep.set_index_version(1).await?;
    upkeep.index_version().await.map(drop)
}

/// A store whose calls of upkeep all fail once.
fn failing_once() -> Arc<FaultyStore> {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    for _ in 0..5 {
        faulty.plan(Point::Upkeep, Fault::Unavailable);
        faulty.plan(Point::Upkeep, Fault::None);
    }
    faulty
}

#[tokio::test]
async fn upkeep_is_tried_again_and_counted() {
    let faulty = failing_once();
    let metered = Arc::new(MeteredStore::new(Arc::<FaultyStore>::clone(&faulty)));
    let inner: Arc<dyn JournalStore> = Arc::<MeteredStore>::clone(&metered);
    let store = RetryingStore::new(inner, 2, Duration::ZERO);
    ask(&store).await.expect("each call is tried a second time");
    let counts = metered.counts();
    assert_eq!((counts.upkeeps, counts.errors, faulty.left()), (10, 5, 0));
}

#[tokio::test]
async fn upkeep_meets_faults() {
    let faulty = failing_once();
    let refused = ask(faulty.as_ref()).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable { .. })),
        "{refused:?}"
    );
    assert_eq!(faulty.inner().upkeep().index_version().await.ok(), Some(0));
}
