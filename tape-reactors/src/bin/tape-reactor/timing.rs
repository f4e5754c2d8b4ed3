//! What wakes timers: sweeps of the program itself, or tasks of Cloud Tasks.

use crate::config::{File, Flags, Kind, Misconfigured, TimersBy};
use crate::google::TimerTasksEntry;
use crate::waking::Pushed;
use std::time::Duration;
use tape_reactors::Options;
#[cfg(feature = "cloud-tasks")]
use tokio_util::sync::CancellationToken;
#[cfg(feature = "cloud-tasks")]
use {crate::waking::Waking, tape_reactors::TimerTasks, tape_reactors::Watched, tokio::task::JoinSet};

/// A runner that tasks wake sees this far ahead, so that a task that comes early wakes it in time.
const AHEAD: Duration = Duration::from_secs(10);

/// What wakes timers, ready to start.
#[derive(Default)]
pub(crate) struct Timing {
    /// Where tasks are armed, and where they send their requests; none where the program sweeps.
    #[cfg(feature = "cloud-tasks")]
    tasks: Option<(tape_reactors::TaskQueue, tape_reactors::TaskTarget)>,
    /// How often timers are looked for beside the tasks; none where there are none.
    sweep: Option<Duration>,
}

impl Timing {
    pub(crate) async fn of(flags: &Flags, file: &File) -> Result<Self, Misconfigured> {
        if flags.timers == TimersBy::Sweep || !flags.kinds().contains(&Kind::Timers) {
            return Ok(Self::default());
        }
        let missing =
            "is missing: `--timers cloud-tasks` needs a `queue`, and the `url` of the endpoint `/wake`";
        let entry = file.timers.cloud_tasks.as_ref();
        let entry = entry.ok_or_else(|| invalid("timers.cloud_tasks", missing))?;
        let unheard =
            "is `cloud-tasks`, whose tasks wake the program at `POST /wake`: it needs `--wake push`";
        let pushed = flags
            .waking
            .pushed()
            .ok_or_else(|| invalid("--timers", unheard))?;
        Self::by_tasks(entry, pushed).await
    }

    #[cfg(feature = "cloud-tasks")]
    async fn by_tasks(entry: &TimerTasksEntry, pushed: Pushed<'_>) -> Result<Self, Misconfigured> {
        Ok(Self {
            tasks: Some(entry.open(pushed).await?),
            sweep: Some(entry.sweep()),
        })
    }

    #[cfg(not(feature = "cloud-tasks"))]
    #[expect(clippy::unused_async, reason = "it is called as the one of the other build")]
    async fn by_tasks(_: &TimerTasksEntry, _: Pushed<'_>) -> Result<Self, Misconfigured> {
        Err(crate::google::not_built("--timers".to_owned(), "cloud-tasks"))
    }

    /// How the runner of a reactor works.
    pub(crate) fn options(&self, kind: Kind, usual: Options) -> Options {
        match self.sweep {
            Some(sweep) if kind == Kind::Timers => Options {
                sweep,
                ahead: Some(AHEAD),
                ..usual
            },
            _ => usual,
        }
    }

    /// Starts what arms tasks.
    #[cfg(feature = "cloud-tasks")]
    pub(crate) fn start(
        self,
        journal: &Watched,
        waking: &Waking,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let (Some((queue, target)), Some(sweep)) = (self.tasks, self.sweep) else {
            return;
        };
        let mut arming = TimerTasks::new(journal.clone(), queue, target, sweep);
        if let Some(wake) = waking.wake() {
            arming = arming.woken_by(wake.clone());
        }
        tasks.spawn(arming.run(stop.clone()));
    }
}

fn invalid(key: &str, problem: &str) -> Misconfigured {
    Misconfigured::Invalid {
        key: key.to_owned(),
        problem: problem.to_owned(),
    }
}
