//! A typical upstream: it ignores idempotency keys and acts at each request. It loses some of its answers, and delays others until their
//! callers no longer wait. Only the caller's own name for an act finds its outcome. It keeps a [`Ledger`] of its acts.
//!
//! Workers reach it through an HTTP connector; an agent without workers may call it as it calls any [`upstream`](crate::upstream). By a
//! plan it holds calls, so that a process can be killed in the middle of them.

use crate::ledger::{Ledger, Line};
use crate::parent::Parent;
use crate::seed::Seed;
use crate::stops::{Point, Victim};
use crate::upstream::{FAULT, Request, Service, looked, lost, serve_router};
use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Json, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The header with the number of the calling worker.
pub const WORKER: &str = "worker";
/// The header that says in which of its books it found the act.
pub const BOOKS: &str = "airline-books";
/// The operation that undoes an act, at each request.
pub const UNDO: &str = "undo";
/// The word to the parent where a call is held, before a [`Held`] in JSON.
pub const HOLDS: &str = "holds";
/// The word of the parent, before the act's reference, that releases a held call.
pub const GO: &str = "go";

/// How many of a hundred answers are lost.
const LOST: usize = 12;
/// How many of a hundred answers come too late.
const LATE: usize = 12;
/// How long after the first question about an act that is not in its books it is sure that no request for the act is under way.
const SETTLED: Duration = Duration::from_secs(1);

/// A call to hold, and its victim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The act.
    pub reference: String,
    /// The moment: before the act, before its answer, or during a question about it.
    pub point: Point,
    /// The process that is killed meanwhile.
    pub victim: Victim,
}

/// A held call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The plan of the hold.
    pub hold: Hold,
    /// The worker that calls.
    pub worker: usize,
}

/// How the upstream behaves.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// The seed for which answers are lost and which come late.
    pub seed: u64,
    /// An answer after this time is too late for its caller.
    pub timeout: Duration,
    /// The calls to hold.
    pub holds: Vec<Hold>,
}

struct Office {
    desk: Box<dyn Service>,
    ledger: Mutex<Ledger>,
    parent: Parent,
    seed: u64,
    late: Duration,
    traffic: Mutex<Traffic>,
}

/// The state of calls.
#[derive(Default)]
struct Traffic {
    /// Calls that are still to be held.
    holds: HashMap<(String, Point), VecDeque<Victim>>,
    /// Held calls that can be released.
    held: HashMap<String, oneshot::Sender<()>>,
    /// How often an answer was due to each act so far.
    answers: HashMap<String, u64>,
    /// Requests to act that are neither answered nor abandoned.
    inside: HashMap<String, usize>,
    /// The time of the first question about each act that is not in the books.
    asked: HashMap<String, Instant>,
}

/// The fate of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Given,
    Lost,
    Late,
}

/// Serves an upstream at an address until the parent is gone; reports `ready URL`.
///
/// # Errors
/// Where the ledger cannot be opened or the port is not free.
pub async fn serve(
    desk: impl Service,
    ledger: &Path,
    address: &str,
    conduct: Conduct,
    parent: Parent,
) -> Result<()> {
    let mut traffic = Traffic::default();
    for Hold {
        reference,
        point,
        victim,
    } in conduct.holds
    {
        let queue = traffic.holds.entry((reference, point)).or_default();
        queue.push_back(victim);
    }
    let office = Arc::new(Office {
        desk: Box::new(desk),
        ledger: Mutex::new(Ledger::open(ledger)?),
        parent: parent.clone(),
        seed: conduct.seed,
        late: conduct.timeout + conduct.timeout / 2,
        traffic: Mutex::new(traffic),
    });
    tokio::spawn(Arc::clone(&office).obey());
    let router = Router::new()
        .route("/act", post(act))
        .route("/act/{operation}/{reference}", post(dispatched))
        .route("/acts/{reference}", get(find))
        .route("/undo", post(undo))
        .route("/undone/{reference}", get(undone))
        .route("/look", post(look))
        .with_state(office);
    serve_router(router, address, &parent).await
}

