//! Places for requests that wait, so that one busy stream or tenant does not take all of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use tape_core::id::{StreamId, Tenant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most requests that wait in one stream service.
const PLACES_MAX: usize = 4096;
/// Most of them of one tenant.
const TENANT_PLACES_MAX: usize = PLACES_MAX / 4;
/// Most of them for one stream.
const STREAM_PLACES_MAX: usize = TENANT_PLACES_MAX / 4;

/// The places of one stream service. A caller without a place waits for one, behind the callers of its own stream and tenant first.
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_tenants: Shares<Tenant>,
    of_streams: Shares<StreamId>,
}

/// A place for one request, free again when dropped.
pub(super) struct Place {
    // Dropped in this order: the scarcest last.
    _all: OwnedSemaphorePermit,
    _of_tenant: Share<Tenant>,
    _of_stream: Share<StreamId>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(PLACES_MAX)),
            of_tenants: Shares::new(TENANT_PLACES_MAX),
            of_streams: Shares::new(STREAM_PLACES_MAX),
        }
    }

    /// Waits for a place. It acquires the narrowest bound first, so that a caller waiting for that one holds no wider one.
    pub(super) async fn take(&self, stream: &StreamId) -> Place {
        let of_stream = self.of_streams.take(stream).await;
        let of_tenant = self.of_tenants.take(stream.tenant()).await;
        let all = Arc::clone(&self.all).acquire_owned().await;
        Place {
            _all: all.expect("the semaphore is never closed"),
            _of_tenant: of_tenant,
            _of_stream: of_stream,
        }
    }
}

/// A bound for each key that is in use.
struct Shares<K: Eq + Hash + Clone> {
    places: usize,
    used: Used<K>,
}

type Used<K> = Arc<Mutex<HashMap<K, Arc<Semaphore>>>>;

/// One place of a key.
struct Share<K: Eq + Hash + Clone> {
    key: K,
    used: Used<K>,
    /// Taken by `drop` alone.
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    fn new(places: usize) -> Self {
        Self {
            places,
            used: Used::default(),
        }
    }

    async fn take(&self, key: &K) -> Share<K> {
        let mut share = Share {
            key: key.clone(),
            used: Arc::clone(&self.used),
            permit: None,
        };
        let semaphore = {
            let mut used = lock(&self.used);
            let fresh = || Arc::new(Semaphore::new(self.places));
            Arc::clone(used.entry(key.clone()).or_insert_with(fresh))
        };
        let permit = semaphore.acquire_owned().await;
        share.permit = Some(permit.expect("the semaphore is never closed"));
        share
    }
}

impl<K: Eq + Hash + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        self.permit = None;
        // A caller that waits or has a place shares the semaphore.
        if used
            .get(&self.key)
            .is_some_and(|semaphore| Arc::strong_count(semaphore) == 1)
        {
            used.remove(&self.key);
        }
    }
}

fn lock<K>(used: &Used<K>) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>>
where
    K: Eq + Hash + Clone,
{
    used.lock().expect("no code panics while it holds the shares")
}

#[cfg(test)]
mod tests {
    use super::{Places, STREAM_PLACES_MAX, TENANT_PLACES_MAX};
    use futures::FutureExt as _;
    use tape_core::id::{StreamId, Tenant, ValueName};

    fn stream(tenant: &str, name: &str) -> StreamId {
        StreamId::Value {
            tenant: Tenant::new(tenant).unwrap(),
            name: ValueName::new(name).unwrap(),
        }
    }

    #[test]
    fn a_stream_and_a_tenant_take_their_share_alone() {
        let places = Places::new();
        let take = |stream: &StreamId| places.take(stream).now_or_never();
        let busy: Vec<_> = std::iter::from_fn(|| take(&stream("noisy", "v"))).collect();
        assert_eq!(busy.len(), STREAM_PLACES_MAX);
        let others = (0..).map(|n| stream("noisy", &format!("v{n}")));
        let others: Vec<_> = others.map_while(|stream| take(&stream)).collect();
        assert_eq!(busy.len() + others.len(), TENANT_PLACES_MAX);
        assert!(take(&stream("quiet", "v")).is_some());
        drop(busy);
        assert!(take(&stream("noisy", "v")).is_some());
    }

    #[test]
    fn what_is_not_used_is_not_kept() {
        let places = Places::new();
        let stream = stream("t", "v");
        let held: Vec<_> = std::iter::from_fn(|| places.take(&stream).now_or_never()).collect();
        let waiting = places.take(&stream);
        let mut waiting = Box::pin(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop((held, waiting));
        assert!(super::lock(&places.of_streams.used).is_empty());
        assert!(super::lock(&places.of_tenants.used).is_empty());
    }
}
