//! The same conformance tests over an engine in the process and over a server.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;
use tape_api::conformance::Fixture;
use tape_client::Remote;
use tape_engine::Engine;
use tape_environment::machine;
use tape_server::config::Config;
use tape_server::server::Server;
use tape_store::memory::MemoryStore;

mod memory {
    use super::*;

    tape_api::conformance!(|| async { Fixture::new(Engine::start(Arc::new(MemoryStore::new()))) });
}

mod sqlite {
    use super::*;

    async fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("tape.db").display());
        let store = tape_store::open::open(&url).await.unwrap();
        Fixture::new(Engine::start(store)).keeping(directory)
    }

    tape_api::conformance!(fixture);
}

/// A server over a store of several shards, and the client of it.
mod served {
    use super::*;

    async fn fixture() -> Fixture {
        let engine = Engine::start(Arc::new(MemoryStore::with_shards(3)));
        let config = Config::new("memory:", "127.0.0.1:0".parse().unwrap());
        let server = Server::over(config, engine).unwrap();
        let address = server.address().to_string();
        let serving = tokio::spawn(server.run(std::future::pending()));
        Fixture::new(Remote::new(&address, Duration::from_secs(30), machine()).unwrap()).keeping(serving)
    }

    tape_api::conformance!(fixture);
}
