//! The common part of every supervisor: it starts the processes, follows an agent through a drive, tracks the remaining stops, and prints
//! the last output of the processes where the scenario fails.

use crate::child::Child;
use crate::interrupt;
use crate::stops::Stop;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lines of a failed scenario's processes that are printed.
const LINES_TOLD: usize = 20;

/// Prints a line for the user.
#[expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]
pub fn say(line: &str) {
    println!("{line}");
}

/// Runs a scenario until it ends or is interrupted; prints under the program's `name` why it failed.
pub async fn run(name: &str, scenario: impl Future<Output = Result<()>>) -> ExitCode {
    told(name, interrupt::or_interrupted(scenario).await)
}

/// The exit code of an outcome; a failure is printed under the program's `name`.
#[must_use]
pub fn told(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the processes of a scenario come from, and where they write errors.
#[derive(Clone, Debug)]
pub struct Processes {
    program: PathBuf,
    errors: PathBuf,
}

impl Processes {
    /// The processes run this same program in other roles; their standard error goes into a file in `dir`.
    ///
    /// # Errors
    /// Where this program cannot be found.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            errors: dir.join("errors"),
        })
    }

    /// The file with the standard error of all processes.
    #[must_use]
    pub fn errors(&self) -> &Path {
        &self.errors
    }

    /// Starts a process in the role that `args` name.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
        Child::start(&self.program, args, &self.errors)
    }

    /// Starts a process that serves others, and waits until it is ready: the process and its URL.
    ///
    /// # Errors
    /// Where it cannot be started or ends before it is ready.
    pub async fn serve(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<(Child, String)> {
        let mut child = self.start(args)?;
        let url = child.report_of("ready").await?;
        Ok((child, url))
    }

    /// That the scenario failed, and the last lines that any of its processes wrote to standard error.
    #[must_use]
    pub fn said_last(&self) -> String {
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES_TOLD)..];
        if last.is_empty() {
            return "the scenario failed".to_owned();
        }
        format!(
            "the scenario failed; its processes last said:\n{}\n",
            last.join("\n")
        )
    }
}

/// How a drive of an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drove {
    /// The agent was done.
    ToTheEnd,
    /// It was killed as planned.
    IntoAKill,
    /// The run waits without it for work that it left to others.
    Suspended,
    /// It ended in another way, such as by losing its lease on a busy machine.
    Astray,
}

impl Drove {
    /// The agent reports that it is done, and must end successfully.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn to_the_end(agent: &mut Child) -> Result<Self> {
        let status = agent.ended().await?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(Self::ToTheEnd)
    }

    /// The agent reports nothing more, without having reported that it is done.
    ///
    /// # Errors
    /// Where waiting for its end fails.
    pub async fn astray(agent: &mut Child) -> Result<Self> {
        agent.ended().await?;
        Ok(Self::Astray)
    }
}

/// Drives that ended in another way than planned: a few are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Strays {
    max: usize,
    count: usize,
}

impl Strays {
    /// Allows at most `max` of them.
    #[must_use]
    pub const fn at_most(max: usize) -> Self {
        Self { max, count: 0 }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Where it is one too many.
    pub fn forgive(&mut self) -> Result<()> {
        self.count += 1;
        ensure!(
            self.count <= self.max,
            "the agent ended {} times without having to",
            self.count
        );
        Ok(())
    }
}

/// The stops of a run that its agent has not reached yet.
#[derive(Clone, Debug)]
pub struct Left(VecDeque<Stop>);

impl Left {
    /// All of them, in the order in which the agent comes to them.
    #[must_use]
    pub fn all(stops: Vec<Stop>) -> Self {
        Self(stops.into())
    }

    /// The next one.
    #[must_use]
    pub fn next(&self) -> Option<&Stop> {
        self.0.front()
    }

    /// Those that are left, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Stop> {
        self.0.iter()
    }

    /// The agent has stopped: takes the stop that it is at.
    ///
    /// # Errors
    /// Where none is planned.
    pub fn take(&mut self) -> Result<Stop> {
        self.0
            .pop_front()
            .context("the agent stopped where no stop was planned")
    }

    /// The run has ended: nothing may be left.
    ///
    /// # Errors
    /// Where something is.
    pub fn none(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        bail!("the run ended before {} planned stops", self.0.len())
    }
}
