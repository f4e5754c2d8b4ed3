//! A store in which an entry was changed behind the engine.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use tape_core::codec::StoredEntry;
use tape_core::id::{Seq, StreamId};
use tape_store::contract::JournalStore;
use tape_store::error::StoreError;
use tape_store::layer::Layer;

/// How an entry was damaged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// Its payload has another byte in it.
    Payload,
    /// Its payload is gone, and no record says that it was erased.
    Gone,
    /// Its envelope says something else.
    Envelope,
    /// The entry is missing.
    Missing,
}

impl Damage {
    pub(super) const ALL: [Self; 4] = [Self::Payload, Self::Gone, Self::Envelope, Self::Missing];
}

/// A store that can return an entry other than it was written.
pub(super) struct Tampered {
    inner: Arc<dyn JournalStore>,
    damage: Mutex<Option<(StreamId, Seq, Damage)>>,
}

impl Tampered {
    pub(super) fn new(inner: &Arc<dyn JournalStore>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            damage: Mutex::default(),
        })
    }

    /// Damages one entry from now on.
    pub(super) fn damage(&self, stream: &StreamId, seq: Seq, damage: Damage) {
        *self.damage.lock().expect("no test panicked with it") = Some((stream.clone(), seq, damage));
    }

    /// Returns every entry as it was written again.
    pub(super) fn mend(&self) {
        *self.damage.lock().expect("no test panicked with it") = None;
    }
}

#[async_trait]
impl Layer for Tampered {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn read(&self, stream: &StreamId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, StoreError> {
        let mut page = self.inner.read(stream, after, limit).await?;
        let damage = self.damage.lock().expect("no test panicked with it").clone();
        let Some((_, seq, damage)) = damage.filter(|(of, ..)| of == stream) else {
            return Ok(page);
        };
        if let Some(at) = page.iter().position(|stored| stored.seq == seq) {
            match damage {
                Damage::Payload => page[at].payload = page[at].payload.as_deref().map(changed),
                Damage::Gone => page[at].payload = None,
                Damage::Envelope => page[at].envelope = changed(&page[at].envelope),
                Damage::Missing => drop(page.remove(at)),
            }
        }
        Ok(page)
    }
}

/// The same bytes but for one in the middle.
fn changed(bytes: &[u8]) -> Bytes {
    let mut changed = bytes.to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    changed.into()
}
