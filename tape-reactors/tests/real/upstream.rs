//! An upstream in a process of its own. It acts on request and keeps a ledger of what it did, one line each, on disk before it
//! answers. The test sets whether it honours idempotency keys, and how it fails.

use crate::process::{Child, role, say};
use axum::body::Body;
use axum::extract::{Json, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// The fault for a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It acts, and never answers.
    Hold,
    /// It acts, and the answer breaks off.
    Lose,
    /// It does not act until it is released; then it acts and answers.
    Wait,
    /// It does not act, and answers this.
    Refuse { status: u16, retry_after: Option<u64> },
    /// It acts, and answers this.
    ActAndAnswer { status: u16 },
}

/// One act.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) business_key: Option<String>,
    pub(crate) operation: String,
    pub(crate) args: Value,
}

/// Its answers to observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Eyes {
    /// It answers by the ledger.
    Open,
    /// It answers that it cannot tell.
    Shut,
    /// It answers that there is nothing, with the status of a success.
    Denying,
}

struct Office {
    ledger: Mutex<Ledger>,
    heeds_keys: bool,
    faults: Mutex<VecDeque<Fault>>,
    eyes: Mutex<Eyes>,
    /// One answer in this many is lost; zero for none.
    lose_every: AtomicUsize,
    requests: AtomicUsize,
    /// How many requests are held or wait.
    held: watch::Sender<usize>,
    go: watch::Sender<usize>,
}

/// Its acts, in a file that outlives the process, with an index.
struct Ledger {
    file: std::fs::File,
    lines: usize,
    /// The number of the first act under each key.
    by_key: HashMap<String, usize>,
    by_business_key: HashMap<String, Vec<usize>>,
    /// The number of the first refund of each business act.
    refunds: HashMap<String, usize>,
}

/// The process.
#[test]
fn upstream() {
    let Some(path) = role("upstream::upstream") else {
        return;
    };
    let heeds_keys = std::env::var_os("UPSTREAM_HEEDS_KEYS").is_some();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(path.into(), heeds_keys));
}

async fn serve(path: PathBuf, heeds_keys: bool) {
    let office = Arc::new(Office {
        ledger: Mutex::new(Ledger::open(&path)),
        heeds_keys,
        faults: Mutex::default(),
        eyes: Mutex::new(Eyes::Open),
        lose_every: AtomicUsize::new(0),
        requests: AtomicUsize::new(0),
        held: watch::Sender::new(0),
        go: watch::Sender::new(0),
    });
    let router = axum::Router::new()
        .route("/act/{operation}", post(act))
        .route("/find/{business_key}", get(find))
        .route("/undone/{business_key}", get(undone))
        .route("/faults", post(script))
        .route("/eyes", post(eyes))
        .route("/lose_every", post(lose_every))
        .route("/held", get(held_so_far))
        .route("/held/{n}", get(held))
        .route("/beside", post(beside))
        .route("/go", post(go))
        .with_state(office);
    let address = std::env::var("UPSTREAM_LISTEN").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    say(&listener.local_addr().unwrap().to_string());
    axum::serve(listener, router).await.unwrap();
}

async fn act(
    State(office): State<Arc<Office>>,
    UrlPath(operation): UrlPath<String>,
    headers: HeaderMap,
    Json(args): Json<Value>,
) -> Response {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.map(str::to_owned)
    };
    let line = Line {
        key: header("idempotency-key").unwrap(),
        business_key: header("tape-business-key"),
        operation,
        args,
    };
    match office.fault() {
        Fault::None => answer(office.act(line)),
        Fault::Hold => {
            office.act(line);
            office.held.send_modify(|held| *held += 1);
            std::future::pending().await
        }
        Fault::Lose => {
            office.act(line);
            let broken = async { Err::<Vec<u8>, _>(std::io::Error::other("as told")) };
            Body::from_stream(futures::stream::once(broken)).into_response()
        }
        Fault::Wait => {
            let mut go = office.go.subscribe();
            office.held.send_modify(|held| *held += 1);
            go.changed().await.unwrap();
            answer(office.act(line))
        }
        Fault::Refuse { status, retry_after } => refuse(status, retry_after),
        Fault::ActAndAnswer { status } => {
            office.act(line);
            refuse(status, None)
        }
    }
}

