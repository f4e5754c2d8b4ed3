//! The conformance suite on the stores of this crate.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "bigtable")]
mod bigtable_emulator;
#[cfg(feature = "postgres")]
mod postgres_server;
#[cfg(feature = "spanner")]
mod spanner_emulator;

use std::sync::Arc;
use tape_store::conformance::Fixture;
use tape_store::contract::JournalStore;
use tape_store::memory::MemoryStore;
use tape_store::sqlite::SqliteStore;

mod memory {
    use super::*;
    tape_store::conformance!(|| async { Fixture::new(Arc::new(MemoryStore::new())) });
    tape_engine::conformance!(|| async { Fixture::new(Arc::new(MemoryStore::new())) });
}

/// A store with several shards keeps the contract in each.
mod memory_in_shards {
    use super::*;
    tape_store::conformance!(|| async { Fixture::new(Arc::new(MemoryStore::with_shards(5))) });
    tape_engine::conformance!(|| async { Fixture::new(Arc::new(MemoryStore::with_shards(5))) });
}

mod sqlite {
    use super::*;

    async fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tape.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let reopen = move || -> futures::future::BoxFuture<'static, Arc<dyn JournalStore>> {
            let path = path.clone();
            Box::pin(
                async move { Arc::new(SqliteStore::open(&path).await.unwrap()) as Arc<dyn JournalStore> },
            )
        };
        Fixture::new(Arc::new(store))
            .reopening(Arc::new(reopen))
            .keeping(directory)
    }

    tape_store::conformance!(fixture);
    tape_engine::conformance!(fixture);
}

/// The store at a URL, which can be opened again.
#[cfg(any(feature = "postgres", feature = "bigtable", feature = "spanner"))]
async fn at(url: String) -> Fixture {
    let open = move || -> futures::future::BoxFuture<'static, Arc<dyn JournalStore>> {
        let url = url.clone();
        Box::pin(async move { tape_store::open::open(&url).await.unwrap() })
    };
    Fixture::new(open().await).reopening(Arc::new(open))
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;
    use crate::postgres_server::Database;

    async fn fixture() -> Option<Fixture> {
        let database = Database::create()?;
        Some(at(database.url()).await.keeping(database))
    }

    tape_store::conformance!(fixture);
    tape_engine::conformance!(fixture);
}

#[cfg(feature = "bigtable")]
mod bigtable {
    use super::*;
    use crate::bigtable_emulator::Table;

    async fn fixture() -> Option<Fixture> {
        let table = Table::new()?;
        Some(at(table.url()).await.keeping(table))
    }

    tape_store::conformance!(fixture);
    tape_engine::conformance!(fixture);
}

#[cfg(feature = "spanner")]
mod spanner {
    use super::*;
    use crate::spanner_emulator::Database;

    async fn fixture() -> Option<Fixture> {
        let database = Database::create()?;
        Some(at(database.url()).await.keeping(database))
    }

    tape_store::conformance!(fixture);
    tape_engine::conformance!(fixture);
}
