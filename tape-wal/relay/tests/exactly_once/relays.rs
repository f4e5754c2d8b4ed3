//! Two processes of `tape-relay` that compete for one relay.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tape_api::Journal;
use tape_core::id::RelayId;
use tempfile::TempDir;

const RELAY: &str = "acme/proof";

pub(crate) struct Relays {
    folder: TempDir,
    url: String,
    emulator: String,
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
    /// Starts two processes that publish to a topic.
    pub(crate) fn start(url: &str, topic: &str, emulator: &str) -> Self {
        let mut relays = Self {
            folder: tempfile::tempdir().unwrap(),
            url: url.to_owned(),
            emulator: emulator.to_owned(),
            running: Vec::new(),
            started: 0,
        };
        // A process that is killed lets the other one wait for the end of its lease.
        let file = format!(
            "[relays.\"{RELAY}\"]\nstart = \"beginning\"\nlease_ms = 1000\nbackoff_max_ms = 500\n\
             [relays.\"{RELAY}\".pubsub]\ntopic = \"{topic}\"\n"
        );
        std::fs::write(relays.file(), file).unwrap();
        relays.add();
        relays.add();
        relays
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("relays.toml")
    }

    fn add(&mut self) {
        let holder = format!("relay-{}", self.started);
        self.started += 1;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tape-relay"));
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

    /// Kills the process that carries the first part of the relay, and starts another one. The competing one takes over.
    pub(crate) async fn kill_the_holder(&mut self, journal: &dyn Journal) {
        let relay: RelayId = RELAY.parse().unwrap();
        let query = tape_api::relays::PlaceQuery::Relay(relay);
        let page = journal.relays().places(&query, None, 100).await.unwrap();
        let holder = page.parts.iter().find_map(|part| part.place.holder.clone());
        let holder = holder.expect("events were delivered, so a process carries it");
        let killed = self
            .running
            .iter()
            .position(|running| holder.as_str().starts_with(&format!("relay-{}-", running.holder)));
        let mut killed = self.running.remove(killed.unwrap());
        killed.child.kill().unwrap();
        killed.child.wait().unwrap();
        self.add();
    }
}
