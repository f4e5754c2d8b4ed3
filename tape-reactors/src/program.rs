//! A program and all that it starts, which ends with the call that it is for.

use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use tape_environment::{Environment, machine};
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant};

/// What a program is told of the environment of its worker, beside what the configuration names. All else may be a secret.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Where programs are looked for without the variable `PATH`.
const LOOKED_IN: &str = "/bin:/usr/bin";
/// A variable that a program and all that it starts have, by which they are found.
const MARK: &str = "TAPE_CALL";
/// The process id of the worker. If a program's parent has another id, the worker is gone: nothing waits for the program or stops it.
const WORKER: &str = "TAPE_WORKER_PID";
/// Looks for processes of a call that are made while they are looked for.
#[cfg(target_os = "linux")]
const HUNTS_MAX: usize = 10;

/// Before the end of its time, a program is asked to end: so long, or half of its time if that is shorter.
const GRACE: Duration = Duration::from_secs(2);

/// A program as the configuration names it.
#[derive(Clone, Debug)]
pub(crate) struct Executable {
    path: PathBuf,
    args: Vec<String>,
    variables: Vec<String>,
    environment: Arc<dyn Environment>,
}

impl Executable {
    pub(crate) fn new(path: impl Into<PathBuf>, args: impl IntoIterator<Item = String>) -> Self {
        Self {
            path: path.into(),
            args: args.into_iter().collect(),
            variables: Vec::new(),
            environment: machine(),
        }
    }

    /// Marks its processes by another randomness than the machine's.
    pub(crate) fn environment(&mut self, environment: Arc<dyn Environment>) {
        self.environment = environment;
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it have these variables of the worker's environment, too.
    pub(crate) fn inherit(&mut self, variables: impl IntoIterator<Item = String>) {
        self.variables.extend(variables);
    }

    /// Whether there is an executable file for it: at its path, or, where it has none, in the directories that it is looked for in.
    pub(crate) fn is_there(&self) -> bool {
        if self.path.components().count() > 1 || self.path.is_absolute() {
            return is_executable(&self.path);
        }
        let directories = std::env::var_os("PATH").unwrap_or_else(|| LOOKED_IN.into());
        std::env::split_paths(&directories).any(|directory| is_executable(&directory.join(&self.path)))
    }

    /// Starts it, with variables that tell it something.
    pub(crate) fn start<'a>(
        &self,
        told: impl IntoIterator<Item = (&'a str, &'a str)>,
        stdout: Stdio,
    ) -> std::io::Result<Program> {
        let mark = self.environment.uuid().simple().to_string();
        let child = Command::new(&self.path)
            .args(&self.args)
            .env_clear()
            .envs(inherited(&self.variables))
            .envs(told)
            .env(MARK, &mark)
            .env(WORKER, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(stdout)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Program { child, group, mark })
    }
}

/// A program that runs for one call. When this is dropped, the program and all that it started are killed.
pub(crate) struct Program {
    pub(crate) child: Child,
    group: Option<Pid>,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "elsewhere there is no such list of processes")
    )]
    mark: String,
}

impl Program {
    /// Waits until it has ended: with what, and whether all of its output was read; none where its time was over and it was killed.
    pub(crate) async fn until_ended(
        &mut self,
        deadline: Instant,
        tell: impl Future<Output = ()>,
        read: impl Future<Output = std::io::Result<()>>,
    ) -> std::io::Result<Option<(ExitStatus, bool)>> {
        let time = deadline.saturating_duration_since(Instant::now());
        let (mut told, mut at_end, mut asked_to_end) = (false, false, false);
        tokio::pin!(tell, read);
        loop {
            let wake = if asked_to_end {
                deadline
            } else {
                deadline - GRACE.min(time / 2)
            };
            tokio::select! {
                biased;
                done = &mut read, if !at_end => {
                    done?;
                    at_end = true;
                }
                () = &mut tell, if !told => told = true,
                status = self.child.wait() => {
                    self.has_ended();
                    return Ok(Some((status?, at_end)));
                }
                () = tokio::time::sleep_until(wake) => {
                    if asked_to_end {
                        self.kill_all();
                        return Ok(None);
                    }
                    self.terminate();
                    asked_to_end = true;
                }
            }
        }
    }

    /// Asks the program and its process group to end.
    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// The program has ended: kills the rest of its process group, which another may be called like from now on.
    fn has_ended(&mut self) {
        self.signal(Signal::KILL);
        self.group = None;
    }

    /// Kills all that the program started, also what has left its process group.
    pub(crate) fn kill_all(&self) {
        self.signal(Signal::KILL);
        #[cfg(target_os = "linux")]
        for _ in 0..HUNTS_MAX {
            let found = marked(&format!("{MARK}={}", self.mark));
            if found.is_empty() {
                return;
            }
            for process in found {
                // One that has ended meanwhile is no error.
                let _ = rustix::process::kill_process(process, Signal::KILL);
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that has ended meanwhile is no error.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_all();
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn inherited(named: &[String]) -> impl Iterator<Item = (String, OsString)> {
    let names = INHERITED.into_iter().chain(named.iter().map(String::as_str));
    names.filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)))
}

/// The processes that have a variable with a value, as far as this one may see; none that have ended and wait for their parent.
#[cfg(target_os = "linux")]
fn marked(variable: &str) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let has_it = |process: &std::fs::DirEntry| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable.as_bytes())
    };
    processes
        .flatten()
        .filter_map(|process| {
            let id = process.file_name().to_str()?.parse().ok()?;
            has_it(&process).then(|| Pid::from_raw(id)).flatten()
        })
        .collect()
}
