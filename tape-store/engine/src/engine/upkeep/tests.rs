use super::{AgendaChange, Correction, End, Engine, LOOKS_MAX, StreamPage};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tape_core::agenda::Queue;
use tape_core::command::{Begin, Command, Create, DriverCommand, RunCommand};
use tape_core::id::{Epoch, Holder, Key, RunId, StreamId};
use tape_core::payload::Payload;
use tape_core::time::Timestamp;
use tape_store::clock::SystemClock;
use tape_store::contract::{Hint, JournalStore, PageToken, Shard};
use tape_store::error::StoreError;
use tape_store::layer::Layer;
use tape_store::memory::MemoryStore;
use tape_store::upkeep::{Indexed, Upkeep};

/// A store in which a run moves on during the first checks of its indexes.
struct Busy {
    inner: Arc<MemoryStore>,
    run: RunId,
    left: AtomicU32,
}

impl Busy {
    async fn move_on(&self) {
        let engine = Engine::new(
            Arc::clone(&self.inner) as Arc<dyn JournalStore>,
            Arc::new(SystemClock),
        );
        let checkpoint = DriverCommand::Checkpoint {
            label: Key::new("k").unwrap(),
            state: Payload::empty(),
        };
        let drive = Command::new(engine.request_id(), RunCommand::Drive(Epoch(1), checkpoint));
        engine.run(&self.run, drive).await.unwrap();
    }
}

#[async_trait]
impl Layer for Busy {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    fn upkeep(&self) -> &dyn Upkeep {
        self
    }
}

#[async_trait]
impl Upkeep for Busy {
    async fn streams(&self, from: Option<&PageToken>, limit: u32) -> Result<StreamPage, StoreError> {
        self.inner.upkeep().streams(from, limit).await
    }

    async fn indexed(&self, stream: &StreamId, hints: &[Hint]) -> Result<Indexed, StoreError> {
        let indexed = self.inner.upkeep().indexed(stream, hints).await;
        let one_less = |left: u32| left.checked_sub(1);
        let moves = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if moves.is_ok() {
            self.move_on().await;
        }
        indexed
    }

    async fn reindex(
        &self,
        stream: &StreamId,
        end: End,
        correction: &Correction,
    ) -> Result<bool, StoreError> {
        self.inner.upkeep().reindex(stream, end, correction).await
    }

    async fn index_version(&self) -> Result<u32, StoreError> {
        self.inner.upkeep().index_version().await
    }

    async fn set_index_version(&self, version: u32) -> Result<(), StoreError> {
        self.inner.upkeep().set_index_version(version).await
    }
}

async fn recovery(store: &MemoryStore) -> Vec<Hint> {
    let due = store
        .due(Queue::Recovery, Shard(0), Timestamp::MAX, None, 10)
        .await;
    due.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_busy_is_compared_in_a_later_pass() {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::new(Arc::clone(&store) as Arc<dyn JournalStore>, Arc::new(SystemClock));
    let run = RunId::new("acme", "treasury", "ann", "s1", "busy").unwrap();
    let begin = Begin {
        run: run.clone(),
        create: Some(Create {
            labels: BTreeMap::new(),
            input: Payload::empty(),
            forked_from: None,
        }),
        holder: Holder::new("driver").unwrap(),
        lease_ms: 60_000,
        adopt: None,
        recovery: false,
    };
    let begin = Command::new(engine.request_id(), RunCommand::Begin(begin));
    engine.run(&run, begin).await.unwrap();

    // An earlier build made no hint for it.
    let stream = StreamId::Run(run.clone());
    let hint = recovery(&store).await.remove(0);
    let lost = Correction {
        agenda: vec![AgendaChange {
            queue: hint.queue,
            item: hint.item.clone(),
            was: Some(hint.due),
            due: None,
        }],
        ..Correction::default()
    };
    let head = store.head(&stream).await.unwrap().unwrap();
    let end = super::end(&head);
    assert!(store.upkeep().reindex(&stream, end, &lost).await.unwrap());
    assert_eq!(recovery(&store).await, []);

    let busy = Busy {
        inner: Arc::clone(&store),
        run,
        left: AtomicU32::new(LOOKS_MAX),
    };
    let server = Engine::new(Arc::new(busy), Arc::new(SystemClock));
    server.keep_index_current().await;
    assert_eq!(
        recovery(&store).await,
        [hint],
        "it is not current while one was not compared"
    );
}
