//! Two processes of `tape-relay` that compete for one relay to a topic of Pub/Sub.

#![allow(dead_code, reason = "each test file needs some of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tape_api::Journal;
use tape_api::relays::PlaceQuery;
use tape_core::id::RelayId;
use tempfile::TempDir;

/// How many processes compete.
const COPIES: usize = 2;
/// The time between looks at who carries the relay.
const PAUSE: Duration = Duration::from_millis(20);

/// The processes. They are killed when this is dropped.
pub(crate) struct Relays {
    folder: TempDir,
    program: PathBuf,
    url: String,
    emulator: String,
    relay: RelayId,
    running: Vec<Running>,
    started: usize,
}

struct Running {
    holder: String,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Relays {
    /// Starts two processes of the program that publish a journal to the emulator of Pub/Sub at a host and port, from the journal's beginning.
    /// `topic` is what the configuration says of it, in TOML.
    pub(crate) fn start(program: &Path, url: &str, relay: &str, topic: &str, emulator: &str) -> Self {
        let mut relays = Self {
            folder: tempfile::tempdir().unwrap(),
            program: program.to_owned(),
            url: url.to_owned(),
            emulator: emulator.to_owned(),
            relay: relay.parse().unwrap(),
            running: Vec::new(),
            started: 0,
        };
        // A process that is killed lets the other one wait for the end of its lease.
        let file = format!(
            "[relays.\"{relay}\"]\nstart = \"beginning\"\nlease_ms = 1000\nbackoff_max_ms = 500\n\
             [relays.\"{relay}\".pubsub]\n{topic}\n"
        );
        std::fs::write(relays.file(), file).unwrap();
        relays.fill();
        relays
    }

    /// Starts as many processes as are missing.
    pub(crate) fn fill(&mut self) {
        while self.running.len() < COPIES {
            self.add();
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("relays.toml")
    }

    fn add(&mut self) {
        let holder = format!("relay-{}", self.started);
        self.started += 1;
        let mut command = Command::new(&self.program);
        command
            .args([
                "--store", &self.url, "--holder", &holder, "--log", "warn", "--config",
            ])
            .arg(self.file())
            .env("PUBSUB_EMULATOR_HOST", &self.emulator)
            .stdout(Stdio::null());
        let child = command.spawn().unwrap();
        self.running.push(Running { holder, child });
    }

    /// Kills the process that carries the first part of the relay (SIGKILL), and starts another one. The competing one takes over. Waits until
    /// one of the processes carries it.
    pub(crate) async fn kill_the_holder(&mut self, journal: &dyn Journal) {
        let holder = loop {
            match self.holder(journal).await {
                Some(holder) => break holder,
                None => tokio::time::sleep(PAUSE).await,
            }
        };
        self.running.remove(holder);
        self.fill();
    }

    /// Kills all of them (SIGKILL).
    pub(crate) fn kill_all(&mut self) {
        self.running.clear();
    }

    /// Which process carries the first part of the relay; none where that is one that was killed.
    async fn holder(&self, journal: &dyn Journal) -> Option<usize> {
        let query = PlaceQuery::Relay(self.relay.clone());
        let page = journal.relays().places(&query, None, 100).await.unwrap();
        let holder = page.parts.iter().find_map(|part| part.place.holder.clone())?;
        let is_it = |running: &Running| {
            let name = format!("relay-{}-", running.holder);
            holder.as_str().starts_with(&name)
        };
        self.running.iter().position(is_it)
    }
}
