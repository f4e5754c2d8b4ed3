//! Learns of commits of other servers through the table's change stream.
//!
//! The stream only wakes waiting tasks: the log decides the entries and their order (`tail.rs`). A commit is the change that moves the head
//! of a stream's row. The hint that the stream is pending comes before it. So a reader that looks after this change was pushed finds the
//! commit; a reader that looked after the hint might not.
//!
//! Each partition is read from just before now on; after a break, a new stream continues from the same place. Partitions split and merge: a
//! closed one says where to continue. Where that is not possible, the watch restarts with the present partitions. While not every key of
//! the table is followed, waiting readers poll every second, as they do without a change stream.

use super::changes::{Changes, Client, StartFrom, StreamPartition};
use super::error::Failure;
use super::links::Access;
use super::partition::{Coming, News, Reading};
use super::settings::{Push, Target};
use crate::wake::Wake;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tape_environment::Environment;
use tokio::task::JoinHandle;
use tonic::Status;

/// How far a clock may be ahead of the service's, which does not read from the future, in milliseconds.
const CLOCK_AHEAD_MAX_MS: u64 = 10_000;

/// Timeouts and pauses of a watch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The interval of a stream's heartbeats.
    pub(super) heartbeat: Duration,
    /// A stream that is silent for this long is lost.
    pub(super) silence: Duration,
    /// The pause after the first failure; it doubles with each that follows.
    pub(super) pause: Duration,
    /// The longest pause.
    pub(super) pause_max: Duration,
}

impl Pace {
    const SERVICE: Self = Self {
        heartbeat: Duration::from_secs(5),
        silence: Duration::from_secs(30),
        pause: Duration::from_millis(250),
        pause_max: Duration::from_secs(30),
    };

    /// The pause after `failures` failures in a row.
    pub(super) fn after(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let pause = self.pause.saturating_mul(2_u32.saturating_pow(doublings));
        pause.min(self.pause_max)
    }
}

