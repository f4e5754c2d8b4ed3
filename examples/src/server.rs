//! The journal's servers as processes that can be killed.

use crate::child::Child;
use crate::programs::program;
use crate::retry::until_it_works;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;

/// The line of a ready server.
const READY: &str = "tape-server listening on";
/// A driver whose connection closed counts as dead after this many milliseconds: in a scenario, agents die all the time.
const LEASE_GRACE_MS: &str = "50";

/// Several `tape-server` processes over one store.
#[derive(Debug)]
pub struct Servers {
    program: PathBuf,
    store: String,
    errors: PathBuf,
    addresses: Vec<String>,
    running: Vec<Mutex<Child>>,
}

impl Servers {
    /// Starts `count` servers over the store at a URL; their logs go to the file `errors`.
    ///
    /// # Errors
    /// Where the server's program cannot be built or started.
    pub async fn start(store: &str, count: usize, errors: &Path) -> Result<Self> {
        let program = program("tape-server", "tape-server")?;
        Self::start_earlier(&program, store, count, errors).await
    }

    /// The same with the server's program of an earlier build; those that are started again later are of this build.
    ///
    /// # Errors
    /// Where a server's program cannot be built or started.
    pub async fn start_earlier(earlier: &Path, store: &str, count: usize, errors: &Path) -> Result<Self> {
        let program = program("tape-server", "tape-server")?;
        let (mut addresses, mut running) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (child, address) = start(earlier, store, "127.0.0.1:0", errors).await?;
            addresses.push(address);
            running.push(Mutex::new(child));
        }
        let (store, errors) = (store.to_owned(), errors.to_owned());
        Ok(Self {
            program,
            store,
            errors,
            addresses,
            running,
        })
    }

    /// The URL of the server that the `n`-th client is to use: clients are spread over all servers.
    #[must_use]
    pub fn url(&self, n: usize) -> String {
        format!("tape://{}", self.addresses[n % self.addresses.len()])
    }

    /// Kills a server and starts it again at its address. `while_down` runs between the two.
    ///
    /// # Errors
    /// Where the server had ended by itself, or does not start again.
    pub async fn kill(&self, server: usize, while_down: impl Future<Output = Result<()>>) -> Result<()> {
        let mut running = self.running[server].lock().await;
        running.kill().await.context("a server cannot be killed")?;
        while_down.await?;
        let address = &self.addresses[server];
        let start = || start(&self.program, &self.store, address, &self.errors);
        (*running, _) = until_it_works(start).await?;
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.running.len()
    }
}

async fn start(program: &Path, store: &str, listen: &str, errors: &Path) -> Result<(Child, String)> {
    let args = [
        "--store",
        store,
        "--listen",
        listen,
        "--lease-grace-ms",
        LEASE_GRACE_MS,
        "--log",
        "warn",
    ];
    let mut child = Child::start(program, args, errors)?;
    let address = child
        .report_of(READY)
        .await
        .context("tape-server does not start")?;
    Ok((child, address))
}
