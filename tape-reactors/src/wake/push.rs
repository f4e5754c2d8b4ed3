//! An endpoint that Pub/Sub pushes to.

use super::Wake;
use super::acknowledged::Acknowledged;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tape_core::outage::Outage;
use tape_environment::Environment;
use tape_identity::{Identity, Refusal, Verifier};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// The longest body: a message of Pub/Sub has 10 MB at most, which are a third more in base64, beside its attributes.
const BODY_BYTES_MAX: usize = 14 * 1024 * 1024;

/// Most bodies that are read at a time, all of them of callers whose token is good.
const BODIES_MAX: usize = 4;

/// The longest time to read a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest id of a message. Those of Pub/Sub are numbers of up to 20 digits.
const MESSAGE_ID_BYTES_MAX: usize = 256;

/// The header that has the id of a message that is pushed unwrapped.
const MESSAGE_ID: &str = "x-goog-pubsub-message-id";

/// How often the log repeats that requests are refused, or that messages are not read.
const AGAIN: Duration = Duration::from_secs(60);

/// An endpoint that Pub/Sub pushes to: each message is a hint ([`Wake`]). Cheap to clone.
///
/// A request has to have a token that the verifier takes (`Authorization: Bearer`), or it is refused and does nothing: with 401, with 403
/// if the token is good and of another account, and with 503 while the issuer's keys are unknown. What a message says is not read. It is
/// acknowledged whatever it is, so that no message is sent for ever:
///
/// - 204: it was a hint.
/// - 200: it was none. The same message came under the same token before, or it has no id: the body is neither the JSON object of a push
///   subscription nor is the header `x-goog-pubsub-message-id` there (payload unwrapping with metadata).
///
/// After `stop` it answers 503, so that Pub/Sub sends the message to another process.
#[derive(Clone, Debug)]
pub struct PushEndpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wake: Wake,
    verifier: Verifier,
    environment: Arc<dyn Environment>,
    stop: CancellationToken,
    bodies: Semaphore,
    acknowledged: Mutex<Acknowledged>,
    counts: Mutex<Counted>,
}

/// How many requests came since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushCounts {
    /// Messages that were hints.
    pub hints: u64,
    /// Messages that came before, under the same token.
    pub repeated: u64,
    /// Requests with a good token that had no message.
    pub malformed: u64,
    /// Requests without a good token.
    pub refused: u64,
}

#[derive(Debug)]
struct Counted {
    counts: PushCounts,
    malformed: Outage,
    refused: Outage,
}

/// The body of a push that is wrapped.
#[derive(Deserialize)]
struct Wrapped {
    message: Message,
}

/// Pub/Sub writes the id under both names.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "messageId")]
    id: Option<String>,
    #[serde(rename = "message_id")]
    id_too: Option<String>,
}

impl PushEndpoint {
    /// An endpoint that wakes by each message of callers that `verifier` takes, until `stop`.
    #[must_use]
    pub fn new(
        wake: Wake,
        verifier: Verifier,
        environment: Arc<dyn Environment>,
        stop: CancellationToken,
    ) -> Self {
        let counts = Mutex::new(Counted {
            counts: PushCounts::default(),
            malformed: Outage::new(AGAIN),
            refused: Outage::new(AGAIN),
        });
        Self(Arc::new(Inner {
            wake,
            verifier,
            environment,
            stop,
            bodies: Semaphore::new(BODIES_MAX),
            acknowledged: Mutex::default(),
            counts,
        }))
    }

    /// It answers `POST /wake`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/wake", post(pushed))
            .with_state(self.clone())
    }

    /// How many requests came.
    #[must_use]
    pub fn counts(&self) -> PushCounts {
        self.counted().counts
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on a message once.
    fn take(&self, token: &str, identity: &Identity, id: &str) -> Response {
        let now = self.0.environment.wall();
        let acknowledged = self.0.acknowledged.lock();
        let mut acknowledged = acknowledged.unwrap_or_else(PoisonError::into_inner);
        if acknowledged.note(token, identity.expires, id, now) {
            self.0.wake.hint();
            self.counted().counts.hints += 1;
            return StatusCode::NO_CONTENT.into_response();
        }
        self.counted().counts.repeated += 1;
        (StatusCode::OK, "not acted on: the message came before\n").into_response()
    }

    fn refuse(&self, refusal: Option<&Refusal>) -> Response {
        let why = refusal.map_or_else(|| "no token is shown".to_owned(), ToString::to_string);
        let mut counted = self.counted();
        counted.counts.refused += 1;
        if let Some(spell) = counted.refused.lost(Instant::now().into_std(), &why) {
            warn!(why, %spell, "a push is refused");
        }
        let status = refusal.map_or(StatusCode::UNAUTHORIZED, status);
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        (status, challenge, format!("{why}\n")).into_response()
    }

    fn malformed(&self, why: &'static str) -> Response {
        let mut counted = self.counted();
        counted.counts.malformed += 1;
        if let Some(spell) = counted.malformed.lost(Instant::now().into_std(), why) {
            warn!(why, %spell, "what was pushed is acknowledged and not acted on");
        }
        (StatusCode::OK, format!("not acted on: {why}\n")).into_response()
    }
}

async fn pushed(State(endpoint): State<PushEndpoint>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // The token comes first: a caller without one has no body read.
    let Some(token) = bearer(&head.headers) else {
        return endpoint.refuse(None);
    };
    let identity = match endpoint.0.verifier.verify(token).await {
        Ok(identity) => identity,
        Err(refusal) => return endpoint.refuse(Some(&refusal)),
    };
    let _place = endpoint.0.bodies.acquire().await;
    let body = match tokio::time::timeout(BODY_TIMEOUT, read(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(status)) => return status.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    if endpoint.0.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match message_id(&head.headers, &body) {
        Ok(id) => endpoint.take(token, &identity, &id),
        Err(why) => endpoint.malformed(why),
    }
}

const fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Account | Refusal::EmailNotVerified => StatusCode::FORBIDDEN,
        // Nothing is known of the token: Pub/Sub tries again.
        Refusal::KeysUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNAUTHORIZED,
    }
}

/// The token that the only header for it has.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

async fn read(body: Body) -> Result<Bytes, StatusCode> {
    // A body that broke off has no reader of the answer.
    to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
}

/// The id of the pushed message, or why there is none.
fn message_id(headers: &HeaderMap, body: &[u8]) -> Result<String, &'static str> {
    let id = match headers.get(MESSAGE_ID) {
        Some(id) => id
            .to_str()
            .map_err(|_| "the id of the message is no text")?
            .to_owned(),
        None => wrapped_id(body)?,
    };
    if id.is_empty() || id.len() > MESSAGE_ID_BYTES_MAX {
        return Err("the id of the message is empty or too long");
    }
    Ok(id)
}

fn wrapped_id(body: &[u8]) -> Result<String, &'static str> {
    let wrapped = serde_json::from_slice::<Wrapped>(body);
    let Message { id, id_too } = wrapped.map_err(|_| "it is no message of Pub/Sub")?.message;
    id.or(id_too).ok_or("the message has no id")
}
