//! The conformance suite on the sinks of this crate.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the tests of webhooks use all of it")]
#[cfg(feature = "webhook")]
mod endpoint;

use async_trait::async_trait;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_environment::machine;
use tape_relay::conformance::{Fault, Fixture, Received};
use tape_relay::sink::Sink;
use tape_relay::sinks::broadcast::{Broadcast, CAPACITY_MAX, Subscription};
use tape_relay::sinks::json_lines::{JsonLines, JsonLinesSettings};
use tape_relay::sinks::null::Null;

mod null {
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    #[async_trait]
    impl Fixture for Nothing {
        fn sink(&self) -> Arc<dyn Sink> {
            Arc::new(Null)
        }
        async fn received(&self) -> Option<Vec<Received>> {
            None
        }
    }

    tape_relay::conformance!(|| async { Nothing });
}

mod broadcast {
    use super::*;
    use futures::FutureExt as _;

    #[derive(Debug)]
    struct Subscribed {
        sink: Arc<Broadcast>,
        subscription: Mutex<Subscription>,
        received: Mutex<Vec<Received>>,
    }

    #[async_trait]
    impl Fixture for Subscribed {
        fn sink(&self) -> Arc<dyn Sink> {
            Arc::clone(&self.sink) as _
        }
        async fn received(&self) -> Option<Vec<Received>> {
            let mut subscription = self.subscription.lock().unwrap();
            let mut received = self.received.lock().unwrap();
            while let Some(event) = tokio::task::unconstrained(subscription.next()).now_or_never() {
                received.push(Received::from_json(&event.unwrap().to_json()));
            }
            Some(received.clone())
        }
    }

    tape_relay::conformance!(|| async {
        let sink = Arc::new(Broadcast::new(CAPACITY_MAX).unwrap());
        let subscription = Mutex::new(sink.subscribe());
        Subscribed {
            sink,
            subscription,
            received: Mutex::default(),
        }
    });
}

mod json_lines {
    use super::*;

    #[derive(Debug)]
    struct Files {
        directory: tempfile::TempDir,
        bytes_max: u64,
        sink: Mutex<Option<Arc<dyn Sink>>>,
        /// Held by another writer.
        lock: Mutex<Option<File>>,
    }

    impl Files {
        fn new(bytes_max: u64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let files = Self {
                directory,
                bytes_max,
                sink: Mutex::default(),
                lock: Mutex::default(),
            };
            *files.sink.lock().unwrap() = Some(files.open());
            files
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("events.jsonl")
        }

        fn open(&self) -> Arc<dyn Sink> {
            let settings = JsonLinesSettings::new(self.path(), self.bytes_max, Duration::from_secs(3_600));
            Arc::new(JsonLines::new(settings.unwrap(), machine()))
        }
    }

    fn lines(path: &Path) -> Vec<Received> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "a file ends with a whole line"
        );
        text.lines()
            .map(|line| Received::from_json(line.as_bytes()))
            .collect()
    }

    #[async_trait]
    impl Fixture for Files {
        fn sink(&self) -> Arc<dyn Sink> {
            Arc::clone(self.sink.lock().unwrap().as_ref().unwrap())
        }
        async fn received(&self) -> Option<Vec<Received>> {
            let files = std::fs::read_dir(self.directory.path()).unwrap();
            let mut closed: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
            closed.retain(|path| *path != self.path() && path.extension().is_some_and(|end| end != "lock"));
            closed.sort();
            closed.push(self.path());
            Some(closed.iter().flat_map(|path| lines(path)).collect())
        }
        async fn fail(&self, fault: Fault) -> bool {
            *self.lock.lock().unwrap() = match fault {
                Fault::None => None,
                Fault::Down => {
                    let lock = File::create(self.path().with_extension("jsonl.lock")).unwrap();
                    lock.try_lock().unwrap();
                    Some(lock)
                }
                _ => return false,
            };
            true
        }
        async fn reopen(&self) -> Option<Arc<dyn Sink>> {
            let mut sink = self.sink.lock().unwrap();
            *sink = None;
            Some(Arc::clone(sink.insert(self.open())))
        }
    }

    tape_relay::conformance!(|| async { Files::new(1 << 30) });

    /// A new file is begun all the time.
    mod small_files {
        use super::*;
        tape_relay::conformance!(|| async { Files::new(4_096) });
    }
}

#[cfg(feature = "webhook")]
mod webhook {
    use super::*;
    use crate::endpoint::Endpoint;

    #[derive(Debug)]
    struct Posted {
        endpoint: Endpoint,
        sink: Arc<dyn Sink>,
    }

    #[async_trait]
    impl Fixture for Posted {
        fn sink(&self) -> Arc<dyn Sink> {
            Arc::clone(&self.sink)
        }
        async fn received(&self) -> Option<Vec<Received>> {
            Some(self.endpoint.taken())
        }
        async fn fail(&self, fault: Fault) -> bool {
            self.endpoint.fail(fault);
            true
        }
        async fn reopen(&self) -> Option<Arc<dyn Sink>> {
            Some(Arc::new(self.endpoint.webhook()))
        }
    }

    tape_relay::conformance!(|| async {
        let endpoint = Endpoint::start().await;
        let sink = Arc::new(endpoint.webhook());
        Posted { endpoint, sink }
    });
}
