//! What stands between a store and a gRPC service: counts requests, and makes commits lost, late or unanswered.

#![allow(dead_code, reason = "each test file needs some of it")]

use http_body_util::{BodyExt as _, Either, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<Either<Incoming, Empty<Bytes>>>;

/// What happens to a commit.
pub(crate) enum Fault {
    /// It is carried out; the answer says that the service is out of reach.
    AnswerLost,
    /// The answer says that the service is out of reach; it is carried out once the test says so.
    Late(Late),
}

/// A commit that is on its way while its sender has given up.
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

#[derive(Default)]
struct State {
    counts: Mutex<BTreeMap<String, usize>>,
    plan: Mutex<VecDeque<Fault>>,
    /// Each so-manieth commit waits until as many requests more have come.
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

    /// What happens to the next commit that nothing was planned for.
    pub(crate) fn plan(&self, fault: Fault) {
        self.state.plan.lock().unwrap().push_back(fault);
    }

    /// From now on each so-manieth commit waits until as many requests more have come.
    pub(crate) fn slow(&self, every: usize) {
        self.state.slow.store(every, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, upstream: u16, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
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
    let is_commit = method == "Commit";
    *state.counts.lock().unwrap().entry(method).or_default() += 1;
    state.requests.send_modify(|requests| *requests += 1);
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, Full::new(body.collect().await?.to_bytes()));
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
    Ok(upstream.send_request(request).await?.map(Either::Left))
}

/// Carries a request out, and says with which status of gRPC.
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
    Ok(answer.body(Either::Right(Empty::new()))?)
}
