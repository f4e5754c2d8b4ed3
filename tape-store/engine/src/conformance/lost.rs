//! Commits that were acknowledged and then lost: with a failed primary, or because a backup was restored beneath running servers.

use crate::Engine;
use crate::EngineError;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tape_core::chain::Verifier;
use tape_core::command::{Command, ValueCommand};
use tape_core::id::{StreamId, Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::reply::Rejection;
use tape_store::clock::SystemClock;
use tape_store::conformance::Fixture;
use tape_store::conformance::pen::all;
use tape_store::contract::{Batch, Committed, JournalStore};
use tape_store::error::CommitError;
use tape_store::layer::Layer;

/// A store that acknowledges a commit which it then loses.
struct Losing {
    inner: Arc<dyn JournalStore>,
    is_armed: AtomicBool,
}

#[async_trait]
impl Layer for Losing {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        if self.is_armed.swap(false, Ordering::SeqCst) {
            return batches
                .iter()
                .map(|batch| Ok(Committed { seq: batch.last() }))
                .collect();
        }
        self.inner.commit(batches).await
    }
}

/// A server has a state that the store lost. Its place in the stream is empty, or holds other entries, up to its end or beyond. The
/// server's next answer, to a read, a command or a refused command, is based on what the store has, and nothing is linked to the lost
/// entries.
pub(super) async fn what_was_lost_is_neither_told_nor_written_on(fixture: Fixture) {
    for since in 0..3_usize {
        for next in 0..3 {
            let name = format!("v-{since}-{next}");
            let of = |engine: Engine| Editor::new(engine, &name);
            let losing = Arc::new(Losing {
                inner: Arc::clone(&fixture.store),
                is_armed: AtomicBool::new(false),
            });
            let (a, b) = (
                of(Engine::new(
                    Arc::clone(&losing) as Arc<dyn JournalStore>,
                    Arc::new(SystemClock),
                )),
                of(Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock))),
            );
            a.put("kept").await;
            b.put("kept, too").await;
            assert_eq!(a.versions().await, 2);
            losing.is_armed.store(true, Ordering::SeqCst);
            a.put("lost").await;
            for _ in 0..since {
                b.put("instead").await;
            }
            let mut versions = 2 + since as u64;
            match next {
                0 => assert_eq!(a.versions().await, versions),
                1 => a.refused(versions + 7, versions).await,
                _ => {}
            }
            a.put("on what there is").await;
            versions += 1;
            for editor in [&a, &b] {
                assert_eq!(editor.versions().await, versions, "after {since}, {next}");
            }
            let entries = all(fixture.store.as_ref(), &a.stream()).await;
            let mut verifier = Verifier::new(&a.stream(), None);
            entries.iter().for_each(|entry| verifier.check(entry).unwrap());
            let fresh = of(Engine::new(Arc::clone(&fixture.store), Arc::new(SystemClock)));
            assert_eq!(fresh.versions().await, versions);
        }
    }
}

/// A client that changes a value through one server.
struct Editor {
    engine: Engine,
    tenant: Tenant,
    name: ValueName,
}

impl Editor {
    fn new(engine: Engine, name: &str) -> Self {
        Self {
            engine,
            tenant: Tenant::new("acme").unwrap(),
            name: ValueName::new(name).unwrap(),
        }
    }

    fn stream(&self) -> StreamId {
        StreamId::Value {
            tenant: self.tenant.clone(),
            name: self.name.clone(),
        }
    }

    fn command(&self, value: &str, expected: Option<u64>) -> Command<ValueCommand> {
        let value = Payload::new("text/plain", value.to_owned()).unwrap();
        Command::new(self.engine.request_id(), ValueCommand::Put { value, expected })
    }

    async fn put(&self, value: &str) {
        let put = self.command(value, None);
        self.engine.value(&self.tenant, &self.name, put).await.unwrap();
    }

    async fn versions(&self) -> u64 {
        let state = self.engine.value_state(&self.tenant, &self.name).await.unwrap();
        state.map_or(0, |value| value.version())
    }

    /// A change that expects another version than the value's is refused with the value's version.
    async fn refused(&self, expected: u64, current: u64) {
        let put = self.command("of another version", Some(expected));
        let refused = self.engine.value(&self.tenant, &self.name, put).await;
        let refused = refused.expect_err("the value has not the version that is asked for");
        let EngineError::Rejected(Rejection::VersionConflict { current: told, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(told, current);
    }
}
