//! Thousands of followers of one server that wait for something else, or take nothing.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;

use futures::future::join_all;
use harness::{all_tenants, context};
use std::sync::Arc;
use tape_engine::Engine;
use tape_environment::machine;
use tape_proto::v1;
use tape_proto::v1::feed_service_client::FeedServiceClient;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tape_server::config::Config;
use tape_store::contract::JournalStore;
use tape_store::layer::MeteredStore;
use tape_store::memory::MemoryStore;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Followers of each sort; a connection has a hundred.
const FOLLOWERS: usize = 1_000;
const ON_A_CONNECTION: usize = 100;
/// What a client that takes nothing lets a server send: little.
const WINDOW_BYTES: u32 = 16 * 1024;
/// Writes while they wait.
const WRITES: u64 = 200;
/// The most memory that followers may take, in all, as a server bounds it: the messages of readers, and the ring.
const MEGABYTES_MAX: f64 = 256.0 + 32.0;

/// Followers of a server.
struct Followers {
    idle_tails: Vec<Streaming<v1::TailResponse>>,
    idle_watches: Vec<Streaming<v1::WatchValueResponse>>,
    stuck: Vec<Streaming<v1::TailResponse>>,
}

async fn connect(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    let endpoint = endpoint.initial_stream_window_size(WINDOW_BYTES);
    let connection = WINDOW_BYTES * u32::try_from(ON_A_CONNECTION).unwrap();
    endpoint
        .initial_connection_window_size(connection)
        .connect()
        .await
        .unwrap()
}

fn only(tenant: &str) -> Option<v1::Tenants> {
    let which = v1::tenants::Which::Only(tenant.to_owned());
    Some(v1::Tenants { which: Some(which) })
}

/// A tail that is live once this returns: it has told where it begins.
async fn tail(channel: &Channel, tenants: Option<v1::Tenants>, pattern: &str) -> Streaming<v1::TailResponse> {
    let request = v1::TailRequest {
        pattern: pattern.to_owned(),
        start: v1::tail_request::Start::Now.into(),
        tenants,
        ..Default::default()
    };
    let mut tail = FeedServiceClient::new(channel.clone())
        .tail(request)
        .await
        .unwrap()
        .into_inner();
    tail.message().await.unwrap().unwrap();
    tail
}

/// A watch of a value that is never set.
async fn watch(channel: &Channel, n: usize) -> Streaming<v1::WatchValueResponse> {
    let request = v1::WatchValueRequest {
        value_id: value_id("idle", &format!("v{n}")),
        after_version: 0,
    };
    let mut values = ValueServiceClient::new(channel.clone());
    values.watch_value(request).await.unwrap().into_inner()
}

fn value_id(tenant: &str, name: &str) -> Option<v1::ValueId> {
    Some(v1::ValueId {
        tenant: tenant.to_owned(),
        name: name.to_owned(),
    })
}

impl Followers {
    async fn idle(url: &str) -> Self {
        let (mut idle_tails, mut idle_watches) = (Vec::new(), Vec::new());
        for connection in 0..FOLLOWERS / ON_A_CONNECTION {
            let channel = connect(url).await;
            let numbers = connection * ON_A_CONNECTION..(connection + 1) * ON_A_CONNECTION;
            if connection % 2 == 0 {
                let patterns: Vec<String> = numbers.map(|n| format!("*.value.v{n}.>")).collect();
                let tails = patterns
                    .iter()
                    .map(|pattern| tail(&channel, only("idle"), pattern));
                idle_tails.extend(join_all(tails).await);
            } else {
                idle_watches.extend(join_all(numbers.map(|n| watch(&channel, n))).await);
            }
        }
        Self {
            idle_tails,
            idle_watches,
            stuck: Vec::new(),
        }
    }

    async fn add_stuck(&mut self, url: &str) {
        for _ in 0..FOLLOWERS / ON_A_CONNECTION {
            let channel = connect(url).await;
            let tails = (0..ON_A_CONNECTION).map(|_| tail(&channel, all_tenants(), ">"));
            self.stuck.extend(join_all(tails).await);
        }
    }
}

