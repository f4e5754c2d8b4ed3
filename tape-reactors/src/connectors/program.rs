//! A program and all that it starts, which ends with the call that it is for.

use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// The variables that a program inherits from its worker, beside those that the configuration names. Any other may be a secret.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// The directories that are searched for programs without the variable `PATH`.
const LOOKED_IN: &str = "/bin:/usr/bin";
/// A variable of a program and all processes that it starts, by which they are found.
const MARK: &str = "TAPE_CALL";
/// The process id of the worker. A program with another parent has lost its worker: no process waits for it or stops it.
const WORKER: &str = "TAPE_WORKER_PID";
/// How often the search for a call's processes is repeated, for those that are started during the search.
#[cfg(target_os = "linux")]
const HUNTS_MAX: usize = 10;

/// A program that runs for one call. When this is dropped, the program and all that it started are killed.
pub(super) struct Program {
    pub(super) child: Child,
    group: Option<Pid>,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "elsewhere there is no such list of processes")
    )]
    mark: String,
}

impl Program {
    pub(super) fn start(program: &Path, args: &[String], variables: &[String]) -> std::io::Result<Self> {
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(inherited(variables))
            .env(MARK, &mark)
            .env(WORKER, std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, group, mark })
    }

    /// Asks the program and its process group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// The program has ended: kills the rest of its process group, whose id may be reused from now on.
    pub(super) fn has_ended(&mut self) {
        self.signal(Signal::KILL);
        self.group = None;
    }

    /// Kills all processes that the program started, also those that left its process group.
    pub(super) fn kill_all(&self) {
        self.signal(Signal::KILL);
        #[cfg(target_os = "linux")]
        for _ in 0..HUNTS_MAX {
            let found = marked(&format!("{MARK}={}", self.mark));
            if found.is_empty() {
                return;
            }
            for process in found {
                // A process that has ended meanwhile is no error.
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

/// Whether there is an executable file for a program: at its path, or, where it has none, in the directories that are searched.
pub(super) fn is_there(program: &Path) -> bool {
    if program.components().count() > 1 || program.is_absolute() {
        return is_executable(program);
    }
    let directories = std::env::var_os("PATH").unwrap_or_else(|| LOOKED_IN.into());
    std::env::split_paths(&directories).any(|directory| is_executable(&directory.join(program)))
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
