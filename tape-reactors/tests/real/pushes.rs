//! Pub/Sub that pushes messages to workers, and Cloud Tasks that wakes their timers.

use crate::cloud_tasks::{CloudTasks, QUEUE, Retries};
use crate::hints::Woken;
use crate::upstream::http;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_environment::machine;
use tokio::task::JoinSet;

const ACCOUNT: &str = "wake@test.iam.gserviceaccount.com";
const AUDIENCE: &str = "https://reactor.example/wake";

/// What pushes. The emulator of Pub/Sub signs no tokens: its pushes pass here on their way, and get one.
pub(crate) struct Pushes {
    pub(crate) tasks: Arc<CloudTasks>,
    front: Front,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

#[derive(Clone)]
struct Front {
    http: reqwest::Client,
    tasks: Arc<CloudTasks>,
    /// The ports of workers that were ready once.
    ready: Arc<Mutex<HashSet<u16>>>,
}

impl Pushes {
    pub(crate) async fn start() -> Self {
        let tasks = CloudTasks::start(machine()).await;
        tasks.retries(Retries {
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(400),
            ..Retries::default()
        });
        let tasks = Arc::new(tasks);
        let front = Front {
            http: http(),
            tasks: Arc::clone(&tasks),
            ready: Arc::default(),
        };
        let router = Router::new()
            .route("/{port}", post(push))
            .with_state(front.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            tasks,
            front,
            address,
            _serving: serving,
        }
    }

    /// What a worker at a port of its own is given, and the endpoint for its subscription.
    pub(crate) fn worker(&self) -> (Woken, String) {
        let port = free_port();
        let (listen, keys) = (format!("127.0.0.1:{port}"), self.tasks.keys());
        let flags = [
            "--timers=cloud-tasks",
            "--wake=push",
            "--sweep=off",
            "--listen",
            &listen,
            "--push-audience",
            AUDIENCE,
            "--push-account",
            ACCOUNT,
            "--push-issuer=https://accounts.google.com",
            "--jwks-url",
            &keys,
        ];
        let config = format!(
            "[timers.cloud_tasks]\nqueue = \"{QUEUE}\"\nurl = \"http://{listen}/wake\"\nemulator = \"{}\"\n\
             sweep_ms = 3600000\n",
            self.tasks.address(),
        );
        let woken = Woken {
            flags: flags.map(str::to_owned).to_vec(),
            env: Vec::new(),
            config,
            port: Some(port),
        };
        (woken, format!("http://{}/{port}", self.address))
    }

    /// A worker listens.
    pub(crate) fn ready(&self, port: u16) {
        self.front.ready.lock().unwrap().insert(port);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Passes a push on with a token. One to a worker that does not listen yet comes again; one to a worker that is gone would for ever.
async fn push(State(front): State<Front>, Path(port): Path<u16>, body: Bytes) -> StatusCode {
    let was_ready = front.ready.lock().unwrap().contains(&port);
    let token = front.tasks.token(ACCOUNT, AUDIENCE);
    let request = front.http.post(format!("http://127.0.0.1:{port}/wake"));
    match request.bearer_auth(token).body(body).send().await {
        Ok(answer) => answer.status(),
        Err(_) if was_ready => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
