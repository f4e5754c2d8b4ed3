//! A wire between a store and its table.

use crate::bigtable::error::Failure;
use crate::bigtable::table::{Change, Check, Row, RowFilter, Rows, Table};
use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The number of calls, and of their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) reads: u64,
    pub(super) rows_read: u64,
    pub(super) mutates: u64,
    pub(super) rows_changed: u64,
    pub(super) checks: u64,
}

/// The order in which the rows of one call are changed; the service promises none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Given,
    Reversed,
}

pub(super) struct Wire {
    inner: Arc<dyn Table>,
    /// Changes of single rows until the process dies: the last one is made, and its answer is lost.
    left: AtomicU64,
    order: Order,
    counts: Mutex<Counts>,
    /// Conditional changes that were sent and have not arrived; none where they arrive at once.
    held: Option<Mutex<Vec<Check>>>,
    gate: Option<Gate>,
    pause: Option<Pause>,
}

/// One call waits until the test releases it.
struct Pause {
    calls_before: AtomicU64,
    reached: Notify,
    go: Notify,
}

/// Lets a call through once another task has done some steps.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) steps: watch::Receiver<u64>,
    /// One call out of this many has to wait.
    pub(super) every: u64,
    pub(super) wait_for: u64,
}

impl Wire {
    pub(super) fn new(inner: &Arc<dyn Table>) -> Self {
        Self {
            inner: Arc::clone(inner),
            left: AtomicU64::new(u64::MAX),
            order: Order::Given,
            counts: Mutex::default(),
            held: None,
            gate: None,
            pause: None,
        }
    }

    /// The call after `calls` others waits before it is sent, until [`Wire::resume`].
    pub(super) fn pausing_after(inner: &Arc<dyn Table>, calls: u64) -> Self {
        let pause = Pause {
            calls_before: AtomicU64::new(calls),
            reached: Notify::new(),
            go: Notify::new(),
        };
        Self {
            pause: Some(pause),
            ..Self::new(inner)
        }
    }

    /// Waits until a call waits.
    pub(super) async fn paused(&self) {
        self.pause.as_ref().expect("it pauses").reached.notified().await;
    }

    pub(super) fn resume(&self) {
        self.pause.as_ref().expect("it pauses").go.notify_one();
    }

    /// The process dies after `changes` changes of rows.
    pub(super) fn dying_after(inner: &Arc<dyn Table>, changes: u64, order: Order) -> Self {
        Self {
            left: AtomicU64::new(changes),
            order,
            ..Self::new(inner)
        }
    }

    /// Conditional changes are sent, do not arrive and are not answered, until [`Wire::deliver`].
    pub(super) fn holding(inner: &Arc<dyn Table>) -> Self {
        Self {
            held: Some(Mutex::default()),
            ..Self::new(inner)
        }
    }

    pub(super) fn gated(inner: &Arc<dyn Table>, gate: Gate) -> Self {
        Self {
            gate: Some(gate),
            ..Self::new(inner)
        }
    }

    /// Delivers the held changes. Returns whether each predicate held.
    pub(super) async fn deliver(&self) -> Vec<bool> {
        let held = self.held.as_ref().expect("it holds calls up");
        let checks = std::mem::take(&mut *held.lock().unwrap());
        let mut matched = Vec::new();
        for check in checks {
            matched.push(self.inner.check_and_mutate(check).await.unwrap());
        }
        matched
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }

    /// The number of changes of rows so far.
    pub(super) fn changes(&self) -> u64 {
        self.counts().rows_changed + self.counts().checks
    }

    fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// Whether the process survives a change.
    fn survives(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) > 1
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts.lock().unwrap());
    }

    async fn pass_pause(&self) {
        let Some(pause) = &self.pause else { return };
        // The counter wraps around; no test makes that many calls.
        if pause.calls_before.fetch_sub(1, Ordering::SeqCst) == 0 {
            pause.reached.notify_one();
            pause.go.notified().await;
        }
    }

    async fn pass_gate(&self) {
        let Some(mut gate) = self.gate.clone() else { return };
        let counts = self.counts();
        if !(counts.checks + counts.mutates).is_multiple_of(gate.every) {
            return;
        }
        let until = gate.steps.borrow_and_update().saturating_add(gate.wait_for);
        // An error means that the other task is gone: then there is nothing to wait for.
        let _ = gate.steps.wait_for(|step| *step >= until).await;
    }
}

const fn silence() -> Failure {
    Failure::Silent(Duration::ZERO)
}

#[async_trait]
impl Table for Wire {
    async fn read(&self, rows: Rows, filter: RowFilter, limit: usize) -> Result<Vec<Row>, Failure> {
        self.pass_pause().await;
        if self.is_dead() {
            return Err(silence());
        }
        let read = self.inner.read(rows, filter, limit).await?;
        self.count(|counts| {
            counts.reads += 1;
            counts.rows_read += read.len() as u64;
        });
        Ok(read)
    }

    async fn mutate(&self, changes: Vec<Change>) -> Vec<Result<(), Failure>> {
        self.pass_pause().await;
        self.pass_gate().await;
        let many = changes.len();
        self.count(|counts| {
            counts.mutates += 1;
            counts.rows_changed += many as u64;
        });
        if self.left.load(Ordering::SeqCst) > u64::from(u32::MAX) {
            return self.inner.mutate(changes).await;
        }
        let mut changes = changes;
        if self.order == Order::Reversed {
            changes.reverse();
        }
        for change in changes {
            if self.is_dead() {
                break;
            }
            self.inner.mutate(vec![change]).await.remove(0).unwrap();
            self.survives();
        }
        let dead = self.is_dead();
        let outcome = || if dead { Err(silence()) } else { Ok(()) };
        (0..many).map(|_| outcome()).collect()
    }

    async fn check_and_mutate(&self, check: Check) -> Result<bool, Failure> {
        self.pass_pause().await;
        self.pass_gate().await;
        self.count(|counts| counts.checks += 1);
        if let Some(held) = &self.held {
            held.lock().unwrap().push(check);
            return Err(silence());
        }
        if self.is_dead() {
            return Err(silence());
        }
        let matched = self.inner.check_and_mutate(check).await?;
        if self.survives() {
            Ok(matched)
        } else {
            Err(silence())
        }
    }
}
