//! A started process's end of the pipe to the process that started it.
//!
//! Lines on standard output report, lines on standard input command. When standard input closes, the parent is gone and this process ends
//! too, however the parent died. Only `tape-server` does not watch its standard input: where the parent itself is killed with SIGKILL, it
//! stays behind.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The exit code of a process whose parent is gone.
pub const ORPHANED: i32 = 3;

/// The process that started this one.
#[derive(Clone, Debug)]
pub struct Parent {
    commands: Arc<Mutex<UnboundedReceiver<String>>>,
}

impl Parent {
    /// Listens to the parent from now on. Call this once in a process.
    #[must_use]
    pub fn attach() -> Self {
        let (tell, commands) = unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
            std::process::exit(ORPHANED);
        });
        Self {
            commands: Arc::new(Mutex::new(commands)),
        }
    }

    /// Reports a line.
    pub fn say(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // A failed write means that the parent is gone; the thread above ends this process.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// The parent's next line.
    pub async fn command(&self) -> String {
        match self.commands.lock().await.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }
}
