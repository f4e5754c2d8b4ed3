//! Tasks of Google Cloud Tasks that wake the timers of a journal, in place of frequent sweeps.

mod plan;

use crate::backoff::Backoff;
use crate::cloud_tasks::{Created, NewTask, TaskQueue, TaskTarget};
use crate::google::GoogleError;
use crate::wake::Wake;
use crate::watched::Watched;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use plan::{AHEAD_MAX, Alarm, Armed, Seen, wanted};
use std::time::Duration;
use tape_api::query::Tail;
use tape_api::{Journal as _, JournalError};
use tape_core::agenda::Queue;
use tape_core::causes::Causes;
use tape_core::outage::Outage;
use tape_core::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Entries that may change when timers are due.
const WRITTEN: [&str; 2] = ["*.run.*.*.*.*.timer.*", "*.run.*.*.*.*.gate.*"];

/// Looks at the agenda are this far apart at least, so that a burst of timers is read at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A feed that has just been opened may have missed an entry of that moment: looks follow after this, and then after twice as long each time.
const SETTLES: Duration = Duration::from_secs(1);

/// A feed that ended is opened again after this.
const REOPENED: Duration = Duration::from_secs(10);

/// The first and the longest wait after a look that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// The shortest and the longest time between sweeps. Two of them are ahead, and the queue takes no task beyond 30 days.
const SWEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(14 * 24));

/// While tasks cannot be armed, the log says so this often.
const AGAIN: Duration = Duration::from_secs(60);

/// Calls to the queue under way at once.
const CALLS_MAX: usize = 16;

/// Pages of the agenda that a look reads at most. It goes beyond the first one only where that has nothing but work that is due already.
const PAGES_MAX: usize = 16;

/// Names that are tried for a task. The first is taken unless its task was deleted although its work is pending.
const VERSIONS_MAX: u32 = 8;

/// Arms a task in a queue of Cloud Tasks for each pending gate deadline and timer of a journal, those that come first, and for regular sweeps.
/// A task sends a request to an endpoint that wakes the reactor [`Timers`](crate::Timers), wherever it runs. The request looks like a push of
/// Pub/Sub and says nothing but the task's name: the agenda is the truth.
///
/// Any number of processes may arm the tasks of one journal: a task is named by the work and the time that it is for. A task whose work
/// was cancelled is deleted by the process that knows it, or else wakes the timers for nothing.
#[derive(Debug)]
pub struct TimerTasks {
    journal: Watched,
    queue: TaskQueue,
    target: TaskTarget,
    sweep: Duration,
    wake: Option<Wake>,
    armed: Armed,
    outage: Outage,
}

/// Why a look armed not all that it should have.
#[derive(Debug, thiserror::Error)]
enum Unarmed {
    #[error("the agenda cannot be read")]
    Journal(#[from] JournalError),
    #[error("the queue of tasks did not take it")]
    Queue(#[from] GoogleError),
}

impl TimerTasks {
    /// Arms tasks in `queue` that send a request to `target`. Whatever gets lost, the timers are woken each `sweep`, from a second to two
    /// weeks.
    pub fn new(journal: impl Into<Watched>, queue: TaskQueue, target: TaskTarget, sweep: Duration) -> Self {
        Self {
            journal: journal.into(),
            queue,
            target,
            sweep: sweep.clamp(SWEEP.0, SWEEP.1),
            wake: None,
            armed: Armed::default(),
            outage: Outage::new(AGAIN),
        }
    }

    /// Looks at the agenda at each hint, too.
    #[must_use]
    pub fn woken_by(mut self, wake: Wake) -> Self {
        self.wake = Some(wake);
        self
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut written = self.written();
        let mut settles = SETTLES;
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        while !stop.is_cancelled() {
            let looked = Instant::now();
            // This is requested before the look, so that a hint in between is not missed.
            let hinted = self.hinted();
            let wait = match self.look().await {
                Ok(next) => {
                    self.back();
                    backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
                    next.min(settles)
                }
                Err(unarmed) => {
                    self.lost(&unarmed);
                    backoff.next(self.journal.environment().chance())
                }
            };
            settles = settles.saturating_mul(2).min(self.sweep);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = hinted => {}
                Some(opened) = written.next() => if opened == Heard::Again { settles = SETTLES },
                () = tokio::time::sleep_until(looked + wait) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(looked + PAUSE) => {}
            }
        }
    }

    fn hinted(&self) -> BoxFuture<'static, ()> {
        match &self.wake {
            Some(wake) => wake.hinted(),
            None => std::future::pending().boxed(),
        }
    }

