//! Copies of a program that are killed and started again.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use tape_examples::child::Child;
use tape_examples::retry::until_it_works;
use tokio::sync::Mutex;

/// How a copy is started.
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// The word that begins the line by which it says that it is ready.
    pub(crate) word: &'static str,
}

impl Start {
    /// The process, and the rest of its line.
    pub(crate) async fn start(&self, errors: &Path) -> Result<(Child, String)> {
        let mut child = Child::start_in(&self.program, &self.args, &self.env, errors)?;
        let ready = child.report_of(self.word).await;
        let ready = ready.with_context(|| format!("{} does not start", self.word))?;
        Ok((child, ready))
    }
}

/// A copy: how it is started again, and the process.
pub(crate) struct Copy {
    start: Start,
    errors: PathBuf,
    running: Mutex<Child>,
}

impl Copy {
    pub(crate) async fn of(start: Start, errors: &Path) -> Self {
        let (running, _) = start.start(errors).await.unwrap();
        Self::running(start, running, errors)
    }

    pub(crate) fn running(start: Start, running: Child, errors: &Path) -> Self {
        Self {
            start,
            errors: errors.to_owned(),
            running: Mutex::new(running),
        }
    }

    /// SIGKILL, and another process in its place.
    pub(crate) async fn kill(&self) {
        let mut running = self.running.lock().await;
        running.kill().await.unwrap();
        (*running, _) = until_it_works(|| self.start.start(&self.errors)).await.unwrap();
    }
}
