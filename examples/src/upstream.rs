//! An upstream service: it acts on request, once for each idempotency key, and keeps a [`Ledger`] of what it did.
//!
//! On command it fails in the two ways that cost money: it acts and its answer is lost, or it acts and its answer is held
//! back until the caller is dead.

use crate::ledger::{Ledger, Line};
use crate::parent::Parent;
use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The header with the idempotency key.
pub const KEY: &str = "idempotency-key";
/// The header that commands a [`Fault`].
pub const FAULT: &str = "upstream-fault";

/// The address for a free local port.
pub const ANYWHERE: &str = "127.0.0.1:0";

/// A request to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The caller's own reference of the business act.
    pub reference: String,
    /// What to do.
    pub operation: String,
    /// The content of the request.
    pub content: Value,
}

/// A failure on command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Act, then close the connection without a whole answer.
    Lose,
    /// Act, report `held REFERENCE` to the parent, and never answer.
    Hold,
}

impl Fault {
    const fn word(self) -> &'static str {
        match self {
            Self::Lose => "lose",
            Self::Hold => "hold",
        }
    }
}

/// The service of an upstream.
pub trait Service: Send + Sync + 'static {
    /// The answer to a request.
    ///
    /// # Errors
    /// Why it refuses; then it does not act.
    fn answer(&self, request: &Request) -> Result<Value, String>;
}

struct Office {
    desk: Box<dyn Service>,
    ledger: Mutex<Ledger>,
    parent: Parent,
}

/// Serves an upstream on a free local port until the parent is gone; reports `ready URL`.
///
/// # Errors
/// Where the ledger cannot be opened or no port is free.
pub async fn serve(desk: impl Service, ledger: &Path, parent: Parent) -> Result<()> {
    let ledger = Mutex::new(Ledger::open(ledger)?);
    let office = Arc::new(Office {
        desk: Box::new(desk),
        ledger,
        parent: parent.clone(),
    });
    let router = Router::new()
        .route("/act", post(act))
        .route("/look", post(look))
        .route("/acts/{key}", get(find))
        .with_state(office);
    serve_router(router, ANYWHERE, &parent).await
}

/// Serves a router at an address until the parent is gone; reports `ready URL`.
///
/// # Errors
/// Where the port is not free.
pub async fn serve_router(router: Router, address: &str, parent: &Parent) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    parent.say(&format!("ready http://{}", listener.local_addr()?));
    Ok(axum::serve(listener, router).await?)
}

async fn act(
    State(office): State<Arc<Office>>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Response {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let reference = request.reference.clone();
    let answer = match office.act(text(KEY), request) {
        Ok(answer) => answer,
        Err(problem) => return (StatusCode::UNPROCESSABLE_ENTITY, format!("{problem:#}")).into_response(),
    };
    match text(FAULT).as_deref() {
        Some("hold") => {
            office.parent.say(&format!("held {reference}"));
            std::future::pending().await
        }
        Some("lose") => lost(),
        _ => Json(answer).into_response(),
    }
}

async fn look(State(office): State<Arc<Office>>, Json(request): Json<Request>) -> Response {
    looked(&*office.desk, &request)
}

/// An answer that breaks off.
pub(crate) fn lost() -> Response {
    let broken = async { Err::<Vec<u8>, _>(std::io::Error::other("the answer is lost, as commanded")) };
    Body::from_stream(futures::stream::once(broken)).into_response()
}

/// The answer of a service to a request that changes nothing.
pub(crate) fn looked(desk: &dyn Service, request: &Request) -> Response {
    match desk.answer(request) {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response(),
    }
}

async fn find(State(office): State<Arc<Office>>, UrlPath(key): UrlPath<String>) -> Response {
    let ledger = office.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.of_key(&key).map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |line| Json(line).into_response(),
    )
}

impl Office {
    /// Acts once for each key; a repeated key gets the first answer.
    fn act(&self, key: Option<String>, request: Request) -> Result<Value> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = key.as_deref().and_then(|key| ledger.of_key(key)) {
            if (&line.operation, &line.content) != (&request.operation, &request.content) {
                bail!("key {} was used for another act", key.unwrap_or_default());
            }
            return Ok(line.answer.clone());
        }
        let answer = self.desk.answer(&request).map_err(anyhow::Error::msg)?;
        let Request {
            reference,
            operation,
            content,
        } = request;
        let line = Line {
            n: 0,
            key,
            reference,
            operation,
            content,
            answer,
        };
        Ok(ledger.append(line)?.answer.clone())
    }
}

/// A caller of an upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    http: reqwest::Client,
    url: String,
    timeout: Option<Duration>,
}

impl Upstream {
    /// The upstream at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            http: crate::http::client(),
            url: url.to_owned(),
            timeout: None,
        }
    }

    /// The answer to an act that takes longer than this counts as lost.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Requests an act.
    ///
    /// # Errors
    /// Where the upstream refuses, or its answer is lost and it is unknown whether it acted.
    pub async fn act(&self, request: &Request, key: Option<&str>, fault: Option<Fault>) -> Result<Value> {
        let mut call = self.http.post(format!("{}/act", self.url)).json(request);
        if let Some(key) = key {
            call = call.header(KEY, key);
        }
        if let Some(fault) = fault {
            call = call.header(FAULT, fault.word());
        }
        if let Some(timeout) = self.timeout {
            call = call.timeout(timeout);
        }
        answer(call).await
    }

    /// Asks without changing anything.
    ///
    /// # Errors
    /// Where the upstream refuses or cannot be reached.
    pub async fn look(&self, request: &Request) -> Result<Value> {
        answer(self.http.post(format!("{}/look", self.url)).json(request)).await
    }

    /// What was done under a key.
    ///
    /// # Errors
    /// Where the upstream cannot be reached.
    pub async fn find(&self, key: &str) -> Result<Option<Line>> {
        let response = self.http.get(format!("{}/acts/{key}", self.url)).send().await?;
        if response.status() == StatusCode::NOT_FOUND.as_u16() {
            return Ok(None);
        }
        Ok(Some(response.error_for_status()?.json().await?))
    }
}

async fn answer(call: reqwest::RequestBuilder) -> Result<Value> {
    let response = call.send().await.context("the upstream does not answer")?;
    if response.status().is_success() {
        return response.json().await.context("the upstream's answer is lost");
    }
    bail!("the upstream refuses: {}", response.text().await?)
}