/// A request of an agent that calls directly.
async fn act(
    State(office): State<Arc<Office>>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Response {
    let reference = request.reference.clone();
    let answer = match office.act(request) {
        Ok(answer) => answer,
        Err(problem) => return refused(&problem),
    };
    if headers.contains_key(FAULT) {
        office.parent.say(&format!("held {reference}"));
        return std::future::pending().await;
    }
    office.answer(&reference, answer).await
}

/// A request of a worker.
async fn dispatched(
    State(office): State<Arc<Office>>,
    UrlPath((operation, reference)): UrlPath<(String, String)>,
    headers: HeaderMap,
    Json(content): Json<Value>,
) -> Response {
    let _inside = Inside::enter(&office, &reference);
    let worker = worker(&headers);
    office.pass(&reference, Point::BeforeCall, worker).await;
    let request = Request {
        reference: reference.clone(),
        operation,
        content,
    };
    let answer = match office.act(request) {
        Ok(answer) => answer,
        Err(problem) => return refused(&problem),
    };
    office.pass(&reference, Point::BeforeAnswer, worker).await;
    office.answer(&reference, answer).await
}

/// The outcome of an act. For an act that was done several times, this is the first answer: the ledger has all of them.
async fn find(
    State(office): State<Arc<Office>>,
    UrlPath(reference): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    let worker = worker(&headers);
    office.pass(&reference, Point::Observing, worker).await;
    match office.done(&reference) {
        Some(answer) => {
            // A caller that was held before the answer may have given up or died before all planned kills took place.
            office.pass(&reference, Point::BeforeAnswer, worker).await;
            ([(BOOKS, "acts")], Json(answer)).into_response()
        }
        None => office.absent(&reference, "acts"),
    }
}

#[derive(Deserialize)]
struct Undo {
    /// The reference of the act.
    of: String,
}

async fn undo(State(office): State<Arc<Office>>, Json(Undo { of }): Json<Undo>) -> Response {
    match office.undo(&of) {
        Ok(answer) => office.answer(&of, answer).await,
        Err(problem) => refused(&problem),
    }
}

/// Whether an act was undone.
async fn undone(State(office): State<Arc<Office>>, UrlPath(of): UrlPath<String>) -> Response {
    match office.undone(&of) {
        Some(answer) => ([(BOOKS, "undos")], Json(answer)).into_response(),
        None => office.absent(&format!("{UNDO} of {of}"), "undos"),
    }
}

async fn look(State(office): State<Arc<Office>>, Json(request): Json<Request>) -> Response {
    looked(&*office.desk, &request)
}

fn worker(headers: &HeaderMap) -> usize {
    let name = headers.get(WORKER).and_then(|name| name.to_str().ok());
    name.and_then(|name| name.parse().ok()).unwrap_or_default()
}

fn refused(problem: &anyhow::Error) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, format!("{problem:#}")).into_response()
}

impl Office {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts, regardless of earlier acts.
    fn act(&self, request: Request) -> Result<Value> {
        let mut ledger = self.ledger();
        let answer = self.desk.answer(&request).map_err(anyhow::Error::msg)?;
        Ok(ledger.append(line(request, answer))?.answer.clone())
    }

    /// Undoes an act, regardless of earlier undos.
    fn undo(&self, reference: &str) -> Result<Value> {
        let mut ledger = self.ledger();
        let act = ledger
            .of_reference(reference)
            .next()
            .with_context(|| format!("{reference} was never done"))?;
        let (content, answer) = (json!({ "act": act.n }), json!({ "undone": act.n }));
        let request = Request {
            reference: reference.to_owned(),
            operation: UNDO.to_owned(),
            content,
        };
        Ok(ledger.append(line(request, answer))?.answer.clone())
    }

    fn done(&self, reference: &str) -> Option<Value> {
        let ledger = self.ledger();
        ledger
            .of_reference(reference)
            .next()
            .map(|line| line.answer.clone())
    }

