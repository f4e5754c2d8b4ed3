//! A queue in memory: which names are taken, and when a task is delivered.

use super::{AHEAD_MAX, REMEMBERED};
use std::collections::BTreeMap;
use std::time::Duration;
use tape_core::time::Timestamp;

/// Most bytes of a task.
const TASK_BYTES_MAX: usize = 100 * 1_024;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A task was created.
    Created { name: String, at: Timestamp },
    /// A creation met a name that is taken.
    Named { name: String },
    /// A creation or another call was refused otherwise.
    Refused { status: &'static str },
    /// A task was deleted.
    Deleted { name: String },
    /// A task that is not there was to be deleted or shown.
    Missing { name: String },
    /// A delivery was answered; with 0 where there was no answer.
    Delivered { name: String, status: u16 },
}

/// How deliveries are repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    pub(crate) max_attempts: u32,
    pub(crate) min_backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) max_doublings: u32,
}

impl Default for Retries {
    /// What Google gives a queue that says nothing.
    fn default() -> Self {
        Self {
            max_attempts: 100,
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(3_600),
            max_doublings: 16,
        }
    }
}

impl Retries {
    /// The wait after so many deliveries that failed.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(self.max_doublings);
        let doubled = self.min_backoff.saturating_mul(1 << doublings.min(30));
        let more = failures.saturating_sub(1).saturating_sub(self.max_doublings);
        doubled.saturating_mul(1 + more).min(self.max_backoff)
    }
}

/// A task that waits.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) at: Timestamp,
    pub(super) created: Timestamp,
    pub(super) url: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    /// The service account and audience of its token.
    pub(super) identity: Option<(String, String)>,
    /// Deliveries so far, and those that were answered.
    pub(super) deliveries: u32,
    pub(super) answers: u32,
    /// Whether it is being delivered.
    pub(super) under_way: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) tasks: BTreeMap<String, Task>,
    /// Names that were used, and until when they are taken.
    used: BTreeMap<String, Timestamp>,
    pub(super) retries: Retries,
    pub(super) calls: Vec<Call>,
}

/// Why a task is not created: a status, its code and what is wrong.
pub(super) type Refusal = (u16, &'static str, String);

impl Queue {
    pub(super) fn create(&mut self, name: &str, task: Task, now: Timestamp) -> Result<(), Refusal> {
        check(name, &task, now)?;
        self.used.retain(|_, until| *until > now);
        if self.tasks.contains_key(name) || self.used.contains_key(name) {
            return Err((
                409,
                "ALREADY_EXISTS",
                "Requested entity already exists".to_owned(),
            ));
        }
        self.tasks.insert(name.to_owned(), task);
        Ok(())
    }

    /// Takes a task out. Its name stays taken.
    pub(super) fn end(&mut self, name: &str, now: Timestamp) -> Option<Task> {
        let task = self.tasks.remove(name)?;
        let until = now.plus_millis(u64::try_from(REMEMBERED.as_millis()).unwrap());
        self.used.insert(name.to_owned(), until);
        Some(task)
    }

    /// The tasks to deliver now, which are then under way, and when the next one is due.
    pub(super) fn due(&mut self, now: Timestamp) -> (Vec<(String, Task)>, Option<Timestamp>) {
        let (mut due, mut next) = (Vec::new(), None);
        for (name, task) in self.tasks.iter_mut().filter(|(_, task)| !task.under_way) {
            if task.at <= now {
                task.under_way = true;
                task.deliveries += 1;
                due.push((name.clone(), task.clone()));
            } else {
                next = next.into_iter().chain([task.at]).min();
            }
        }
        (due, next)
    }

    /// A delivery is over.
    pub(super) fn delivered(&mut self, name: &str, status: u16, now: Timestamp) {
        let (done, retries) = ((200..300).contains(&status), self.retries);
        // It may have been deleted meanwhile.
        let Some(task) = self.tasks.get_mut(name) else {
            return;
        };
        task.answers += u32::from(status != 0);
        task.under_way = false;
        if done || task.deliveries >= retries.max_attempts {
            self.end(name, now);
            return;
        }
        let wait = retries.backoff(task.deliveries);
        task.at = now.plus_millis(u64::try_from(wait.as_millis()).unwrap());
    }
}

fn check(name: &str, task: &Task, now: Timestamp) -> Result<(), Refusal> {
    let invalid = |what: &str| Err((400, "INVALID_ARGUMENT", what.to_owned()));
    let id = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 500 || !name.bytes().all(id) {
        return invalid("the task's name is not valid");
    }
    if task.at.millis_since(now) > u64::try_from(AHEAD_MAX.as_millis()).unwrap() {
        return invalid("the schedule time is more than 30 days ahead");
    }
    if !task.url.starts_with("http://") && !task.url.starts_with("https://") {
        return invalid("the URL begins with neither http:// nor https://");
    }
    let headers = task.headers.iter().map(|(name, value)| name.len() + value.len());
    if task.body.len() + headers.sum::<usize>() > TASK_BYTES_MAX {
        return invalid("the task is too large");
    }
    Ok(())
}