fn answer(n: usize) -> Response {
    Json(json!({ "act": n })).into_response()
}

/// The answer for an act that was found; a header has its kind.
fn found(n: usize, kind: &'static str) -> Response {
    ([("upstream-found", kind)], answer(n)).into_response()
}

fn refuse(status: u16, retry_after: Option<u64>) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), Json("as told")).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The outcome of a business act. Where it was done several times, all but the first can be undone by their numbers.
async fn find(State(office): State<Arc<Office>>, UrlPath(business_key): UrlPath<String>) -> Response {
    if let Some(answer) = office.eyes() {
        return answer;
    }
    let ledger = office.ledger.lock().unwrap();
    let acts = ledger.by_business_key.get(&business_key);
    match acts.map_or(&[][..], Vec::as_slice)[..] {
        [] => (StatusCode::NOT_FOUND, Json(json!({"error": "no such act"}))).into_response(),
        [n] => found(n, "act"),
        [first, ref others @ ..] => {
            let undo = |act: &usize| json!({"operation": "take-back", "args": {"act": act}});
            let undo: Vec<Value> = others.iter().map(undo).collect();
            let duplicate = json!({"duplicate": {"result": {"act": first}, "undo_duplicates": undo}});
            let kind = [(header::CONTENT_TYPE, "application/vnd.tape.answer+json")];
            (kind, duplicate.to_string()).into_response()
        }
    }
}

/// Whether a business act was refunded.
async fn undone(State(office): State<Arc<Office>>, UrlPath(business_key): UrlPath<String>) -> Response {
    if let Some(answer) = office.eyes() {
        return answer;
    }
    match office.ledger.lock().unwrap().refunds.get(&business_key) {
        Some(n) => found(*n, "refund"),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "no such refund"}))).into_response(),
    }
}

async fn script(State(office): State<Arc<Office>>, Json(faults): Json<Vec<Fault>>) {
    office.faults.lock().unwrap().extend(faults);
}

async fn eyes(State(office): State<Arc<Office>>, Json(eyes): Json<Eyes>) {
    *office.eyes.lock().unwrap() = eyes;
}

async fn lose_every(State(office): State<Arc<Office>>, Json(every): Json<usize>) {
    office.lose_every.store(every, Ordering::Relaxed);
}

async fn held(State(office): State<Arc<Office>>, UrlPath(n): UrlPath<usize>) {
    let mut held = office.held.subscribe();
    held.wait_for(|held| *held >= n).await.unwrap();
}

async fn held_so_far(State(office): State<Arc<Office>>) -> Json<usize> {
    Json(*office.held.borrow())
}

async fn beside(State(office): State<Arc<Office>>, Json(business_key): Json<String>) {
    office.act(Line {
        key: "somebody else's".to_owned(),
        business_key: Some(business_key),
        operation: "pay".to_owned(),
        args: Value::Null,
    });
}

async fn go(State(office): State<Arc<Office>>) {
    office.go.send_modify(|go| *go += 1);
}

impl Office {
    fn fault(&self) -> Fault {
        if let Some(told) = self.faults.lock().unwrap().pop_front() {
            return told;
        }
        let n = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        match self.lose_every.load(Ordering::Relaxed) {
            0 => Fault::None,
            every if n.is_multiple_of(every) => Fault::Lose,
            _ => Fault::None,
        }
    }

    /// A fixed answer to observations, whatever the ledger says; none where the ledger decides.
    fn eyes(&self) -> Option<Response> {
        match *self.eyes.lock().unwrap() {
            Eyes::Open => None,
            Eyes::Shut => Some(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Eyes::Denying => {
                let no = json!({"success": false, "code": 404, "message": "no such transfer"});
                Some(Json(no).into_response())
            }
        }
    }

    /// Acts, unless it honours keys and has acted under this one. Returns the number of the act.
    fn act(&self, line: Line) -> usize {
        let mut ledger = self.ledger.lock().unwrap();
        let before = ledger.by_key.get(&line.key).copied();
        if let Some(number) = before.filter(|_| self.heeds_keys) {
            return number;
        }
        // Processes are killed here, not machines: written bytes stay.
        let mut text = serde_json::to_vec(&line).unwrap();
        text.push(b'\n');
        ledger.file.write_all(&text).unwrap();
        ledger.enter(line)
    }
}

impl Ledger {
    fn open(path: &Path) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let mut ledger = Self {
            file: file.unwrap(),
            lines: 0,
            by_key: HashMap::new(),
            by_business_key: HashMap::new(),
            refunds: HashMap::new(),
        };
        for line in read(path) {
            ledger.enter(line);
        }
        ledger
    }

