//! Processes that a test starts: the program itself, and this test executable in another role. They end with the test, however it
//! ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};

const ROLE: &str = "TAPE_TEST_ROLE";
const PATH: &str = "TAPE_TEST_PATH";
/// Marks the lines that are meant for the parent, among those of the test harness.
const MARK: &str = "tape: ";

/// Whether this process was started to play a role; if so, the path it was given. It ends when its parent is gone.
pub(crate) fn role(name: &str) -> Option<String> {
    if std::env::var(ROLE).ok()? != name {
        return None;
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(3);
    });
    Some(std::env::var(PATH).unwrap())
}

/// Says something to the parent.
pub(crate) fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("\n{MARK}{text}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

/// A process; killed when it is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    output: BufReader<ChildStdout>,
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Starts the test of this executable that is named as the role.
    pub(crate) fn start_role(role: &str, path: &Path, env: &[(&str, String)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", role, "--nocapture"])
            .env(ROLE, role)
            .env(PATH, path)
            .envs(env.iter().map(|(name, value)| (name, value)));
        Self::start(&mut command)
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        assert!(read > 0, "the process ended before it said what was expected");
        line.trim_end().to_owned()
    }

    /// The next thing that it says as a role.
    pub(crate) fn said(&mut self) -> String {
        loop {
            if let Some(said) = self.line().strip_prefix(MARK) {
                return said.to_owned();
            }
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Another signal, such as `TERM`, `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
