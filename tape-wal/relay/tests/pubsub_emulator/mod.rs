//! The emulator of Pub/Sub for tests, started by the tests themselves.
//!
//! Each test has an emulator of its own on a free port, so that it can stop it and start it again there. An emulator keeps everything in
//! memory: one that was started again has neither topics nor messages. A shell watches it and ends it with the test, however the test ends.

#![allow(dead_code, reason = "each test file needs some of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// The project of the tests' topics and subscriptions. The emulator takes any.
pub(crate) const PROJECT: &str = "tape-test";

/// Runs a program until it ends or standard input does, then ends what it has started, which is all in one process group.
const WATCHDOG: &str = r#"
exec 3<&0
"$@" &
emulator=$!
(cat <&3 >/dev/null; kill -KILL 0) &
wait $emulator
kill -KILL 0
"#;
/// What is missing where there is no emulator.
const MISSING: &str = "the emulator of Pub/Sub or Java is not installed; they are in google-cloud-cli-pubsub-emulator and default-jre-headless";
/// Less memory and a quicker start than the machine's defaults.
const JAVA_FLAGS: [&str; 3] = ["-XX:+UseSerialGC", "-Xmx256m", "-XX:TieredStopAtLevel=1"];
/// How often an emulator is asked whether it listens, and how long a test waits between. It mostly takes two seconds.
const START_CHECKS: u32 = 6_000;
const START_PAUSE: Duration = Duration::from_millis(20);
/// How long an answer may take. A pull without a message takes four seconds.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// An emulator, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Emulator {
    jar: PathBuf,
    port: u16,
    /// None while it is stopped.
    running: Option<Running>,
}

impl Emulator {
    /// Starts an emulator for a test; none where it is not installed, which is reported. CI must have it.
    pub(crate) fn start() -> Option<Self> {
        let started = Self::try_start();
        if let Err(missing) = &started {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
            eprintln!("NOT TESTED: {missing}");
        }
        started.ok()
    }