    fn undone(&self, reference: &str) -> Option<Value> {
        let ledger = self.ledger();
        let mut lines = ledger.of_reference(reference);
        lines
            .find(|line| line.operation == UNDO)
            .map(|line| line.answer.clone())
    }

    /// Answers that nothing is in the books, once it is sure that no request is under way.
    fn absent(&self, what: &str, counted: &str) -> Response {
        if self.is_settled(what) {
            return (StatusCode::NOT_FOUND, Json(json!({ counted: 0 }))).into_response();
        }
        let kind = [(header::CONTENT_TYPE, "application/vnd.tape.answer+json")];
        let why = "a request may still be on its way";
        (kind, json!({ "inconclusive": { "why": why } }).to_string()).into_response()
    }

    /// Whether it is sure that no request for an act is still under way.
    fn is_settled(&self, reference: &str) -> bool {
        let mut traffic = self.traffic();
        let asked = *traffic
            .asked
            .entry(reference.to_owned())
            .or_insert_with(Instant::now);
        asked.elapsed() >= SETTLED && !traffic.inside.contains_key(reference)
    }

    /// Answers, or fails to.
    async fn answer(&self, reference: &str, answer: Value) -> Response {
        match self.fate(reference) {
            Answer::Lost => return lost(),
            Answer::Late => tokio::time::sleep(self.late).await,
            Answer::Given => {}
        }
        Json(answer).into_response()
    }

    fn fate(&self, reference: &str) -> Answer {
        let mut traffic = self.traffic();
        let answers = traffic.answers.entry(reference.to_owned()).or_default();
        *answers += 1;
        let text = format!("{reference} {answers}");
        match Seed::of_text(self.seed, &text).below(100) {
            n if n < LOST => Answer::Lost,
            n if n < LOST + LATE => Answer::Late,
            _ => Answer::Given,
        }
    }

    /// Holds a call where that is planned, until the parent releases it, if it ever does.
    async fn pass(&self, reference: &str, point: Point, worker: usize) {
        while let Some((victim, go)) = self.hold(reference, point) {
            let hold = Hold {
                reference: reference.to_owned(),
                point,
                victim,
            };
            let held = serde_json::to_string(&Held { hold, worker }).expect("it has a JSON form");
            self.parent.say(&format!("{HOLDS} {held}"));
            if go.await.is_err() {
                // Another request for the act is held now.
                std::future::pending::<()>().await;
            }
        }
    }

    fn hold(&self, reference: &str, point: Point) -> Option<(Victim, oneshot::Receiver<()>)> {
        let mut traffic = self.traffic();
        let left = traffic.holds.get_mut(&(reference.to_owned(), point))?;
        let victim = left.pop_front()?;
        let (tell, go) = oneshot::channel();
        traffic.held.insert(reference.to_owned(), tell);
        Some((victim, go))
    }

    async fn obey(self: Arc<Self>) {
        loop {
            let command = self.parent.command().await;
            let reference = command.strip_prefix(GO).and_then(|rest| rest.strip_prefix(' '));
            let held = reference.and_then(|reference| self.traffic().held.remove(reference));
            if let Some(go) = held {
                // The held caller may have given up.
                let _ = go.send(());
            }
        }
    }
}

fn line(request: Request, answer: Value) -> Line {
    let Request {
        reference,
        operation,
        content,
    } = request;
    Line {
        n: 0,
        key: None,
        reference,
        operation,
        content,
        answer,
    }
}

/// A request to act that has arrived, until it is answered or its caller is gone.
struct Inside<'a> {
    office: &'a Office,
    reference: String,
}

impl<'a> Inside<'a> {
    fn enter(office: &'a Office, reference: &str) -> Self {
        *office.traffic().inside.entry(reference.to_owned()).or_default() += 1;
        Self {
            office,
            reference: reference.to_owned(),
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut traffic = self.office.traffic();
        if let Some(inside) = traffic.inside.get_mut(&self.reference) {
            *inside -= 1;
            if *inside == 0 {
                traffic.inside.remove(&self.reference);
            }
        }
    }
}