/// Follows the change stream until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    standing: Arc<Standing>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Follows the table's change stream, if there may be one and the settings allow it.
    pub(super) fn of(
        target: &Target,
        access: &Access,
        wake: &Arc<Wake>,
        environment: Arc<dyn Environment>,
    ) -> Option<Self> {
        let why_not = match (target.settings.push, &target.settings.emulator) {
            (Push::Off, _) => "push=off",
            (_, Some(_)) => "an emulator has no change streams",
            (push, None) => {
                return Some(Self::start(
                    target,
                    access,
                    wake,
                    push == Push::Auto,
                    Pace::SERVICE,
                    environment,
                ));
            }
        };
        tracing::info!(
            reason = why_not,
            "commits of other servers are looked for, not pushed"
        );
        None
    }

    /// Follows the change stream; with `ask`, if the table has one.
    pub(super) fn start(
        target: &Target,
        access: &Access,
        wake: &Arc<Wake>,
        ask: bool,
        pace: Pace,
        environment: Arc<dyn Environment>,
    ) -> Self {
        let standing = Arc::new(Standing {
            pushed: AtomicBool::new(false),
            wake: Arc::clone(wake),
        });
        let reader = ChangeReader {
            environment,
            changes: Changes::new(target, access, pace.heartbeat, pace.silence),
            pace,
            report: Report {
                standing: Arc::clone(&standing),
                failures: 0,
                said: None,
            },
        };
        Self {
            standing,
            task: tokio::spawn(reader.run(ask)),
        }
    }

    /// Whether all commits are pushed at present.
    pub(super) fn is_pushed(&self) -> bool {
        self.standing.pushed.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The state of the watch, for the store.
#[derive(Debug)]
struct Standing {
    pushed: AtomicBool,
    wake: Arc<Wake>,
}

impl Standing {
    /// Waiting readers look once more at both changes: for commits that were not pushed before, and because their wait may now be too long.
    fn set(&self, pushed: bool) {
        if self.pushed.swap(pushed, Ordering::AcqRel) != pushed {
            self.wake.notify();
        }
    }
}

/// Wakes readers and logs by the events of the stream.
struct Report {
    standing: Arc<Standing>,
    /// How often the watch restarted since all partitions were last followed.
    failures: u32,
    /// What was logged last: whether commits are pushed.
    said: Option<bool>,
}

impl Report {
    /// Records whether every commit is pushed.
    fn hears_all(&mut self, all: bool) {
        self.standing.set(all);
        if all {
            self.failures = 0;
            if self.said.replace(true) != Some(true) {
                tracing::info!("commits of other servers are pushed by the table's change stream");
            }
        }
    }

    fn lost(&mut self, failure: &Failure) {
        self.standing.set(false);
        if self.said.replace(false) == Some(false) {
            tracing::debug!(error = %failure, "the change stream is still not heard");
        } else {
            let source = std::error::Error::source(failure);
            tracing::warn!(
                error = %failure,
                source,
                "the change stream is not heard: commits of other servers are looked for until it is"
            );
        }
    }
}

struct ChangeReader {
    environment: Arc<dyn Environment>,
    changes: Changes,
    pace: Pace,
    report: Report,
}

impl ChangeReader {
    async fn run(mut self, ask: bool) {
        if ask && !self.finds_one().await {
            return;
        }
        loop {
            let failure = self.follow().await;
            self.report.lost(&failure);
            self.report.failures = self.report.failures.saturating_add(1);
            tokio::time::sleep(self.pace.after(self.report.failures)).await;
        }
    }

    /// Whether the table has a change stream, as far as this account may ask.
    async fn finds_one(&self) -> bool {
        const DOING_WITHOUT: &str = "commits of other servers are looked for, not pushed";
        loop {
            match self.changes.exist().await {
                Ok(true) => return true,
                Ok(false) => {
                    tracing::info!(reason = "the table has no change stream", "{DOING_WITHOUT}");
                    return false;
                }
                Err(failure) if failure.is_refusal() => {
                    let reason =
                        "it may not be asked whether the table has a change stream; push=on says that it has";
                    tracing::warn!(error = %failure, reason, "{DOING_WITHOUT}");
                    return false;
                }
                Err(failure) => {
                    tracing::debug!(error = %failure, "whether the table has a change stream is not known yet");
                    tokio::time::sleep(self.pace.pause_max).await;
                }
            }
        }
    }

    /// Follows all partitions from now on, until it cannot continue.
    async fn follow(&mut self) -> Failure {
        let from = self.environment.wall().minus_millis(CLOCK_AHEAD_MAX_MS);
        let since_epoch = Duration::from_micros(from.as_micros().try_into().unwrap_or(0));
        let from = StartFrom::StartTime((UNIX_EPOCH + since_epoch).into());
        let partitions = match self.changes.partitions().await {
            Ok(partitions) => partitions,
            Err(failure) => return failure,
        };
        let clients = match self.changes.connect(partitions.len()) {
            Ok(clients) => clients,
            Err(failure) => return failure,
        };
        let mut session = Session::new(&self.changes, self.pace, clients);
        for partition in partitions {
            session.begin(partition, from.clone());
        }
        session.follow(&mut self.report).await
    }
}

/// All partitions, read concurrently.
struct Session<'a> {
    changes: &'a Changes,
    pace: Pace,
    clients: Vec<Client>,
    readings: FuturesUnordered<BoxFuture<'a, (Reading, News)>>,
    /// Partitions without a record so far, or since their stream was lost.
    silent: HashSet<u64>,
    coming: Coming,
    /// How many readings were begun.
    begun: u64,
}

impl<'a> Session<'a> {
    fn new(changes: &'a Changes, pace: Pace, clients: Vec<Client>) -> Self {
        Self {
            changes,
            pace,
            clients,
            readings: FuturesUnordered::new(),
            silent: HashSet::new(),
            coming: Coming::default(),
            begun: 0,
        }
    }

    fn begin(&mut self, partition: StreamPartition, from: StartFrom) {
        self.begun += 1;
        self.silent.insert(self.begun);
        let nth = usize::try_from(self.begun).unwrap_or_default() % self.clients.len();
        let client = self.clients[nth].clone();
        self.go_on(Reading::new(self.begun, client, partition, from));
    }

    fn go_on(&mut self, reading: Reading) {
        self.readings
            .push(Box::pin(reading.next(self.changes, self.pace)));
    }

    async fn follow(mut self, report: &mut Report) -> Failure {
        while let Some((reading, read)) = self.readings.next().await {
            match read {
                News::Heard { committed } => {
                    self.silent.remove(&reading.number);
                    if committed {
                        report.standing.wake.notify();
                    }
                    self.go_on(reading);
                }
                News::Lost(failure) => {
                    self.silent.insert(reading.number);
                    report.lost(&failure);
                    self.go_on(reading);
                }
                News::Moved(places) => {
                    self.silent.remove(&reading.number);
                    for (partition, token) in places {
                        if let Some((partition, from)) = self.coming.add(partition, token) {
                            self.begin(partition, from);
                        }
                    }
                }
                News::Refused(failure) => return failure,
            }
            report.hears_all(self.silent.is_empty() && self.coming.is_empty());
        }
        Status::unavailable("no partition is left to be read").into()
    }
}
