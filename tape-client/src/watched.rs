//! A value that tasks wait for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A value that tasks wait for. They are woken in the order in which they began to wait: a channel of `tokio::sync::watch` would wake
/// them in a random order, in which they would go on to write.
#[derive(Debug, Default)]
pub(crate) struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T> Watched<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Notify::new(),
        }
    }

    /// The value. It must not be held across an await.
    pub(crate) fn get(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value, and wakes those who wait where `change` returns true. Whether it did.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = change(&mut self.get());
        if changed {
            self.changed.notify_waiters();
        }
        changed
    }

    /// Waits until the value is as `is` says.
    pub(crate) async fn wait_for(&self, is: impl Fn(&T) -> bool) {
        loop {
            // A change counts from here on, so that none between the look and the wait is missed.
            let changed = self.changed.notified();
            if is(&self.get()) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Watched;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn those_who_wait_are_woken_in_their_order() {
        let (value, woken) = (Arc::new(Watched::new(0)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..32 {
            let (value, woken) = (Arc::clone(&value), Arc::clone(&woken));
            tasks.spawn(async move {
                value.wait_for(|value| *value == 2).await;
                woken.lock().unwrap().push(n);
            });
        }
        for next in [1, 2] {
            tokio::task::yield_now().await;
            value.change(|value| {
                *value = next;
                true
            });
        }
        tasks.join_all().await;
        assert_eq!(*woken.lock().unwrap(), (0..32).collect::<Vec<_>>());
    }
}
