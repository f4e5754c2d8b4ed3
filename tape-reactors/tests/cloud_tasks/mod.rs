//! Google Cloud Tasks for tests: its REST API, as the public client calls it, over queues in memory, with deliveries over HTTP.
//!
//! It follows what the reference of `google.cloud.tasks.v2` and the page of quotas say:
//!
//! - A task that its creator named is created once. While it is there, and for an hour after it was delivered or deleted, another of its
//!   name is refused (`ALREADY_EXISTS`). A task that is not there is `NOT_FOUND`, also to who deletes it.
//! - A task is scheduled at most 30 days ahead, has at most 100 KiB, and has a name of letters, digits, `-` and `_`; anything else is
//!   `INVALID_ARGUMENT`. Without a time, or with one that is over, it is delivered at once. Times are exact to the microsecond.
//! - A delivery is a request with the task's method, headers and body, and the headers `X-CloudTasks-*`. Any status from 200 to 299 ends the
//!   task. Otherwise it is delivered again by the queue's configuration: after a backoff that doubles `max_doublings` times and then grows
//!   evenly up to the longest, at most `max_attempts` times. What has no answer by the deadline has failed, too.
//! - Deliveries are at least once: a test can have each task delivered twice, also at the same time.
//! - A target with an OIDC token gets one in `Authorization`, for the audience that the task names, signed by a key of the test.
//!
//! It has no queue management, no rate limits, no App Engine targets, no overrides of a queue, and no redirects, and it asks for no
//! credentials.

#![allow(dead_code, reason = "each test file needs some of it")]

mod api;
mod delivery;
mod queue;

use google_cloud_wkt::Timestamp as GoogleTime;
use queue::Queue;
pub(crate) use queue::{Call, Retries};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tape_core::time::Timestamp;
use tape_environment::Environment;
use tape_identity::testing::Issuer;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// The only queue.
pub(crate) const QUEUE: &str = "projects/test/locations/here/queues/tape";
/// A name that was used is remembered for so long.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Tasks are scheduled at most so far ahead.
pub(crate) const AHEAD_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What happens to a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The task is created, and the answer breaks off.
    LoseAnswer,
    /// The task is created, and there is never an answer.
    HoldAnswer,
    /// The task is not created, and the connection breaks off.
    LoseRequest,
    /// The task is not created, and the answer says this.
    Refuse(u16, &'static str),
}

/// The service. It ends with this.
pub(crate) struct CloudTasks {
    shared: Arc<Shared>,
    address: String,
    _tasks: JoinSet<()>,
}

struct Shared {
    clock: Arc<dyn Environment>,
    issuer: Issuer,
    state: Mutex<State>,
    /// The queue or the clock changed.
    changed: Notify,
    /// Counts what happened.
    calls: watch::Sender<usize>,
}

struct State {
    queue: Queue,
    faults: VecDeque<Fault>,
    /// How often each task is delivered at a time.
    copies: usize,
    paused: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happened.
    fn note(&self, state: &mut State, call: Call) {
        state.queue.calls.push(call);
        self.calls.send_modify(|calls| *calls += 1);
    }
}

impl CloudTasks {
    /// A service by a clock.
    pub(crate) async fn start(clock: Arc<dyn Environment>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Arc::new(Shared {
            clock,
            issuer: Issuer::new("google"),
            state: Mutex::new(State {
                queue: Queue::default(),
                faults: VecDeque::new(),
                copies: 1,
                paused: false,
            }),
            changed: Notify::new(),
            calls: watch::Sender::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut tasks = JoinSet::new();
        let router = api::router(Arc::clone(&shared));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        tasks.spawn(delivery::run(Arc::clone(&shared)));
        Self {
            shared,
            address,
            _tasks: tasks,
        }
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where the keys are that tokens are signed with, as the issuer publishes them.
    pub(crate) fn keys(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// A token of a service account, as deliveries show one.
    pub(crate) fn token(&self, account: &str, audience: &str) -> String {
        delivery::token(&self.shared, account, audience)
    }

    /// Faults of the next creations, one after the other.
    pub(crate) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().faults.extend(faults);
    }

    /// How deliveries are repeated from now on.
    pub(crate) fn retries(&self, retries: Retries) {
        self.shared.state().queue.retries = retries;
    }

    /// Delivers each task so many times at once from now on.
    pub(crate) fn copies(&self, copies: usize) {
        self.shared.state().copies = copies;
    }

    /// Delivers nothing from now on, until it is told to.
    pub(crate) fn pause(&self, paused: bool) {
        self.shared.state().paused = paused;
        self.shared.changed.notify_one();
    }

    /// The clock was set.
    pub(crate) fn jumped(&self) {
        self.shared.changed.notify_one();
    }

    /// The tasks that wait, by name, and when each is due.
    pub(crate) fn tasks(&self) -> BTreeMap<String, Timestamp> {
        let state = self.shared.state();
        let tasks = state.queue.tasks.iter();
        tasks.map(|(name, task)| (name.clone(), task.at)).collect()
    }

    /// Drops a task that waits without a trace, as no service should.
    pub(crate) fn lose(&self, name: &str) {
        self.shared.state().queue.tasks.remove(name).unwrap();
    }

    /// What happened so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.state().queue.calls.clone()
    }

    /// Waits until what happened satisfies a condition.
    pub(crate) async fn until(&self, what: impl Fn(&[Call]) -> bool) {
        let mut calls = self.shared.calls.subscribe();
        calls.wait_for(|_| what(&self.calls())).await.unwrap();
    }

    /// Waits until a task at this time is in the queue. Returns its name.
    pub(crate) async fn until_task_at(&self, at: Timestamp) -> String {
        let mut calls = self.shared.calls.subscribe();
        loop {
            let _ = calls.borrow_and_update();
            if let Some((name, _)) = self.tasks().into_iter().find(|(_, task)| *task == at) {
                return name;
            }
            calls.changed().await.unwrap();
        }
    }
}

fn read_time(time: &GoogleTime) -> Timestamp {
    let micros = i64::from(time.nanos()) / 1_000;
    Timestamp::from_micros(time.seconds() * 1_000_000 + micros)
}

fn write_time(time: Timestamp) -> GoogleTime {
    let (seconds, micros) = (
        time.as_micros().div_euclid(1_000_000),
        time.as_micros().rem_euclid(1_000_000),
    );
    GoogleTime::new(seconds, i32::try_from(micros * 1_000).unwrap()).unwrap()
}
