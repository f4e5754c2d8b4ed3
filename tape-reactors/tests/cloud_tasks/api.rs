//! The calls of the API.

use super::queue::{Call, Refusal, Task};
use super::{Fault, QUEUE, Shared, read_time, write_time};
use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const HERE: &str = "/v2/projects/{project}/locations/{location}/queues/{queue}/tasks";

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(HERE, post(create))
        .route(&format!("{HERE}/{{task}}"), get(show).delete(delete))
        .route("/keys", get(keys))
        .with_state(shared)
}

#[derive(Deserialize)]
struct Creation {
    task: Wanted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default)]
    name: String,
    schedule_time: Option<google_cloud_wkt::Timestamp>,
    http_request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
    oidc_token: Option<Oidc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Oidc {
    service_account_email: String,
    #[serde(default)]
    audience: String,
}

type Place = Path<(String, String, String)>;
type TaskPlace = Path<(String, String, String, String)>;

fn named(project: &str, location: &str, queue: &str) -> String {
    format!("projects/{project}/locations/{location}/queues/{queue}")
}

async fn create(
    State(shared): State<Arc<Shared>>,
    Path((project, location, queue)): Place,
    Json(wanted): Json<Creation>,
) -> Response {
    let (answer, is_held) = created(&shared, &named(&project, &location, &queue), wanted.task);
    if is_held {
        std::future::pending::<()>().await;
    }
    answer
}

/// The answer to a creation, and whether it is never sent.
fn created(shared: &Shared, parent: &str, wanted: Wanted) -> (Response, bool) {
    let mut state = shared.state();
    let fault = state.faults.pop_front();
    match fault {
        Some(Fault::LoseRequest) => return (broken(), false),
        Some(Fault::Refuse(status, code)) => {
            shared.note(&mut state, Call::Refused { status: code });
            return (refuse((status, code, "as told".to_owned())), false);
        }
        Some(Fault::LoseAnswer | Fault::HoldAnswer) | None => {}
    }
    let now = shared.clock.wall();
    let (name, task) = read(wanted, parent, now);
    let created = if parent == QUEUE {
        state.queue.create(&name, task.clone(), now)
    } else {
        Err((404, "NOT_FOUND", "Queue does not exist.".to_owned()))
    };
    let call = match &created {
        Ok(()) => Call::Created {
            name: name.clone(),
            at: task.at,
        },
        Err((409, ..)) => Call::Named { name: name.clone() },
        Err((_, status, _)) => Call::Refused { status },
    };
    shared.note(&mut state, call);
    shared.changed.notify_one();
    let answer = match created {
        Ok(()) if fault == Some(Fault::LoseAnswer) => broken(),
        Ok(()) => Json(shown(&name, &task)).into_response(),
        Err(refusal) => refuse(refusal),
    };
    (answer, fault == Some(Fault::HoldAnswer))
}

/// The keys that tokens are signed with, as the issuer publishes them.
async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(tape_identity::testing::jwks(&[&shared.issuer]))
}

async fn show(State(shared): State<Arc<Shared>>, Path((_, _, _, name)): TaskPlace) -> Response {
    let mut state = shared.state();
    match state.queue.tasks.get(&name) {
        Some(task) => Json(shown(&name, task)).into_response(),
        None => missing(&shared, &mut state, name),
    }
}

async fn delete(State(shared): State<Arc<Shared>>, Path((_, _, _, name)): TaskPlace) -> Response {
    let mut state = shared.state();
    match state.queue.end(&name, shared.clock.wall()) {
        Some(_) => {
            shared.note(&mut state, Call::Deleted { name });
            Json(json!({})).into_response()
        }
        None => missing(&shared, &mut state, name),
    }
}

fn missing(shared: &Shared, state: &mut super::State, name: String) -> Response {
    shared.note(state, Call::Missing { name });
    refuse((404, "NOT_FOUND", "The task does not exist.".to_owned()))
}

/// The name within the queue, and the task. One without a name gets one; one whose time is over is due now.
fn read(wanted: Wanted, parent: &str, now: tape_core::time::Timestamp) -> (String, Task) {
    let name = match wanted.name.strip_prefix(&format!("{parent}/tasks/")) {
        Some(name) => name.to_owned(),
        None if wanted.name.is_empty() => format!("unnamed-{}", now.as_micros()),
        // Of another queue: no name within this one.
        None => String::new(),
    };
    let request = wanted.http_request;
    let identity = request.oidc_token.map(|token| {
        let audience = Some(token.audience).filter(|audience| !audience.is_empty());
        (
            token.service_account_email,
            audience.unwrap_or_else(|| request.url.clone()),
        )
    });
    let task = Task {
        at: wanted.schedule_time.as_ref().map_or(now, read_time).max(now),
        created: now,
        url: request.url,
        headers: request.headers,
        body: STANDARD.decode(request.body).unwrap(),
        identity,
        deliveries: 0,
        answers: 0,
        under_way: false,
    };
    (name, task)
}

fn shown(name: &str, task: &Task) -> Value {
    json!({
        "name": format!("{QUEUE}/tasks/{name}"),
        "scheduleTime": write_time(task.at),
        "createTime": write_time(task.created),
        "dispatchCount": task.deliveries,
        "responseCount": task.answers,
        "httpRequest": {"url": task.url},
    })
}

fn refuse((status, code, message): Refusal) -> Response {
    let error = json!({"error": {"code": status, "status": code, "message": message}});
    (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
}

/// An answer that breaks off.
fn broken() -> Response {
    let broken = async { Err::<Vec<u8>, _>(std::io::Error::other("as told")) };
    Body::from_stream(futures::stream::once(broken)).into_response()
}
