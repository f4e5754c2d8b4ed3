//! A client whose machine's clock is ahead of the journal's.

use crate::id;
use std::sync::Arc;
use tape_client::core::id::{GateName, SignalId, StreamId, Tenant, ValueName};
use tape_client::core::state::Delta;
use tape_client::core::time::Timestamp;
use tape_client::{Payload, Tape};
use tape_engine::Engine;
use tape_environment::{Environment, machine};
use tape_server::config::Config;
use tape_server::server::Server;
use tape_store::clock::{Clock, SystemClock};

/// A journal's clock that is behind this machine's clock by far more than a request may be ahead.
struct Behind;

impl Clock for Behind {
    fn now(&self) -> Timestamp {
        SystemClock.now().minus_millis(3_600_000)
    }

    fn environment(&self) -> Arc<dyn Environment> {
        machine()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_reaches_a_journal_whose_clock_is_behind() {
    let store = tape_store::open::open("memory:").await.unwrap();
    let config = Config::new("memory:", "127.0.0.1:0".parse().unwrap());
    let server = Server::over(config, Engine::new(store, Arc::new(Behind))).unwrap();
    let url = format!("tape://{}", server.address());
    tokio::spawn(server.run(std::future::pending()));
    // Each client makes one request: none has learned the journal's time from an earlier refusal.
    let client = async || Tape::connect(&url).await.unwrap();
    let run = client()
        .await
        .run(id("i1"))
        .begin()
        .await
        .unwrap()
        .driving()
        .unwrap();
    let (gate, signal) = (GateName::new("g").unwrap(), SignalId::new("s").unwrap());
    let told = client()
        .await
        .signal(run.id(), gate, signal, Payload::empty())
        .await;
    let signalled = told.unwrap().seq;
    let session = client().await.session(run.id().session());
    session.create(Delta::default()).await.unwrap();
    let value = (Tenant::new("acme").unwrap(), ValueName::new("limit").unwrap());
    client()
        .await
        .value(value.0, value.1)
        .put(Payload::empty())
        .await
        .unwrap();
    let session = client().await.session(run.id().session());
    session.delete().await.unwrap();
    let stream = StreamId::Run(run.id().clone());
    client()
        .await
        .erase(&stream, vec![signalled], "asked for")
        .await
        .unwrap();
}