    /// The number of an act.
    fn enter(&mut self, line: Line) -> usize {
        self.lines += 1;
        self.by_key.entry(line.key).or_insert(self.lines);
        if let Some(of) = line.args["of"].as_str().filter(|_| line.operation == "refund") {
            self.refunds.entry(of.to_owned()).or_insert(self.lines);
        }
        if let Some(key) = line.business_key {
            self.by_business_key.entry(key).or_default().push(self.lines);
        }
        self.lines
    }
}

fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A client of upstreams.
pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().timeout(Duration::from_secs(60));
    builder.build().unwrap()
}

/// The test's handle of an upstream. It can be killed and restarted at its address.
pub(crate) struct Upstream {
    child: Child,
    ledger: PathBuf,
    address: String,
    heeds_keys: bool,
    http: reqwest::Client,
}

impl Upstream {
    pub(crate) fn start(dir: &Path, heeds_keys: bool) -> Self {
        let ledger = dir.join("ledger");
        let (child, address) = launch(&ledger, heeds_keys, "127.0.0.1:0");
        Self {
            child,
            ledger,
            address,
            heeds_keys,
            http: http(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill();
    }

    pub(crate) fn come_back(&mut self) {
        (self.child, _) = launch(&self.ledger, self.heeds_keys, &self.address);
    }

    /// Its acts.
    pub(crate) fn ledger(&self) -> Vec<Line> {
        read(&self.ledger)
    }

    /// How often a business act was done.
    pub(crate) fn acts(&self, business_key: &str) -> usize {
        let of_it = |line: &&Line| line.business_key.as_deref() == Some(business_key);
        self.ledger().iter().filter(of_it).count()
    }

    /// The business acts that were refunded, in order.
    pub(crate) fn refunds(&self) -> Vec<String> {
        let ledger = self.ledger();
        let refunds = ledger.iter().filter(|line| line.operation == "refund");
        refunds
            .map(|line| line.args["of"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Sets the faults of the next requests, one after the other.
    pub(crate) async fn faults(&self, faults: &[Fault]) {
        self.tell("faults", &json!(faults)).await;
    }

    pub(crate) async fn eyes(&self, eyes: Eyes) {
        self.tell("eyes", &json!(eyes)).await;
    }

    /// Loses one of each `n` answers.
    pub(crate) async fn lose_every(&self, n: usize) {
        self.tell("lose_every", &json!(n)).await;
    }

    /// Waits until `n` requests in all were held or wait.
    pub(crate) async fn held(&self, n: usize) {
        let url = format!("{}/held/{n}", self.url());
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
    }

    /// How many requests were held or wait so far.
    pub(crate) async fn held_so_far(&self) -> usize {
        let url = format!("{}/held", self.url());
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// Acts for another caller under a business key.
    pub(crate) async fn act_beside(&self, business_key: &str) {
        self.tell("beside", &json!(business_key)).await;
    }

    /// Releases waiting requests.
    pub(crate) async fn go(&self) {
        self.tell("go", &json!(null)).await;
    }

    async fn tell(&self, path: &str, what: &Value) {
        let request = self.http.post(format!("{}/{path}", self.url())).json(what);
        request.send().await.unwrap().error_for_status().unwrap();
    }
}

fn launch(ledger: &Path, heeds_keys: bool, listen: &str) -> (Child, String) {
    let mut env = vec![("UPSTREAM_LISTEN", listen.to_owned())];
    if heeds_keys {
        env.push(("UPSTREAM_HEEDS_KEYS", "yes".to_owned()));
    }
    let mut child = Child::start_role("upstream::upstream", ledger, &env);
    let address = child.said();
    (child, address)
}
