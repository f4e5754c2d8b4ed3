//! The airline as a process of the scenario.

use crate::scenario::Files;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::time::Duration;
use tape_examples::child::Child;
use tape_examples::non_idempotent_upstream::{GO, Hold};
use tape_examples::processes::Processes;
use tape_examples::retry::until_it_works;
use tape_examples::upstream::ANYWHERE;

/// How long a caller waits for a non-idempotent airline to answer an act.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// The airline. Its ledger outlives its process.
pub(crate) struct Airline {
    /// Where it is reached.
    pub(crate) url: String,
    process: Child,
}

impl Airline {
    /// An airline that honours idempotency keys.
    pub(crate) async fn idempotent(processes: &Processes, files: &Files) -> Result<Self> {
        let args = ["airline".into(), files.trajectories.clone(), files.ledger()];
        let (process, url) = processes.serve(args).await?;
        Ok(Self { url, process })
    }

    /// An airline that ignores idempotency keys, loses and delays answers, and holds some calls.
    pub(crate) async fn non_idempotent(
        processes: &Processes,
        files: &Files,
        seed: u64,
        holds: &[Hold],
    ) -> Result<Self> {
        std::fs::write(holds_file(files), serde_json::to_vec(holds)?)?;
        let (process, url) = processes.serve(non_idempotent(files, seed, ANYWHERE)).await?;
        Ok(Self { url, process })
    }

    /// Kills a non-idempotent one and starts it again at its address.
    pub(crate) async fn restart(&mut self, processes: &Processes, files: &Files, seed: u64) -> Result<()> {
        self.process
            .kill()
            .await
            .context("the airline cannot be killed")?;
        let address = self.url.trim_start_matches("http://").to_owned();
        let start = || processes.serve(non_idempotent(files, seed, &address));
        (self.process, _) = until_it_works(start).await?;
        Ok(())
    }

    /// The next line that it reports. Cancel-safe.
    pub(crate) async fn report(&mut self) -> Result<String> {
        let report = self.process.report().await?;
        report.context("the airline has ended")
    }

    /// Releases a held call.
    pub(crate) async fn let_go(&mut self, reference: &str) -> Result<()> {
        self.process.command(&format!("{GO} {reference}")).await
    }
}

fn holds_file(files: &Files) -> PathBuf {
    files.dir.join("holds.json")
}

fn non_idempotent(files: &Files, seed: u64, address: &str) -> Vec<std::ffi::OsString> {
    vec![
        "non-idempotent-airline".into(),
        files.trajectories.clone().into(),
        files.ledger().into(),
        "--listen".into(),
        address.into(),
        "--seed".into(),
        seed.to_string().into(),
        "--holds".into(),
        holds_file(files).into(),
    ]
}
