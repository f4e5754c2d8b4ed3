//! A proxy between a store and Spanner: it counts requests and the rows that they return, and makes commits lost, late or unanswered.

#![allow(dead_code, reason = "each test file needs some of it")]

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Failed>>;

/// What happens to a commit.
pub(crate) enum Fault {
    /// It is executed; the answer says that the service is unavailable.
    AnswerLost,
    /// The answer says that the service is unavailable; the commit is executed once the test says so.
    Late(Late),
}

/// A commit that is under way while its sender has given up.
pub(crate) struct Late {
    go: oneshot::Receiver<()>,
    done: oneshot::Sender<String>,
}

/// Lets the late commit arrive, and says with which status it ended.
pub(crate) struct Arrival {
    go: oneshot::Sender<()>,
    done: oneshot::Receiver<String>,
}

impl Arrival {
    pub(crate) async fn status(self) -> String {
        self.go.send(()).unwrap();
        self.done.await.unwrap()
    }
}

pub(crate) fn late() -> (Late, Arrival) {
    let (go, come) = oneshot::channel();
    let (done, status) = oneshot::channel();
    (Late { go: come, done }, Arrival { go, done: status })
}

pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

/// A read by keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) table: String,
    /// The limit on its rows; zero where it had none.
    pub(crate) limit: i64,
    pub(crate) rows: usize,
}

#[derive(Default)]
struct State {
    reads: Mutex<Vec<Read>>,
    counts: Mutex<BTreeMap<String, usize>>,
    plan: Mutex<VecDeque<Fault>>,
    /// One commit in this many waits until as many more requests have arrived.
    slow: AtomicUsize,
    commits: AtomicUsize,
    requests: watch::Sender<usize>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Wire {
    pub(crate) async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&state)));
        Self {
            port,
            state,
            accepting,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The requests since the last call, by method.
    pub(crate) fn counts(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut *self.state.counts.lock().unwrap())
            .into_iter()
            .collect()
    }

    /// The reads since the last call that were answered.
    pub(crate) fn reads(&self) -> Vec<Read> {
        std::mem::take(&mut *self.state.reads.lock().unwrap())
    }

    /// What happens to the next commit that nothing was planned for.
    pub(crate) fn plan(&self, fault: Fault) {
        self.state.plan.lock().unwrap().push_back(fault);
    }

    /// From now on one commit in `every` waits until as many more requests have arrived.
    pub(crate) fn slow(&self, every: usize) {
        self.state.slow.store(every, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, upstream: u16, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        // Otherwise small messages wait for each other's acknowledgements, some forty milliseconds each.
        client.set_nodelay(true).unwrap();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
            server.set_nodelay(true).unwrap();
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(server))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let service = service_fn(|request| serve(request, sender.clone(), Arc::clone(&state)));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // It ends with the client.
            let _ = builder.serve_connection(TokioIo::new(client), service).await;
        });
    }
}

async fn serve(
    request: Request<Incoming>,
    upstream: SendRequest<Full<Bytes>>,
    state: Arc<State>,
) -> Result<Answer, Failed> {
    let method = request
        .uri()
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (is_commit, is_read) = (method == "Commit", method == "StreamingRead");
    *state.counts.lock().unwrap().entry(method).or_default() += 1;
    state.requests.send_modify(|requests| *requests += 1);
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
    if is_read {
        return read(request, upstream, &state).await;
    }
    if !is_commit {
        return pass(request, upstream).await;
    }
    dawdle(&state).await;
    let fault = state.plan.lock().unwrap().pop_front();
    match fault {
        None => pass(request, upstream).await,
        Some(Fault::AnswerLost) => {
            status(request, upstream).await?;
            out_of_reach()
        }
        Some(Fault::Late(late)) => {
            tokio::spawn(async move {
                late.go.await.unwrap();
                late.done.send(status(request, upstream).await.unwrap()).unwrap();
            });
            out_of_reach()
        }
    }
}

