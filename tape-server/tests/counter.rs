//! A counter under kills: every acknowledged change is made exactly once, however late requests are sent again.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod harness;
#[cfg(feature = "postgres")]
#[path = "../../tape-store/tests/postgres_server/mod.rs"]
mod postgres_server;

use harness::{Server, context};
use std::time::Duration;
use tape_environment::{Environment as _, Machine};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tokio::sync::watch;

const CLIENTS: usize = 16;
const KILLS: u64 = 12;
/// Acknowledged changes between two kills.
const BETWEEN: u64 = 24;
/// A request is sent again after at most this long.
const LATE_MS: u64 = 1_500;

fn value_id() -> Option<v1::ValueId> {
    Some(v1::ValueId {
        tenant: "acme".to_owned(),
        name: "counter".to_owned(),
    })
}

/// One client, which knows the server's present address and counts acknowledged changes.
#[derive(Clone)]
struct Client {
    server: watch::Receiver<String>,
    acknowledged: watch::Sender<u64>,
}

impl Client {
    /// Sets the value until the test says that enough changes were made by all clients.
    async fn count(self, over: watch::Receiver<bool>) {
        let mut n = 0_u32;
        while !*over.borrow() {
            let put = v1::PutValueRequest {
                value_id: value_id(),
                context: context(),
                value: Some(v1::Payload {
                    content_type: "text/plain".to_owned(),
                    data: n.to_string().into(),
                }),
                ..Default::default()
            };
            let version = self.put(&put).await;
            self.acknowledged.send_modify(|count| *count += 1);
            // Some requests come once more, long after they were answered.
            n += 1;
            if n.is_multiple_of(3) {
                late().await;
                assert_eq!(self.put(&put).await, version, "a repeat gets the first outcome");
            }
        }
    }

    /// Sends a request until it is answered.
    async fn put(&self, put: &v1::PutValueRequest) -> u64 {
        loop {
            let server = self.server.borrow().clone();
            let sent = async {
                let mut values = ValueServiceClient::connect(server).await.ok()?;
                match values.put_value(put.clone()).await {
                    Ok(reply) => Some(reply.into_inner().version),
                    Err(status) => match Failure::from(&status) {
                        Failure::Rejected(rejection) => panic!("{rejection}"),
                        _ => None,
                    },
                }
            };
            match sent.await {
                Some(version) => return version,
                None => late().await,
            }
        }
    }
}

/// The lateness of requests is under test.
async fn late() {
    tokio::time::sleep(Duration::from_millis(Machine.random_u64() % LATE_MS)).await;
}

async fn acknowledged_is_done(store: &str) {
    let mut server = Server::start_on(store, &[]);
    let (place, _) = watch::channel(server.url());
    let (acknowledged, mut count) = watch::channel(0);
    let (over, _) = watch::channel(false);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = Client {
                server: place.subscribe(),
                acknowledged: acknowledged.clone(),
            };
            tokio::spawn(client.count(over.subscribe()))
        })
        .collect();
    for kill in 1..=KILLS {
        count.wait_for(|count| *count >= kill * BETWEEN).await.unwrap();
        server.kill();
        server = Server::start_on(store, &[]);
        place.send_replace(server.url());
    }
    over.send_replace(true);
    for client in clients {
        client.await.unwrap();
    }
    let mut values = ValueServiceClient::connect(server.url()).await.unwrap();
    let value = values
        .get_value(v1::GetValueRequest { value_id: value_id() })
        .await;
    let (done, told) = (value.unwrap().into_inner().version, *count.borrow());
    assert_eq!(done, told, "each acknowledged change was made once, and no other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_is_done_under_kills() {
    let dir = tempfile::tempdir().unwrap();
    acknowledged_is_done(&format!("sqlite:{}", dir.path().join("tape.db").display())).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_is_done_under_kills_on_postgres() {
    if let Some(database) = postgres_server::Database::create() {
        acknowledged_is_done(&database.url()).await;
    }
}
