//! Runs a test of the same executable as a process of its own.

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

const ROLE: &str = "TAPE_TEST_ROLE";
const PATH: &str = "TAPE_TEST_PATH";
/// Marks the lines that are meant for the parent, among those of the test harness.
const MARK: &str = "tape: ";

/// Whether this process was started to play a role; if so, the path it was given.
pub(crate) fn role(name: &str) -> Option<String> {
    (std::env::var(ROLE).ok()?.as_str() == name).then(|| std::env::var(PATH).unwrap())
}

/// Says something to the parent.
pub(crate) fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    // One write, so that a kill cuts at most the last line.
    output.write_all(format!("\n{MARK}{text}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

/// What a line says to the parent.
pub(crate) fn said(line: &str) -> Option<&str> {
    line.strip_prefix(MARK).map(str::trim_end)
}

/// A process that plays a role; killed when it is dropped.
pub(crate) struct Child(std::process::Child);

#[allow(dead_code, reason = "each test file needs some of it")]
impl Child {
    /// Starts the test that is named as the role.
    pub(crate) fn start(role: &str, path: &Path) -> Self {
        Self(
            Self::command(&std::env::current_exe().unwrap(), role, path)
                .spawn()
                .unwrap(),
        )
    }

    /// The same with a library that stands in for functions of the system's, and what it finds in the environment.
    pub(crate) fn start_with_library(
        role: &str,
        path: &Path,
        (library, name, value): (&Path, &str, &Path),
    ) -> Self {
        let mut command = Self::command(&std::env::current_exe().unwrap(), role, path);
        command.env("LD_PRELOAD", library).env(name, value);
        Self(command.spawn().unwrap())
    }

    /// The same as a user who is subject to file permissions, also where the test runs as root.
    pub(crate) fn start_unprivileged(role: &str, path: &Path) -> Self {
        Self::start_unprivileged_after(role, path, || ())
    }

    /// The same, after `prepare`, which runs once the executable is beside the file.
    pub(crate) fn start_unprivileged_after(role: &str, path: &Path, prepare: impl FnOnce()) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        use std::os::unix::process::CommandExt as _;
        // The executable may stand where only root can reach it.
        let executable = path.with_file_name("test-executable");
        std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
        let mut command = Self::command(&executable, role, path);
        prepare();
        if std::fs::metadata(path).unwrap().uid() == 0 {
            command.uid(65_534).gid(65_534);
        }
        Self(command.spawn().unwrap())
    }

    fn command(executable: &Path, role: &str, path: &Path) -> Command {
        let mut command = Command::new(executable);
        command
            .args(["--exact", role, "--nocapture"])
            .env(ROLE, role)
            .env(PATH, path);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    pub(crate) fn output(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().unwrap())
    }

    /// What it says to the parent until it ends.
    pub(crate) fn says(&mut self) -> Vec<String> {
        use std::io::BufRead as _;
        let lines = self.output().lines().map_while(Result::ok);
        lines.filter_map(|line| said(&line).map(str::to_owned)).collect()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
