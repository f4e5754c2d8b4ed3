//! Notices the commits of other processes.

use super::writer::Writer;
use crate::wake::Wake;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How often the file is looked at while somebody waits.
const PERIOD: Duration = Duration::from_millis(20);

/// A task that asks for the file's data version, which costs a look into shared memory, as long as somebody waits. It asks on
/// the connection that writes: there the version tells of the commits of others only, and who waits is woken once for each
/// commit of this process, not once more for having written it.
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
        // While this process writes, its own commits wake who waits; what others wrote is seen right after.
        let Ok(mut writer) = writer.try_lock() else {
            continue;
        };
        let version = writer.data_version().await;
        // That the file cannot be read, too, those who wait find out for themselves.
        if version != seen {
            seen = version;
            wake.notify();
        }
    }
}
