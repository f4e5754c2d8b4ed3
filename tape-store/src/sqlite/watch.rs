//! Notices the commits of other processes.

use super::writer::Writer;
use crate::wake::Wake;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How often the file is checked while a task waits.
const PERIOD: Duration = Duration::from_millis(20);

/// A task that asks for the file's data version while a task waits; this costs a read of shared memory. It asks on the connection that
/// writes. There the version changes only for commits of other processes, so a waiting task is woken once for each commit of this process,
/// not once more by this watch.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Watch {
    pub(super) fn start(writer: Arc<Mutex<Writer>>, wake: Arc<Wake>) -> Self {
        Self(tokio::spawn(run(writer, wake)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(writer: Arc<Mutex<Writer>>, wake: Arc<Wake>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        if wake.waiting() == 0 {
            continue;
        }
        // While this process writes, its own commits wake waiting tasks. Commits of others are seen right after.
        let Ok(mut writer) = writer.try_lock() else {
            continue;
        };
        let version = writer.data_version().await;
        // A read that fails counts as a change too: the waiting tasks then meet the error themselves.
        if version != seen {
            seen = version;
            wake.notify();
        }
    }
}