async fn dawdle(state: &State) {
    let (every, n) = (
        state.slow.load(Ordering::SeqCst),
        state.commits.fetch_add(1, Ordering::SeqCst),
    );
    if every > 0 && n % every == 0 {
        let mut requests = state.requests.subscribe();
        let until = *requests.borrow() + every;
        requests.wait_for(|requests| *requests >= until).await.unwrap();
    }
}

async fn pass(
    request: Request<Full<Bytes>>,
    mut upstream: SendRequest<Full<Bytes>>,
) -> Result<Answer, Failed> {
    let boxed = |body: Incoming| body.map_err(Failed::from).boxed_unsync();
    Ok(upstream.send_request(request).await?.map(boxed))
}

/// Passes a read on, and records how many rows were returned.
async fn read(
    request: Request<Full<Bytes>>,
    mut upstream: SendRequest<Full<Bytes>>,
    state: &State,
) -> Result<Answer, Failed> {
    let asked = request.body().clone().collect().await?.to_bytes();
    let asked = messages::<ReadRequest>(asked)?.remove(0);
    let (head, body) = upstream.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    state.reads.lock().unwrap().push(Read {
        table: asked.table,
        limit: asked.limit,
        rows: rows(&messages(body.clone())?),
    });
    let body = Full::new(body).with_trailers(async { trailers.map(Ok) });
    Ok(Response::from_parts(
        head,
        body.map_err(|never| match never {}).boxed_unsync(),
    ))
}

/// The messages of a body of gRPC: each has a byte before it that says whether it is compressed, and its length.
fn messages<M: Message + Default>(mut body: Bytes) -> Result<Vec<M>, Failed> {
    let mut messages = Vec::new();
    while let Some(([0, length @ ..], _)) = body.split_first_chunk::<5>() {
        let end = 5 + u32::from_be_bytes(*length) as usize;
        messages.push(M::decode(body.split_to(end).slice(5..))?);
    }
    assert!(body.is_empty(), "nothing is compressed");
    Ok(messages)
}

/// A value that is cut in two stands at the end of one part and at the beginning of the next.
fn rows(parts: &[PartialResultSet]) -> usize {
    let columns = parts
        .iter()
        .find_map(|part| part.metadata.as_ref()?.row_type.as_ref());
    let columns = columns.map_or(0, |row| row.fields.len());
    let values: usize = parts.iter().map(|part| part.values.len()).sum();
    let cut = parts.iter().filter(|part| part.chunked_value).count();
    (values - cut).checked_div(columns).unwrap_or_default()
}

/// The part of `google.spanner.v1.ReadRequest` that matters here.
#[derive(Clone, PartialEq, Message)]
struct ReadRequest {
    #[prost(string, tag = "3")]
    table: String,
    #[prost(int64, tag = "8")]
    limit: i64,
}

/// The part of `google.spanner.v1.PartialResultSet` that matters here: the number of values.
#[derive(Clone, PartialEq, Message)]
struct PartialResultSet {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "2")]
    values: Vec<Something>,
    #[prost(bool, tag = "3")]
    chunked_value: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    row_type: Option<RowType>,
}

#[derive(Clone, PartialEq, Message)]
struct RowType {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Something>,
}

#[derive(Clone, PartialEq, Message)]
struct Something {}

/// Executes a request, and returns its gRPC status.
async fn status(
    request: Request<Full<Bytes>>,
    mut upstream: SendRequest<Full<Bytes>>,
) -> Result<String, Failed> {
    const STATUS: &str = "grpc-status";
    let response = upstream.send_request(request).await?;
    let early = response.headers().get(STATUS).cloned();
    let body = response.into_body().collect().await?;
    let status = early.or_else(|| body.trailers()?.get(STATUS).cloned());
    Ok(status.ok_or("it has no status")?.to_str()?.to_owned())
}

fn out_of_reach() -> Result<Answer, Failed> {
    const UNAVAILABLE: &str = "14";
    let answer = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", UNAVAILABLE);
    let nothing = Empty::new().map_err(|never| match never {});
    Ok(answer.body(nothing.boxed_unsync())?)
}
