//! Re-drives by a program that is started for each.

use super::{Redrive, RedriveError, Redriver};
use crate::program::Executable;
use async_trait::async_trait;
use std::future::ready;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tape_environment::Environment;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Duration, Instant};

/// The variable that has the re-drive as JSON.
const VARIABLE: &str = "TAPE_REDRIVE";

/// Starts a program for each re-drive, and writes the same JSON to its standard input as is posted over HTTP, on one line; the variable
/// `TAPE_REDRIVE` has it too. The program adopts the run with that epoch, drives it, and ends when it is done. The journal says whether the
/// re-drive counts, not how the program ends.
///
/// A program that is not done in time gets SIGTERM two seconds before the end of its time, or at half of it, and SIGKILL at the end; one that
/// adopts no run within four leases of recovery gets SIGKILL. So does all that it has started, as with a command that is a connector. Its
/// environment is `PATH`, `HOME`, `LANG`, `TZ` and what is [named](Self::inherit). Its standard output goes nowhere, its
/// standard error where that of this process goes.
#[derive(Clone, Debug)]
pub struct CommandRedriver {
    program: Executable,
    timeout: Duration,
}

impl CommandRedriver {
    /// Runs `program` with `args`, for `timeout` at most.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = String>,
        timeout: Duration,
    ) -> Self {
        Self {
            program: Executable::new(program, args),
            timeout,
        }
    }

    /// Marks its processes by another randomness than the machine's.
    #[must_use]
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.program.environment(environment);
        self
    }

    /// Lets the program have these variables of the worker's environment, too.
    #[must_use]
    pub fn inherit(mut self, variables: impl IntoIterator<Item = String>) -> Self {
        self.program.inherit(variables);
        self
    }

    /// Whether the program is there: an executable file at its path, or in one of the directories of `PATH` where it is a mere name.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.program.is_there()
    }
}

#[async_trait]
impl Redriver for CommandRedriver {
    async fn redrive(&self, redrive: &Redrive) -> Result<(), RedriveError> {
        let json = serde_json::to_string(redrive).map_err(|error| RedriveError::Agent(Box::new(error)))?;
        let deadline = Instant::now() + self.timeout;
        let started = self.program.start([(VARIABLE, json.as_str())], Stdio::null());
        let mut program = started.map_err(|error| RedriveError::Unreached(Box::new(error)))?;
        let mut stdin = program.child.stdin.take().expect("standard input is piped");
        let tell = async {
            // A program that reads the variable may have closed its input.
            let _ = stdin.write_all(format!("{json}\n").as_bytes()).await;
            drop(stdin);
        };
        let ended = program.until_ended(deadline, tell, ready(Ok(()))).await;
        match ended.map_err(|error| RedriveError::Agent(Box::new(error)))? {
            Some((status, _)) if status.success() => Ok(()),
            Some((status, _)) => Err(RedriveError::Agent(format!("it ended with {status}").into())),
            None => Err(RedriveError::Agent(
                "it was not done in time, and was killed".into(),
            )),
        }
    }
}
