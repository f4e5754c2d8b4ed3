//! What reactors that have nothing to do cost the store, in virtual time.

use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, Holder, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::reply::Reply;
use tape_reactors::{
    Access, AccessError, Compensation, Connectors, Driver, DuePage, EffectAt, ObligationAt, Options, Outbox,
    Reactor, Reconciler, Terms, Timers, Worker,
};
use tape_store::clock::SystemClock;
use tape_store::contract::PageToken;
use tape_store::engine::Engine;
use tape_store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;

/// Counts everything that is asked of a journal.
struct Counted {
    engine: Engine,
    asked: AtomicU32,
}

impl Counted {
    fn count(&self) -> &Engine {
        self.asked.fetch_add(1, Ordering::SeqCst);
        &self.engine
    }
}

#[async_trait]
impl Access for Counted {
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, AccessError> {
        self.count().due(queue, within, from, limit).await
    }

    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        Access::changed(&self.engine, queue)
    }

    fn request_id(&self) -> RequestId {
        self.engine.request_id()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, AccessError> {
        Access::run(self.count(), run, command).await
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, AccessError> {
        self.count().read(run, after, limit).await
    }

    async fn effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<EffectAt>, AccessError> {
        self.count().effect(run, effect).await
    }

    async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<ObligationAt>, AccessError> {
        self.count().obligation(run, obligation).await
    }

    async fn merge(&self, session: &SessionId) -> Result<(), AccessError> {
        self.count().merge(session).await
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), AccessError> {
        Access::finish_erasures(self.count(), stream).await
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
    let access: Arc<dyn Access> = Arc::<Counted>::clone(&counted);
    let holder = Holder::new("idle").unwrap();
    let worker = Worker::new(access.clone(), Connectors::new(), holder, Terms::default());
    let reactors: [Arc<dyn Reactor>; 4] = [
        Arc::new(Outbox::new(worker.clone())),
        Arc::new(Reconciler::new(worker.clone())),
        Arc::new(Compensation::new(worker)),
        Arc::new(Timers::new(access.clone())),
    ];
    let stop = CancellationToken::new();
    let drivers = reactors.map(|reactor| {
        let driver = Driver::new(access.clone(), reactor, Options::default());
        tokio::spawn(driver.run(stop.clone()))
    });
    tokio::time::sleep(Duration::from_secs(60 * u64::from(MINUTES))).await;
    stop.cancel();
    futures::future::join_all(drivers).await;
    let asked = counted.asked.load(Ordering::SeqCst);
    // Of four reactors.
    assert!(asked > 0 && asked < 4 * 60 * MINUTES, "{asked}");
}
