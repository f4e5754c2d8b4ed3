//! The journal's servers as processes that can be killed.

use crate::child::Child;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::sync::Mutex;

/// What a server says once it is ready.
const READY: &str = "tape-server listening on";
/// A driver's connection that closed is held to be dead after so many milliseconds: in a play, agents die all the time.
const LEASE_GRACE_MS: &str = "50";

/// Most starts of a server in a row.
const STARTS_MAX: usize = 40;
/// The time between two of them.
const START_PAUSE: Duration = Duration::from_millis(250);

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
    /// Starts `count` servers over the store at a URL; what they log goes to the file `errors`.
    ///
    /// # Errors
    /// Where the server's program cannot be built or started.
    pub async fn start(store: &str, count: usize, errors: &Path) -> Result<Self> {
        let program = program()?;
        Self::start_earlier(&program, store, count, errors).await
    }

    /// The same with the server's program of an earlier build; those that are started again later are of this build.
    ///
    /// # Errors
    /// Where a server's program cannot be built or started.
    pub async fn start_earlier(earlier: &Path, store: &str, count: usize, errors: &Path) -> Result<Self> {
        let program = program()?;
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

    /// The URL of the server that the `n`-th client is to use: all have their share.
    #[must_use]
    pub fn url(&self, n: usize) -> String {
        format!("tape://{}", self.addresses[n % self.addresses.len()])
    }

    /// Kills a server and starts it again at its address. `while_down` is called between the two.
    ///
    /// # Errors
    /// Where the server had ended by itself, or does not come up again.
    pub async fn kill(&self, server: usize, while_down: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        let mut running = self.running[server].lock().await;
        running.kill().await.context("a server cannot be killed")?;
        while_down().await?;
        *running = self.start_again(server).await?;
        Ok(())
    }

    /// Starts a server as often as it takes, up to a limit: one that finds its database gone ends, as whoever runs servers knows.
    async fn start_again(&self, server: usize) -> Result<Child> {
        let mut starts = 1;
        loop {
            match start(&self.program, &self.store, &self.addresses[server], &self.errors).await {
                Ok((child, _)) => return Ok(child),
                Err(error) if starts == STARTS_MAX => return Err(error),
                Err(_) => tokio::time::sleep(START_PAUSE).await,
            }
            starts += 1;
        }
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

/// The server's program, beside this one. It is built where it is absent, and where cargo runs this program, so that nobody sees
/// the server of yesterday; the tests' runner has built it already.
fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // Test programs are one directory below.
    let beside = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("tape-server"));
    let candidates: Vec<PathBuf> = beside.collect();
    let found = candidates.iter().find(|path| path.is_file());
    let by_cargo = std::env::var_os("CARGO").is_some() && std::env::var_os("NEXTEST").is_none();
    if let Some(found) = found.filter(|_| !by_cargo) {
        return Ok(found.clone());
    }
    let release = this
        .ancestors()
        .any(|dir| dir.file_name().is_some_and(|name| name == "release"));
    if found.is_none() {
        eprintln!("tape-server is not built yet; building it (once)");
    }
    let profile = if release { "release" } else { "dev" };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = [
        "build",
        "--quiet",
        "-p",
        "tape-server",
        "--bin",
        "tape-server",
        "--profile",
        profile,
    ];
    let stores = [
        (cfg!(feature = "postgres"), "postgres"),
        (cfg!(feature = "bigtable"), "bigtable"),
        (cfg!(feature = "spanner"), "spanner"),
    ];
    let built = stores.iter().filter(|(built, _)| *built);
    let features: Vec<&str> = built.map(|(_, store)| *store).collect();
    let built = Command::new(cargo)
        .args(args)
        .args(["--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    ensure!(built.success(), "cargo build -p tape-server failed");
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .context("tape-server was built, but not beside this program")
}
