//! Memory that calls share, and how long stalled peers may hold it.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The size of each such memory, in KiB: 256 MiB.
pub(crate) const ALL_KIB: usize = 256 * 1024;
/// A peer that takes nothing, or does not send the rest, for this long loses its memory.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// The same while others wait for memory.
const TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// How often to check whether others wait.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Memory, in KiB. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    kib: Arc<Semaphore>,
    /// The most that one owner takes at once.
    most: usize,
}

impl Memory {
    /// 256 MiB. One owner has at most `most` KiB of it at once.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            kib: Arc::new(Semaphore::new(ALL_KIB)),
            most,
        }
    }

    /// Waits until `kib` KiB are free.
    pub(crate) async fn take(&self, kib: u32) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.kib).acquire_many_owned(kib).await;
        permit.expect("memory is never closed")
    }

    /// None where less is free.
    pub(crate) fn try_take(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kib).try_acquire_many_owned(kib).ok()
    }

    pub(crate) fn free_kib(&self) -> usize {
        self.kib.available_permits()
    }

    /// Waits as long as a peer may be idle.
    pub(crate) async fn timeout(&self) {
        self.timeout_after(Duration::ZERO).await;
    }

    /// The same for a peer that was waited for for `waited` already.
    pub(crate) async fn timeout_after(&self, mut waited: Duration) {
        tokio::time::sleep(TIMEOUT_MIN.saturating_sub(waited)).await;
        waited = waited.max(TIMEOUT_MIN);
        while waited < TIMEOUT && self.free_kib() >= self.most {
            let pause = LOOK_EVERY.min(TIMEOUT - waited);
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }
}

/// The size of `bytes` bytes, in KiB.
pub(crate) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}
