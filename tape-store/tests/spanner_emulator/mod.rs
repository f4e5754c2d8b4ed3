//! An emulator of Spanner for tests, started by the tests themselves.
//!
//! Each database has an emulator of its own, since an emulator carries out one writing transaction after the other. A shell watches it and
//! ends it with the test, however the test ends.

#![allow(dead_code, reason = "each test file needs some of it")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a program until it ends or standard input does, then ends what it has started, which is all in one process group.
const WATCHDOG: &str = r#"
exec 3<&0
"$@" &
emulator=$!
(cat <&3 >/dev/null; kill -KILL 0) &
wait $emulator
kill -KILL 0
"#;
/// How long an emulator may take to listen. It mostly takes less than a second.
const START_MAX: Duration = Duration::from_secs(60);
const PARENT: &str = "/v1/projects/tape-test/instances";

/// A separate database on a separate emulator; both are removed when this is dropped.
pub(crate) struct Database {
    emulator: Emulator,
}

impl Database {
    /// Makes a database with nothing in it; none where the emulator is not installed, which is reported.
    pub(crate) fn create() -> Option<Self> {
        let program = installed()?;
        let emulator = (0..5).find_map(|_| Emulator::start(&program));
        let emulator = emulator.expect("the emulator of Spanner does not start");
        emulator.post(PARENT, r#"{"instanceId": "main", "instance": {"config": "projects/tape-test/instanceConfigs/emulator-config", "displayName": "main", "nodeCount": 1}}"#);
        emulator.post(
            &format!("{PARENT}/main/databases"),
            r#"{"createStatement": "CREATE DATABASE `tape`"}"#,
        );
        Some(Self { emulator })
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(self.emulator.grpc)
    }

    /// The same database at another port, where something is in between.
    pub(crate) fn url_at(&self, port: u16) -> String {
        format!(
            "spanner://tape-test/main/tape?emulator=127.0.0.1:{port}&emulator_rest=127.0.0.1:{}&shards=3",
            self.emulator.rest
        )
    }

    pub(crate) fn port(&self) -> u16 {
        self.emulator.grpc
    }

    /// Drops the database; the emulator continues.
    pub(crate) fn remove(&self) {
        let answer = self
            .emulator
            .request(&format!("DELETE {PARENT}/main/databases/tape"), "");
        assert!(answer.is_ok_and(|answer| is_success(&answer)));
    }

    /// Changes the schema outside the store.
    pub(crate) fn change_schema(&self, statement: &str) {
        let body = format!(r#"{{"statements": ["{statement}"]}}"#);
        let answer = self
            .emulator
            .request(&format!("PATCH {PARENT}/main/databases/tape/ddl"), &body);
        assert!(answer.is_ok_and(|answer| is_success(&answer)), "{statement}");
    }

    /// Commits mutations outside the store, as JSON of the REST interface.
    pub(crate) fn commit(&self, mutations: &str) {
        let database = format!("{PARENT}/main/databases/tape");
        let made = self.emulator.post(&format!("{database}/sessions"), "{}");
        let name = made.split('"').find(|part| part.contains("/sessions/"));
        let name = name.expect("a session has a name");
        let body =
            format!(r#"{{"singleUseTransaction": {{"readWrite": {{}}}}, "mutations": [{mutations}]}}"#);
        self.emulator.post(&format!("/v1/{name}:commit"), &body);
    }
}

struct Emulator {
    grpc: u16,
    rest: u16,
    shell: Child,
    /// Its end is the end of the emulator.
    alive: Option<ChildStdin>,
}

impl Emulator {
    /// Starts an emulator on free ports; none where another process took one of them meanwhile.
    fn start(program: &PathBuf) -> Option<Self> {
        let (grpc, rest) = free_ports();
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh"]).arg(program);
        command.args([
            "-hostname",
            "127.0.0.1",
            "-grpc_port",
            &grpc.to_string(),
            "-http_port",
            &rest.to_string(),
        ]);
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        let alive = shell.stdin.take();
        let mut emulator = Self {
            grpc,
            rest,
            shell,
            alive,
        };
        emulator.is_listening().then_some(emulator)
    }

    fn is_listening(&mut self) -> bool {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline && self.shell.try_wait().unwrap().is_none() {
            let listed = self.request("GET /v1/projects/tape-test/instanceConfigs", "");
            if listed.is_ok_and(|answer| is_success(&answer)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn post(&self, path: &str, body: &str) -> String {
        let answer = self.request(&format!("POST {path}"), body).unwrap();
        assert!(is_success(&answer), "{path}: {answer}");
        answer
    }

    fn request(&self, request: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.rest))?;
        let length = body.len();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The shell sees its input end, and ends its own process group: nothing here names a process by a number, since some programs named
        // kill read certain numbers as all processes.
        drop(self.alive.take());
        let _ = self.shell.wait();
    }
}

fn is_success(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

fn free_ports() -> (u16, u16) {
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (grpc, rest) = (listen(), listen());
    (
        grpc.local_addr().unwrap().port(),
        rest.local_addr().unwrap().port(),
    )
}

/// The program of the emulator. CI must have it.
fn installed() -> Option<PathBuf> {
    let program = find();
    if program.is_none() {
        let said = "the emulator of Spanner is not installed; it comes with the Google Cloud SDK (google-cloud-cli-spanner-emulator)";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
        eprintln!("NOT TESTED: {said}");
    }
    program
}

/// The Google Cloud SDK is where its program gcloud is.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let roots = std::env::split_paths(&path).filter_map(|directory| {
        let gcloud = std::fs::canonicalize(directory.join("gcloud")).ok()?;
        Some(gcloud.parent()?.parent()?.to_owned())
    });
    let roots = roots.chain([PathBuf::from("/usr/lib/google-cloud-sdk")]);
    let mut programs = roots.map(|root| root.join("bin/cloud_spanner_emulator/gateway_main"));
    programs.find(|program| program.is_file())
}
