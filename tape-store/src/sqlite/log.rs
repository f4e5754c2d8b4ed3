//! Keeps the write-ahead log short.
//!
//! While a reader uses an old snapshot, the log cannot restart, and grows with every write. Once the reader is gone, a log in use is
//! truncated by the next commit that restarts it; an unused log is emptied here.

use super::writer::Writer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How often the log is looked at, and how seldom where a reader stays.
const PERIOD: Duration = Duration::from_secs(1);
const PERIOD_MAX: Duration = Duration::from_secs(30);
/// Bytes that an unused log may keep.
const KEPT_BYTES: u64 = 1 << 20;

/// A task that empties the log after a while without writes. Each look costs one `stat` of the file.
#[derive(Debug)]
pub(super) struct LogKeeper(JoinHandle<()>);

impl LogKeeper {
    pub(super) fn start(log: PathBuf, writer: Arc<Mutex<Writer>>) -> Self {
        Self(tokio::spawn(run(log, writer)))
    }
}

impl Drop for LogKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(log: PathBuf, writer: Arc<Mutex<Writer>>) {
    let (mut before, mut pause) = (None, PERIOD);
    loop {
        tokio::time::sleep(pause).await;
        let seen = long(&log);
        let is_unused = seen.is_some() && seen == before;
        before = seen;
        if !is_unused {
            pause = PERIOD;
            continue;
        }
        let emptied = writer.lock().await.empty_log().await;
        pause = match emptied {
            Ok(true) => PERIOD,
            // The store remembers the failure and reports it.
            Ok(false) | Err(_) => (pause * 2).min(PERIOD_MAX),
        };
    }
}

/// How long a log is and when it was last written, if it is longer than it may stay.
fn long(log: &std::path::Path) -> Option<(u64, SystemTime)> {
    let found = std::fs::metadata(log).ok()?;
    (found.len() > KEPT_BYTES).then(|| Some((found.len(), found.modified().ok()?)))?
}
