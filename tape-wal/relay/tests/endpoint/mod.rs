//! An HTTP endpoint that takes webhooks, on a free port of this machine.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use tape_environment::machine;
use tape_relay::conformance::{Fault, Received};
use tape_relay::sinks::webhook::{Webhook, WebhookSettings};
use tokio::task::JoinHandle;

/// A secret of the tests.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What the endpoint answers to a request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn with_body(self, body: impl Into<String>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap();
        let mut response = (status, self.body).into_response();
        for (name, value) in self.headers {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_str(&value).unwrap());
        }
        response
    }
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    taken: Vec<Received>,
    fault: Fault,
    /// Answers to the next requests, whatever the fault.
    scripted: VecDeque<Answer>,
}

/// The endpoint; it ends with this value.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
    server: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=hidden", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let app = Router::new().fallback(take).with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen, server }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub(crate) fn settings(&self) -> WebhookSettings {
        WebhookSettings::new(&self.url, vec![SECRET.parse().unwrap()], false).unwrap()
    }

    pub(crate) fn webhook(&self) -> Webhook {
        Webhook::new(self.settings(), machine()).unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen().requests.clone()
    }

    pub(crate) fn taken(&self) -> Vec<Received> {
        self.seen().taken.clone()
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.seen().fault = fault;
    }

    pub(crate) fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.seen().scripted.extend(answers);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut seen = seen.lock().unwrap();
    let one = Received::from_json(&body);
    seen.requests.push(Request {
        path: uri.path().to_owned(),
        headers,
        body,
    });
    let answer = seen.scripted.pop_front().unwrap_or_else(|| {
        Answer::status(match &seen.fault {
            Fault::Down => 503,
            Fault::FailsAt(id) if *id == one.id => 500,
            Fault::Refuses(id) if *id == one.id => 422,
            Fault::Gone => 410,
            Fault::None | Fault::FailsAt(_) | Fault::Refuses(_) => 204,
        })
    });
    if (200..300).contains(&answer.status) {
        seen.taken.push(one);
    }
    answer.into_response()
}
