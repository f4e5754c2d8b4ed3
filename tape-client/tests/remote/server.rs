//! A server in a process of its own: this test binary, started as a server.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tape_server::config::Config;
use tape_server::server::Server as Served;

/// When this variable names a store, the test below is the server.
const STORE: &str = "TAPE_TEST_SERVER_STORE";
/// Where it listens.
const LISTEN: &str = "TAPE_TEST_SERVER_LISTEN";
/// What it prints before its address.
const READY: &str = "server ready at ";

/// A server process on a SQLite file, killed when dropped.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(dir: &Path) -> Self {
        let (child, address) = spawn(dir, "127.0.0.1:0");
        Self {
            child,
            dir: dir.to_owned(),
            address,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("tape://{}", self.address)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another process at the same address, after a kill.
    pub(crate) fn come_back(&mut self) {
        (self.child, self.address) = spawn(&self.dir, &self.address.to_string());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, listen: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server::serve", "--ignored", "--nocapture"])
        .env(STORE, format!("sqlite:{}", dir.join("tape.db").display()))
        .env(LISTEN, listen)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map(Result::unwrap).find_map(|line| {
        let at = line.find(READY)?;
        line[at + READY.len()..].trim().parse().ok()
    });
    (child, ready.expect("the server says where it listens"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the server of the other tests"]
async fn serve() {
    // If it is run by hand or by `--run-ignored`, it does nothing.
    let Ok(store) = std::env::var(STORE) else { return };
    let listen = std::env::var(LISTEN).unwrap().parse().unwrap();
    let config = Config {
        lease_grace_ms: 1,
        ..Config::new(&store, listen)
    };
    let server = Served::bind(config, tape_client::environment::machine())
        .await
        .unwrap();
    println!("{READY}{}", server.address());
    server.run(std::future::pending()).await.unwrap();
}
