//! Programs that work beside the journal's servers, `tape-reactor` and `tape-relay`, as processes that can be killed.

use crate::child::Child;
use crate::programs::program;
use crate::retry::until_it_works;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// What one process is given.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The URL of the journal.
    pub journal: String,
    /// The configuration file.
    pub config: PathBuf,
    /// More flags.
    pub flags: Vec<String>,
    /// More variables of its environment.
    pub env: Vec<(String, String)>,
}

/// Several processes of one program.
#[derive(Debug)]
pub struct Copies {
    /// The word of a process that is ready, before ` ready`.
    name: &'static str,
    program: PathBuf,
    errors: PathBuf,
    settings: Vec<Setting>,
    running: Vec<Mutex<Child>>,
}

impl Copies {
    /// Starts a process of `tape-reactor`, with all reactors, for each setting; their logs go to the file `errors`.
    ///
    /// # Errors
    /// Where the program cannot be built or started.
    pub async fn reactors(settings: Vec<Setting>, errors: &Path) -> Result<Self> {
        let program = program("tape-reactors", "tape-reactor")?;
        Self::start("tape-reactor", program, settings, errors).await
    }

    /// Starts a process of `tape-relay` for each setting; their logs go to the file `errors`.
    ///
    /// # Errors
    /// Where the program cannot be built or started.
    pub async fn relays(settings: Vec<Setting>, errors: &Path) -> Result<Self> {
        let program = program("tape-relay", "tape-relay")?;
        Self::start("tape-relay", program, settings, errors).await
    }

    async fn start(
        name: &'static str,
        program: PathBuf,
        settings: Vec<Setting>,
        errors: &Path,
    ) -> Result<Self> {
        let mut copies = Self {
            name,
            program,
            errors: errors.to_owned(),
            settings,
            running: Vec::new(),
        };
        for setting in &copies.settings {
            let child = copies.start_one(setting).await?;
            copies.running.push(Mutex::new(child));
        }
        Ok(copies)
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
        let name = self.name;
        let place = self.running.get(n);
        let place = place.with_context(|| format!("there is no {name} {n}"))?;
        let mut running = place.lock().await;
        let killed = running.kill().await;
        killed.with_context(|| format!("a {name} cannot be killed"))?;
        *running = until_it_works(|| self.start_one(&self.settings[n])).await?;
        Ok(())
    }

    async fn start_one(&self, setting: &Setting) -> Result<Child> {
        let config = setting.config.display().to_string();
        let args = ["--store", &setting.journal, "--config", &config, "--log", "error"];
        let args = args.into_iter().chain(setting.flags.iter().map(String::as_str));
        let mut child = Child::start_in(&self.program, args, &setting.env, &self.errors)?;
        let ready = child.report_of(self.name).await;
        ready.with_context(|| format!("{} does not start", self.name))?;
        Ok(child)
    }
}