async fn put(values: &mut ValueServiceClient<Channel>, tenant: &str, name: &str, bytes: usize) {
    let put = v1::PutValueRequest {
        value_id: value_id(tenant, name),
        context: context(),
        value: Some(v1::Payload {
            content_type: "text/plain".to_owned(),
            data: vec![b'x'; bytes].into(),
        }),
        ..Default::default()
    };
    values.put_value(put).await.unwrap();
}

/// Reads until the entry with a sequence number of the busy stream, each in its order.
async fn read_to(tail: &mut Streaming<v1::TailResponse>, last: u64) {
    let mut seq = 0;
    while seq < last {
        for fed in tail.message().await.unwrap().unwrap().entries {
            seq += 1;
            assert_eq!(fed.entry.unwrap().seq, seq);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_followers_ask_the_store_nothing() {
    let store = Arc::new(MeteredStore::new(Arc::new(MemoryStore::new())));
    let metered: Arc<dyn JournalStore> = Arc::<MeteredStore>::clone(&store);
    let engine = Engine::start_in(metered, machine());
    let server = tape_server::server::Server::over(Config::new("", "127.0.0.1:0".parse().unwrap()), engine);
    let server = server.unwrap();
    let url = format!("http://{}", server.address());
    let serving = tokio::spawn(server.run(std::future::pending()));
    let mut followers = Followers::idle(&url).await;
    followers.add_stuck(&url).await;
    let channel = connect(&url).await;
    let mut probe = tail(&channel, all_tenants(), "acme.>").await;
    let mut values = ValueServiceClient::new(channel);
    // The first put opens its stream.
    put(&mut values, "acme", "busy", 512).await;
    let before = store.counts();
    for _ in 1..WRITES {
        put(&mut values, "acme", "busy", 512).await;
    }
    read_to(&mut probe, WRITES).await;
    let after = store.counts();
    let tails = after.tails - before.tails;
    // For each commit the page with it and perhaps an empty one, and some of a reader that looks every few seconds.
    assert!(
        tails <= 2 * WRITES + 100,
        "{tails} reads of the feed for {WRITES} commits"
    );
    assert_eq!(after.reads, before.reads, "no stream is read");
    assert_eq!(after.heads, before.heads, "no stream is looked up");
    // What a client did not take is still there for it.
    for stuck in followers.stuck.iter_mut().step_by(FOLLOWERS / 10) {
        read_to(stuck, WRITES).await;
    }
    // A watch that is concerned is woken.
    put(&mut values, "idle", "v100", 1).await;
    assert_eq!(
        followers.idle_watches[0]
            .message()
            .await
            .unwrap()
            .unwrap()
            .version,
        1
    );
    put(&mut values, "idle", "v0", 1).await;
    assert_eq!(
        followers.idle_tails[0]
            .message()
            .await
            .unwrap()
            .unwrap()
            .entries
            .len(),
        1
    );
    serving.abort();
}

/// The memory that a process occupies, in megabytes.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1_024.0
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_followers_take_bounded_memory() {
    let server = harness::Server::start_on("memory:", &[]);
    let mut values = ValueServiceClient::new(server.connect().await);
    put(&mut values, "acme", "busy", 512).await;
    let alone = resident(server.process());
    let mut followers = Followers::idle(&server.url()).await;
    let idle = resident(server.process());
    followers.add_stuck(&server.url()).await;
    let stuck = resident(server.process());
    // 64 MiB, which each of those that take nothing asked for.
    for _ in 0..1_024 {
        put(&mut values, "acme", "busy", 64 * 1024).await;
    }
    let full = resident(server.process());
    println!(
        "a server {alone:.1} MB; each of {FOLLOWERS} idle followers {:.1} kB; each of {FOLLOWERS} stuck ones {:.1} kB; then 64 MiB were \
         written: {full:.1} MB in all",
        (idle - alone) * 1_024.0 / FOLLOWERS as f64,
        (stuck - idle) * 1_024.0 / FOLLOWERS as f64,
    );
    // The store itself is in memory.
    assert!(
        full - stuck - 64.0 <= MEGABYTES_MAX,
        "{full} MB, {stuck} MB before"
    );
    assert!(stuck - alone <= MEGABYTES_MAX / 2.0);
}
