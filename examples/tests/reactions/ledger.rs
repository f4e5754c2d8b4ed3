//! The upstream: it acts at each request, whatever its key is, and can be asked by business key what it did.

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

const FOUND: HeaderName = HeaderName::from_static("ledger-found");

pub(crate) struct Ledger {
    acts: Mutex<BTreeMap<String, u64>>,
    progress: watch::Sender<usize>,
}

impl Ledger {
    /// Serves it: itself, and its URL. Each act is progress.
    pub(crate) async fn serve(progress: watch::Sender<usize>) -> (Arc<Self>, String) {
        let ledger = Arc::new(Self {
            acts: Mutex::default(),
            progress,
        });
        let router = Router::new()
            .route("/act", post(act))
            .route("/find/{business_key}", get(find))
            .with_state(Arc::clone(&ledger));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (ledger, url)
    }

    /// The part of the configuration of a worker that tells how to reach it.
    pub(crate) fn connector(url: &str) -> String {
        format!(
            "[connectors.ledger.http]\n\
             dispatch = \"{url}/act\"\n\
             observe = \"{url}/find/{{business_key}}\"\n\
             found = {{ status = 200, headers = {{ {FOUND} = \"act\" }} }}\n\
             absent = {{ status = 404, json = {{ \"/error\" = \"no such act\" }} }}\n"
        )
    }

    /// How often it acted, by business key.
    pub(crate) fn acts(&self) -> BTreeMap<String, u64> {
        self.acts.lock().unwrap().clone()
    }
}

async fn act(State(ledger): State<Arc<Ledger>>, headers: HeaderMap, Json(_): Json<Value>) -> Response {
    let Some(key) = headers.get("tape-business-key").and_then(|key| key.to_str().ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    *ledger.acts.lock().unwrap().entry(key.to_owned()).or_default() += 1;
    ledger.progress.send_modify(|progress| *progress += 1);
    Json(json!("booked")).into_response()
}

async fn find(State(ledger): State<Arc<Ledger>>, Path(key): Path<String>) -> Response {
    if ledger.acts.lock().unwrap().contains_key(&key) {
        return ([(FOUND, "act")], Json(json!("booked"))).into_response();
    }
    let absent = Json(json!({ "error": "no such act" }));
    (StatusCode::NOT_FOUND, absent).into_response()
}
