//! The cost of idle reactors for the store, in virtual time.

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::id::{Holder, RequestId};
use tape_engine::Engine;
use tape_reactors::api::{Journal, Layer};
use tape_reactors::{
    Compensation, Connectors, Options, Outbox, Reactor, Reconciler, Runner, Terms, Timers, Worker,
};
use tape_store::clock::SystemClock;
use tape_store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

/// Counts all calls of a journal.
#[derive(Debug)]
struct Counted {
    engine: Engine,
    asked: AtomicU32,
}

impl Counted {
    fn count(&self) -> &dyn Journal {
        self.asked.fetch_add(1, Ordering::SeqCst);
        &self.engine
    }
}

#[async_trait]
impl Layer for Counted {
    /// The journal for all other calls.
    fn inner(&self) -> &dyn Journal {
        self.count()
    }

    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        Journal::changed(&self.engine, queue)
    }

    fn request_id(&self) -> RequestId {
        self.engine.request_id()
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_reactor_asks_less_than_once_a_second() {
    const MINUTES: u32 = 10;
    let engine = Engine::new(Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let counted = Arc::new(Counted {
        engine,
        asked: AtomicU32::new(0),
    });
    let journal: Arc<dyn Journal> = Arc::<Counted>::clone(&counted);
    let holder = Holder::new("idle").unwrap();
    let worker = Worker::new(journal.clone(), Connectors::new(), holder, Terms::default());
    let reactors: [Arc<dyn Reactor>; 4] = [
        Arc::new(Outbox::new(worker.clone())),
        Arc::new(Reconciler::new(worker.clone())),
        Arc::new(Compensation::new(worker)),
        Arc::new(Timers::new(journal.clone())),
    ];
    let stop = CancellationToken::new();
    let drivers = reactors.map(|reactor| {
        let runner = Runner::new(journal.clone(), reactor, Options::default());
        tokio::spawn(runner.run(stop.clone()))
    });
    tokio::time::sleep(Duration::from_secs(60 * u64::from(MINUTES))).await;
    stop.cancel();
    futures::future::join_all(drivers).await;
    let asked = counted.asked.load(Ordering::SeqCst);
    // Of four reactors.
    assert!(asked > 0 && asked < 4 * 60 * MINUTES, "{asked}");
}
