//! Every call of the contract, against a server in this process.

use crate::damage::damage;
use crate::message::{Contract, Method};
use crate::raw::Raw;
use crate::{Clock, Tally};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tape_core::chain::Verifier;
use tape_core::id::StreamId;
use tape_engine::Engine;
use tape_proto::failure::ERROR_DOMAIN;
use tape_server::config::Config;
use tape_server::server::Server;
use tape_store::clock::SystemClock;
use tape_store::contract::{Cursor, JournalStore, Shard};
use tape_store::memory::MemoryStore;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

/// An endless stream is dropped after its first message, or after this long without one.
const STREAM_PATIENCE: Duration = Duration::from_millis(2);
/// A fresh server and store after this many rounds: another test covers long runs.
const ROUNDS_PER_SERVER: u64 = 20_000;

pub(crate) async fn fuzz(seed: u64, span: Duration) -> Tally {
    let clock = Clock::start(span);
    let mut rng = StdRng::seed_from_u64(seed);
    let (contract, mut tally) = (Contract::load(), Tally::default());
    while !clock.is_over() {
        let store: Arc<dyn JournalStore> = Arc::new(MemoryStore::new());
        let engine = Engine::new(Arc::clone(&store), Arc::new(SystemClock));
        let config = Config::new("memory:", "127.0.0.1:0".parse().expect("an address"));
        let server = Server::over(config, engine).expect("the server listens");
        let url = format!("http://{}", server.address());
        let serving = tokio::spawn(server.run(std::future::pending()));
        let channel = Channel::from_shared(url)
            .expect("a URL")
            .connect()
            .await
            .expect("the server is there");
        let mut caller = Caller {
            store,
            channel,
            places: HashMap::new(),
        };
        for _ in 0..ROUNDS_PER_SERVER {
            if clock.is_over() {
                break;
            }
            round(&mut rng, &contract, &mut caller, &mut tally).await;
        }
        caller.verify().await;
        serving.abort();
    }
    tally
}

async fn round(rng: &mut StdRng, contract: &Contract, caller: &mut Caller, tally: &mut Tally) {
    // Half of all calls are commands of drivers: these have most of the rules.
    let method = if rng.random_bool(0.5) {
        contract
            .methods
            .iter()
            .find(|method| method.path.ends_with("/DriveOnce"))
            .expect("the contract has it")
    } else {
        &contract.methods[rng.random_range(0..contract.methods.len())]
    };
    let messages = if method.client_streams {
        rng.random_range(1..6)
    } else {
        1
    };
    let messages: Vec<Vec<u8>> = (0..messages)
        .map(|_| {
            let message = contract.message(rng, &method.input);
            if rng.random_bool(0.1) {
                damage(rng, message)
            } else {
                message
            }
        })
        .collect();
    tally.rounds += 1;
    let outcome = caller.call(method, messages.clone()).await;
    let written = caller.written().await;
    match outcome {
        Ok(()) => tally.taken += 1,
        Err(status) => {
            tally.refused += 1;
            let typed = status
                .get_details_error_info()
                .is_some_and(|info| info.domain == ERROR_DOMAIN);
            assert!(typed, "{} answered {messages:02x?} with {status:?}", method.path);
            // A business key is claimed before the effect that wants it is refused or begun.
            let others = written
                .iter()
                .find(|stream| !matches!(stream, StreamId::KeyOwner { .. }));
            assert!(
                others.is_none() || method.client_streams,
                "{} refused {messages:02x?} with {status:?}, but wrote to {others:?}",
                method.path
            );
        }
    }
}

struct Caller {
    store: Arc<dyn JournalStore>,
    channel: Channel,
    places: HashMap<Shard, Cursor>,
}

impl Caller {
    /// Calls, and reads the answer, or the first messages of a stream of them.
    async fn call(&self, method: &Method, messages: Vec<Vec<u8>>) -> Result<(), Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.expect("the server is there");
        let path = method.path.parse().expect("a path");
        let request = Request::new(tokio_stream::iter(messages));
        let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
        while let Ok(answer) = tokio::time::timeout(STREAM_PATIENCE, answers.message()).await {
            if answer?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The streams that were written to since the last call.
    async fn written(&mut self) -> Vec<StreamId> {
        let mut streams = Vec::new();
        for shard in (0..self.store.capabilities().shards).map(Shard) {
            let place = self.places.entry(shard).or_default();
            loop {
                let page = self
                    .store
                    .tail(shard, place, 256)
                    .await
                    .expect("memory can be read");
                *place = page.cursor;
                if page.entries.is_empty() {
                    break;
                }
                streams.extend(page.entries.into_iter().map(|entry| entry.stream));
            }
        }
        streams
    }

    /// Verifies the chain of every stream.
    async fn verify(&self) {
        let mut verifiers: HashMap<StreamId, Verifier> = HashMap::new();
        for shard in (0..self.store.capabilities().shards).map(Shard) {
            let mut place = Cursor::default();
            loop {
                let page = self
                    .store
                    .tail(shard, &place, 256)
                    .await
                    .expect("memory can be read");
                place = page.cursor;
                if page.entries.is_empty() {
                    break;
                }
                for entry in page.entries {
                    let verifier = verifiers
                        .entry(entry.stream)
                        .or_insert_with_key(|stream| Verifier::new(stream, None));
                    verifier.check(&entry.entry).expect("every chain verifies");
                }
            }
        }
    }
}