    /// Starts an emulator, or says what is not installed.
    pub(crate) fn try_start() -> Result<Self, &'static str> {
        let jar = installed().ok_or(MISSING)?;
        // Another process may take the free port before the emulator does.
        let started = (0..5).find_map(|_| {
            let port = free_port();
            Some((port, Running::start(&jar, port)?))
        });
        let (port, running) = started.expect("the emulator of Pub/Sub does not start");
        let running = Some(running);
        Ok(Self { jar, port, running })
    }

    /// Host and port, the value of `PUBSUB_EMULATOR_HOST`. It is the same after a restart.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of the emulator, an endpoint for gRPC and REST.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Kills the emulator, which loses all topics, subscriptions and messages.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Starts the emulator again on its port, with nothing in it.
    pub(crate) fn start_again(&mut self) {
        self.stop();
        let running = Running::start(&self.jar, self.port);
        self.running = Some(running.expect("the port is still free"));
    }

    /// Creates a topic. Returns its full name.
    pub(crate) fn create_topic(&self, id: &str) -> String {
        let name = format!("projects/{PROJECT}/topics/{id}");
        self.request(&format!("PUT /v1/{name}"), "{}");
        name
    }

    /// Creates a subscription that is pulled, ordered by key, with a deadline of 10 seconds. Returns its full name.
    pub(crate) fn create_subscription(&self, id: &str, topic: &str) -> String {
        let settings = r#""enableMessageOrdering": true, "ackDeadlineSeconds": 10"#;
        self.subscribe(id, topic, settings)
    }

    /// Creates a subscription that pushes to a URL: the wrapped JSON, without a token, since this emulator signs none. Returns its full name.
    pub(crate) fn create_push(&self, id: &str, topic: &str, url: &str) -> String {
        let settings = format!(r#""pushConfig": {{"pushEndpoint": "{url}"}}, "ackDeadlineSeconds": 10"#);
        self.subscribe(id, topic, &settings)
    }

    fn subscribe(&self, id: &str, topic: &str, settings: &str) -> String {
        let name = format!("projects/{PROJECT}/subscriptions/{id}");
        let body = format!(r#"{{"topic": "{topic}", {settings}}}"#);
        self.request(&format!("PUT /v1/{name}"), &body);
        name
    }

    /// Publishes a message of attributes alone, by the full name of the topic. The attributes must need no escape in JSON.
    pub(crate) fn publish(&self, topic: &str, attributes: &[(&str, &str)]) {
        self.publish_all(topic, &[attributes]);
    }

    /// Publishes several such messages in one request.
    pub(crate) fn publish_all(&self, topic: &str, messages: &[&[(&str, &str)]]) {
        let pair = |(name, value): &(&str, &str)| format!(r#""{name}": "{value}""#);
        let message = |attributes: &&[(&str, &str)]| {
            let pairs = attributes.iter().map(pair).collect::<Vec<_>>();
            format!(r#"{{"attributes": {{{}}}}}"#, pairs.join(", "))
        };
        let messages = messages.iter().map(message).collect::<Vec<_>>();
        let body = format!(r#"{{"messages": [{}]}}"#, messages.join(", "));
        self.request(&format!("POST /v1/{topic}:publish"), &body);
    }

    /// Asks the REST interface, as in `request("GET /v1/projects/tape-test/topics", "")`. Returns the body of its answer, JSON.
    ///
    /// # Panics
    ///
    /// If the emulator does not answer with 200.
    pub(crate) fn request(&self, request: &str, body: &str) -> String {
        let (status, answer) = ask(self.port, request, body).expect("the emulator answers");
        assert_eq!(status, 200, "{request}: {answer}");
        answer
    }
}

/// A process of the emulator.
#[derive(Debug)]
struct Running {
    port: u16,
    shell: Child,
    /// Its end is the end of the emulator.
    alive: Option<ChildStdin>,
}

impl Running {
    /// Starts an emulator on a port; none if it ended before it listened, since another process has the port.
    fn start(jar: &Path, port: u16) -> Option<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", WATCHDOG, "sh", "java"]).args(JAVA_FLAGS);
        command.arg("-jar").arg(jar);
        command.args(["--host=127.0.0.1", &format!("--port={port}")]);
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut shell = command.spawn().expect("there is a shell");
        let alive = shell.stdin.take();
        let mut running = Self { port, shell, alive };
        running.is_listening().then_some(running)
    }

    fn is_listening(&mut self) -> bool {
        for _ in 0..START_CHECKS {
            if self.shell.try_wait().expect("it is a child").is_some() {
                return false;
            }
            if ask(self.port, "GET /", "").is_ok_and(|(status, _)| status == 200) {
                return true;
            }
            std::thread::sleep(START_PAUSE);
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The shell sees its input end, and ends its own process group: nothing here names a process by a number, since some programs named
        // kill read certain numbers as all processes.
        drop(self.alive.take());
        let _ = self.shell.wait();
        // The emulator may outlive its shell by a moment, in which it still has the port.
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            std::thread::sleep(START_PAUSE);
        }
    }
}

/// One exchange over HTTP. Returns the status and the body. The emulator says how long each answer is, and closes no connection.
fn ask(port: u16, request: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes())?;
    let mut stream = BufReader::new(stream);
    let (mut status, mut length) = (0, 0_u32);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        if line.starts_with("HTTP/1.1 ") {
            status = number(line.split(' ').nth(1));
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number(Some(value));
        }
        line.clear();
    }
    let mut body = String::new();
    stream.take(length.into()).read_to_string(&mut body)?;
    Ok((status, body))
}

fn number<N: std::str::FromStr + Default>(text: Option<&str>) -> N {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound");
    address.port()
}

/// The emulator's archive, which needs Java.
fn installed() -> Option<PathBuf> {
    find().filter(|_| has_java())
}

fn has_java() -> bool {
    let mut java = Command::new("java");
    java.arg("-version").stdout(Stdio::null()).stderr(Stdio::null());
    java.status().is_ok_and(|status| status.success())
}

/// The Google Cloud SDK is where its program gcloud is. The name of the archive has a version.
fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let roots = std::env::split_paths(&path).filter_map(|directory| {
        let gcloud = std::fs::canonicalize(directory.join("gcloud")).ok()?;
        Some(gcloud.parent()?.parent()?.to_owned())
    });
    let mut roots = roots.chain([PathBuf::from("/usr/lib/google-cloud-sdk")]);
    roots.find_map(|root| {
        let files = std::fs::read_dir(root.join("platform/pubsub-emulator/lib")).ok()?;
        let mut files = files.filter_map(|file| Some(file.ok()?.path()));
        files.find(|file| {
            let name = file.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("cloud-pubsub-emulator") && name.ends_with(".jar"))
        })
    })
}
