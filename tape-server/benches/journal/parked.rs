//! The memory of a server for waiting runs.

use crate::figure::Figures;
use crate::served::callers;
use futures::StreamExt as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs that wait for a gate, without a driver.
const RUNS: usize = 10_000;
/// The most memory that they may take, in megabytes.
const MEGABYTES_MAX: f64 = 100.0;

/// Measures a server process on a SQLite file of its own in `dir`.
pub(crate) async fn measure(dir: &Path, figures: &mut Figures) {
    if !figures.wants("parked_10000_runs") {
        return;
    }
    let server = Server::start(dir);
    let caller = callers(&server.url, 1).await.remove(0);
    let before = server.resident_megabytes();
    let park = |_| {
        let caller = caller.clone();
        async move {
            let run = caller.begin().await;
            caller.park(&run).await;
        }
    };
    futures::stream::iter(0..RUNS)
        .map(park)
        .buffer_unordered(256)
        .collect::<()>()
        .await;
    let after = server.resident_megabytes();
    figures.say("parked_10000_runs", after - before, "MB", MEGABYTES_MAX);
    figures.say("parked_10000_runs_server_in_all", after, "MB", MEGABYTES_MAX);
}

/// A server process, killed when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let store = format!("sqlite:{}", dir.join("parked.db").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_tape-server"))
            .args(["--store", &store, "--listen", "127.0.0.1:0"])
            .env("TAPE_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output is piped");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("the server says where it listens");
        let address = line.trim().strip_prefix("tape-server listening on ");
        let url = format!("http://{}", address.expect("the server is ready"));
        Self { child, url }
    }

    /// The memory that the process occupies, as Linux counts it.
    fn resident_megabytes(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line
            .and_then(|line| line.split_whitespace().next())
            .expect("it is there");
        kilobytes.parse::<f64>().expect("a number") / 1_024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