    /// What the feed says of timers and gates, without end.
    fn written(&self) -> BoxStream<'static, Heard> {
        let feeds = WRITTEN.map(|pattern| {
            let journal = self.journal.clone();
            let tail = Tail::new(pattern.parse().expect("it is a pattern"));
            // A feed ends at an error that does not pass by itself.
            let times = stream::iter(0_u64..).then(async |time| {
                tokio::time::sleep(if time == 0 { Duration::ZERO } else { REOPENED }).await;
            });
            times.flat_map(move |()| journal.tail(&tail)).boxed()
        });
        let heard = stream::select_all(feeds).filter_map(async |page| match page {
            Ok(page) => (!page.entries.is_empty() || !page.damaged.is_empty()).then_some(Heard::Entries),
            Err(_) => Some(Heard::Again),
        });
        heard.boxed()
    }

    /// Looks at what is pending, and arms and deletes tasks accordingly. Returns when to look again.
    async fn look(&mut self) -> Result<Duration, Unarmed> {
        let (seen, now) = self.read().await?;
        let obsolete = self.armed.obsolete(&seen, now);
        let wanted = wanted(&seen, now, self.sweep);
        let next = wanted.first().map_or(now, Alarm::at).millis_since(now);
        let missing: Vec<Alarm> = wanted
            .into_iter()
            .filter(|alarm| !self.armed.has(alarm))
            .collect();
        let armed = self.arm(missing).await;
        self.delete(obsolete).await;
        armed?;
        // A moment later, so that what woke then has been read.
        Ok(Duration::from_millis(next) + PAUSE)
    }

    /// Reads the agenda up to work that is not due yet, and the journal's time, by which it is due.
    async fn read(&self) -> Result<(Seen, Timestamp), JournalError> {
        let (mut work, mut from, mut limit) = (Vec::new(), None::<String>, 0);
        let mut now = self.journal.environment().wall();
        let size = u32::try_from(AHEAD_MAX).expect("it is a few hundred");
        for _ in 0..PAGES_MAX {
            let page = self.journal.pending(Queue::Timers, from.as_deref(), size).await?;
            limit += AHEAD_MAX;
            now = page.now.unwrap_or(now);
            let ahead = page.work.iter().any(|work| work.due > now);
            work.extend(page.work);
            from = page.next;
            if ahead || from.is_none() {
                break;
            }
        }
        Ok((Seen::of(work, limit, from.is_none()), now))
    }

    /// Arms tasks, those first that come first. One that fails does not keep the others.
    async fn arm(&mut self, alarms: Vec<Alarm>) -> Result<(), GoogleError> {
        let this = &*self;
        let calls = alarms.into_iter().map(|alarm| async move {
            let name = this.arm_one(&alarm).await;
            (alarm, name)
        });
        let done: Vec<_> = stream::iter(calls).buffered(CALLS_MAX).collect().await;
        let mut failed = Ok(());
        for (alarm, name) in done {
            match name {
                Ok(name) => self.armed.add(alarm, name),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    }

    /// Makes sure that an alarm has a task in the queue. Returns the task's name.
    async fn arm_one(&self, alarm: &Alarm) -> Result<String, GoogleError> {
        for version in 0..VERSIONS_MAX {
            let name = alarm.name(&self.target.url, version);
            let task = NewTask {
                name: &name,
                at: Some(alarm.at()),
                target: &self.target,
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                // As a push of Pub/Sub has it, so that one endpoint takes both.
                body: format!(r#"{{"message":{{"messageId":"{name}"}}}}"#).into_bytes(),
            };
            let created = self.queue.create(&task).await?;
            // A name that is taken may be that of a task that is gone. Then nothing would wake the work.
            if created == Created::New || self.queue.has(&name).await? {
                debug!(at = %alarm.at(), name, "armed");
                return Ok(name);
            }
        }
        let problem = format!("{VERSIONS_MAX} names of a task for {} are used up", alarm.at());
        Err(GoogleError::Refused(problem))
    }

    /// Deletes tasks, as far as possible: one that stays wakes the timers for nothing.
    async fn delete(&self, tasks: Vec<(Alarm, String)>) {
        let calls = tasks.into_iter().map(|(_, name)| async move {
            if let Err(error) = self.queue.delete(&name).await {
                debug!(%error, name, "a task is not deleted, and will wake the timers for nothing");
            }
        });
        stream::iter(calls)
            .buffer_unordered(CALLS_MAX)
            .collect::<()>()
            .await;
    }

    fn lost(&mut self, unarmed: &Unarmed) {
        // The watched journal says by itself that it is out of reach.
        if matches!(unarmed, Unarmed::Journal(JournalError::Unavailable(_))) {
            return;
        }
        let error = Causes(unarmed).to_string();
        if let Some(spell) = self.outage.lost(Instant::now().into_std(), &error) {
            warn!(queue = self.queue.name(), error, %spell, "timers have no tasks: they fire late where no process is there");
        }
    }

    fn back(&mut self) {
        if let Some(spell) = self.outage.back(Instant::now().into_std()) {
            info!(queue = self.queue.name(), %spell, "timers have their tasks again");
        }
    }
}

/// What the feed said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Something was written.
    Entries,
    /// It broke off, and is opened again.
    Again,
}
