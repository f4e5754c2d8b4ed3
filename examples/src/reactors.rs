//! Tape's reactors as processes that can be killed.

use crate::child::Child;
use crate::programs::program;
use crate::retry::until_it_works;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// The word of a ready reactor process, before ` ready`.
const NAME: &str = "tape-reactor";

/// One process: the journal it works on, and its configuration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The URL of the journal.
    pub journal: String,
    /// The configuration file.
    pub config: PathBuf,
}

/// Several `tape-reactor` processes with all reactors each.
#[derive(Debug)]
pub struct Reactors {
    program: PathBuf,
    errors: PathBuf,
    settings: Vec<Setting>,
    running: Vec<Mutex<Child>>,
}

impl Reactors {
    /// Starts one process for each setting; their logs go to the file `errors`.
    ///
    /// # Errors
    /// Where the program cannot be built or started.
    pub async fn start(settings: Vec<Setting>, errors: &Path) -> Result<Self> {
        let program = program("tape-reactors", NAME)?;
        let mut running = Vec::new();
        for setting in &settings {
            running.push(Mutex::new(start(&program, setting, errors).await?));
        }
        Ok(Self {
            program,
            errors: errors.to_owned(),
            settings,
            running,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Kills a process and starts another in its place.
    ///
    /// # Errors
    /// Where it had ended by itself, or does not start again.
    pub async fn kill(&self, n: usize) -> Result<()> {
        let place = self
            .running
            .get(n)
            .with_context(|| format!("there is no worker {n}"))?;
        let mut running = place.lock().await;
        running.kill().await.context("a worker cannot be killed")?;
        let start = || start(&self.program, &self.settings[n], &self.errors);
        *running = until_it_works(start).await?;
        Ok(())
    }
}

async fn start(program: &Path, setting: &Setting, errors: &Path) -> Result<Child> {
    let config = setting.config.display().to_string();
    let args = ["--store", &setting.journal, "--config", &config, "--log", "error"];
    let mut child = Child::start(program, args, errors)?;
    let ready = child.report_of(NAME).await;
    ready.with_context(|| format!("{NAME} does not start"))?;
    Ok(child)
}
