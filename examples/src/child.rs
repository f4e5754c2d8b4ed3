//! The supervisor's end of the pipe to a process it started.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

/// A started process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    commands: Option<ChildStdin>,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a program; what it writes to standard error goes to the file `errors`, which is made or appended to.
    ///
    /// # Errors
    /// Where the program cannot be started or the file not be opened.
    pub fn start(
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        errors: &Path,
    ) -> Result<Self> {
        Self::start_in(program, args, &[], errors)
    }

    /// The same with more variables in its environment.
    ///
    /// # Errors
    /// Where the program cannot be started or the file not be opened.
    pub fn start_in(
        program: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        env: &[(String, String)],
        errors: &Path,
    ) -> Result<Self> {
        let errors = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(errors)?;
        let mut process = Command::new(program)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let commands = process.stdin.take();
        let reports = process.stdout.take().context("standard output is not piped")?;
        Ok(Self {
            process,
            commands,
            reports: BufReader::new(reports).lines(),
        })
    }

    /// The next line the process reports; none once it has ended.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// Where the pipe breaks or a line is not text.
    pub async fn report(&mut self) -> Result<Option<String>> {
        Ok(self.reports.next_line().await?)
    }

    /// The rest of the line that begins with `word`, skipping others.
    ///
    /// # Errors
    /// Where the process ends before it reports such a line.
    pub async fn report_of(&mut self, word: &str) -> Result<String> {
        while let Some(line) = self.report().await? {
            if let Some(rest) = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) {
                return Ok(rest.to_owned());
            }
        }
        bail!("a process ended before it reported '{word}'")
    }

    /// Sends a line to the process.
    ///
    /// # Errors
    /// Where the process is gone.
    pub async fn command(&mut self, line: &str) -> Result<()> {
        let pipe = self.commands.as_mut().context("the process takes no commands")?;
        pipe.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(pipe.flush().await?)
    }

    /// Ends the process with `SIGKILL` and waits until it is gone.
    ///
    /// # Errors
    /// Where the process had ended by itself before.
    pub async fn kill(&mut self) -> Result<()> {
        const SIGKILL: i32 = 9;
        self.process.start_kill()?;
        let status = self.process.wait().await?;
        if status.signal() == Some(SIGKILL) {
            Ok(())
        } else {
            bail!("the process had ended before: {status}")
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// Where waiting fails.
    pub async fn ended(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.process.wait().await?)
    }
}
