//! Google's emulator of Bigtable for tests, started by the tests themselves.
//!
//! Each test process has one, on a port that the emulator chooses; each test has a table of its own in it. A guard stops
//! the emulator when the process ends, however it ends: the guard reads from a pipe that only the test process holds open.

#![allow(dead_code, reason = "each test file needs some of it")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use tape_environment::{Environment as _, Machine};

/// Starts the emulator, passes on what it says, and stops it once the pipe is closed.
const GUARD: &str = r#"
"$1" -host 127.0.0.1 -port 0 </dev/null &
emulator=$!
cat >/dev/null
kill -9 $emulator
"#;

struct Emulator {
    address: String,
    /// Open as long as the process lives.
    _pipe: ChildStdin,
}

/// A table for one test.
pub(crate) struct Table {
    address: String,
    name: String,
}

impl Table {
    /// The name of a table that does not exist yet; none where the emulator is not installed, which is reported.
    pub(crate) fn new() -> Option<Self> {
        let program = find()?;
        static EMULATOR: OnceLock<Emulator> = OnceLock::new();
        Some(Self {
            address: EMULATOR.get_or_init(|| start(&program)).address.clone(),
            name: format!("t-{}", Machine.uuid().simple()),
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        format!(
            "bigtable://project/instance/{}?emulator={}",
            self.name, self.address
        )
    }
}

#[expect(
    clippy::zombie_processes,
    reason = "the guard outlives the process that starts it"
)]
fn start(program: &PathBuf) -> Emulator {
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "sh"]).arg(program);
    guard
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut guard = guard.spawn().expect("there is a shell");
    let pipe = guard.stdin.take().expect("it was asked for");
    let mut said = BufReader::new(guard.stdout.take().expect("it was asked for"));
    let mut line = String::new();
    said.read_line(&mut line).expect("the emulator says where it is");
    let address = line.trim().rsplit(' ').next().unwrap_or_default();
    assert!(
        address.starts_with("127.0.0.1:"),
        "the emulator does not start: {line}"
    );
    Emulator {
        address: address.to_owned(),
        _pipe: pipe,
    }
}

/// The emulator, from the path or from where Google's packages put it. CI must have one.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [
        "/usr/lib/google-cloud-sdk",
        "/usr/share/google-cloud-sdk",
        "/opt/google-cloud-sdk",
    ];
    let places = places.map(|root| PathBuf::from(root).join("platform/bigtable-emulator"));
    let found = std::env::split_paths(&path)
        .chain(places)
        .map(|directory| directory.join("cbtemulator"))
        .find(|program| program.is_file());
    if found.is_none() {
        let said = "cbtemulator is not installed; it comes with Google Cloud's package google-cloud-cli-bigtable-emulator";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
        eprintln!("NOT TESTED: {said}");
    }
    found
}
