//! Re-drives that are posted to a host.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use futures::StreamExt as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_client::api::Journal as _;
use tape_client::api::query::Until;
use tape_client::api::recovery::{Handover, Redrive, Taken};
use tape_client::api::signature::{SIGNATURE_HEADER, sign};
use tape_client::core::codec::decode;
use tape_client::core::entry::EntryBody;
use tape_client::core::id::{Epoch, Holder, Seq, StreamId};
use tape_client::{Begun, Error, Host, Run, RunId, RunResult, Tape};
use tape_engine::Engine;
use tape_environment::machine;
use tape_store::memory::MemoryStore;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const SECRET: &[u8] = b"secret";

fn id(app: &str, n: usize) -> RunId {
    RunId::new("acme", app, "ann", "s", &format!("i{n}")).unwrap()
}

/// A host whose agent waits for a word in each run, and a recovery worker of another process.
struct World {
    engine: Engine,
    tape: Tape,
    handover: Handover,
    go: Arc<Notify>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl World {
    async fn new(of: impl FnOnce(Host) -> Host) -> Self {
        let engine = Engine::start(Arc::new(MemoryStore::new()));
        let (go, tape) = (Arc::new(Notify::new()), Tape::over(engine.clone()));
        let tape = tape.agent_version("2").suspend_after(Duration::ZERO);
        let tape = tape.connect().await.unwrap();
        let held = go.clone();
        let agent = move |run: Run| {
            let held = held.clone();
            async move {
                held.notified().await;
                run.complete(&"done").await
            }
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let host = Host::new(tape.clone())
            .agent("pay", agent)
            .endpoint(listener, SECRET);
        let host = of(host.only_endpoint());
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(async move { host.serve_until(stopped).await });
        let holder = Holder::new("recovery").unwrap();
        Self {
            engine: engine.clone(),
            tape,
            handover: Handover::new(Arc::new(engine), holder, Duration::from_secs(30)),
            go,
            address,
            stop,
            served,
        }
    }

    /// A run that recovery took.
    async fn taken(&self, run: RunId) -> Redrive {
        let begun = self
            .tape
            .run(run.clone())
            .begin()
            .await
            .unwrap()
            .driving()
            .unwrap();
        begun.release(Duration::ZERO).await.unwrap();
        let taken = self.handover.take(&run).await.unwrap();
        let Taken::Held(epoch) = taken else {
            panic!("not taken: {taken:?}")
        };
        Redrive::new(run, epoch)
    }

    async fn post(&self, redrive: &Redrive) -> u16 {
        let body = serde_json::to_vec(redrive).unwrap();
        self.send(&sign(SECRET, now(), &body), &body).await
    }

    /// The status that a request with such a signature is answered with.
    async fn send(&self, signature: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST /redrive HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {}\r\n{SIGNATURE_HEADER}: {signature}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Waits for an entry of a run.
    async fn until(&self, run: &RunId, is_it: impl Fn(&EntryBody) -> bool) {
        let mut pages = self.engine.entries(run, Seq::ZERO, Until::Forever);
        while let Some(page) = pages.next().await {
            if page
                .unwrap()
                .iter()
                .any(|entry| is_it(&decode(entry).unwrap().body))
            {
                return;
            }
        }
        panic!("the journal ended");
    }

    async fn ended(&self, run: RunId) -> RunResult {
        let host = Host::new(self.tape.clone()).agent("pay", async |_| panic!("it is driven elsewhere"));
        host.drive(self.tape.run(run)).await.unwrap()
    }
}

fn now() -> u64 {
    u64::try_from(machine().wall().as_micros() / 1_000_000).unwrap()
}

#[tokio::test]
async fn a_posted_run_is_adopted_before_the_answer_and_driven_after_it() {
    let world = World::new(|host| host).await;
    let redrive = world.taken(id("pay", 1)).await;
    assert_eq!(world.post(&redrive).await, 202);
    assert!(
        !world.handover.release(&redrive.run, redrive.epoch).await.unwrap(),
        "recovery has it no more"
    );
    world.go.notify_one();
    let ended = world.ended(id("pay", 1)).await;
    assert_eq!(ended.output::<String>().unwrap(), "done");
    assert_eq!(world.post(&redrive).await, 200, "it has ended already");
}

#[tokio::test]
async fn without_a_good_signature_nothing_happens() {
    let world = World::new(|host| host).await;
    let redrive = world.taken(id("pay", 1)).await;
    let body = serde_json::to_vec(&redrive).unwrap();
    let before = world.tape.head(&redrive.run).await.unwrap();
    let wrong = [
        sign(b"another", now(), &body),
        sign(SECRET, now() - 301, &body),
        sign(SECRET, now(), b"{}"),
        String::new(),
    ];
    for signature in wrong {
        assert_eq!(world.send(&signature, &body).await, 401, "{signature}");
    }
    assert_eq!(
        world.tape.head(&redrive.run).await.unwrap(),
        before,
        "nothing is written"
    );
    let nonsense = b"{\"run\": 7}";
    assert_eq!(world.send(&sign(SECRET, now(), nonsense), nonsense).await, 400);
}

#[tokio::test]
async fn an_app_without_an_agent_and_a_run_that_is_not_there_are_not_found() {
    let world = World::new(|host| host).await;
    let elsewhere = world.taken(id("book", 1)).await;
    assert_eq!(world.post(&elsewhere).await, 404);
    assert_eq!(world.post(&Redrive::new(id("pay", 9), Epoch(1))).await, 404);
}

#[tokio::test]
async fn a_run_of_another_version_is_not_found_where_only_the_own_is_driven() {
    let world = World::new(Host::only_own_version).await;
    let own = world.taken(id("pay", 1)).await;
    assert_eq!(world.post(&own).await, 202);
    let other = Tape::over(world.engine.clone()).agent_version("1");
    let other = other.connect().await.unwrap().run(id("pay", 2)).begin().await;
    other
        .unwrap()
        .driving()
        .unwrap()
        .release(Duration::ZERO)
        .await
        .unwrap();
    let other = world.taken(id("pay", 2)).await;
    assert_eq!(world.post(&other).await, 404);
}

#[tokio::test]
async fn a_host_that_is_busy_or_stops_says_so_and_leaves_the_run() {
    let world = World::new(|host| host.concurrency(1)).await;
    let (first, second) = (world.taken(id("pay", 1)).await, world.taken(id("pay", 2)).await);
    assert_eq!(world.post(&first).await, 202);
    assert_eq!(world.post(&first).await, 503, "no other place");
    assert_eq!(world.post(&second).await, 503);
    assert!(
        world.handover.release(&second.run, second.epoch).await.unwrap(),
        "recovery has it still"
    );
    world.stop.send(()).unwrap();
    world.go.notify_one();
    world.served.await.unwrap().unwrap();
    let begun = world.tape.run(id("pay", 1)).begin().await.unwrap();
    assert!(
        matches!(begun, Begun::Ended(RunResult::Completed(_))),
        "drained: {begun:?}"
    );
}

#[tokio::test]
async fn a_request_that_comes_again_or_late_drives_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let failing = move |_: Run| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            Err(Error::Unavailable {
                source: "no model".into(),
            })
        }
    };
    let waiting = async |run: Run| {
        run.gate("desk").wait().await?;
        run.complete(&()).await
    };
    let world = World::new(|host| host.agent("fail", failing).agent("wait", waiting)).await;

    let again = world.taken(id("fail", 1)).await;
    assert_eq!(world.post(&again).await, 202);
    let let_go =
        |body: &EntryBody| matches!(body, EntryBody::LeaseReleased(e) if e.epoch == again.epoch.next());
    world.until(&again.run, let_go).await;
    let waits = world.taken(id("wait", 1)).await;
    assert_eq!(world.post(&waits).await, 202);
    world
        .until(&waits.run, |body| matches!(body, EntryBody::RunSuspended(_)))
        .await;
    let late = world.taken(id("pay", 1)).await;
    assert!(world.handover.release(&late.run, late.epoch).await.unwrap());

    for redrive in [Redrive::new(again.run.clone(), Epoch(77)), again, waits, late] {
        let before = world.tape.head(&redrive.run).await.unwrap();
        for _ in 0..3 {
            assert_eq!(world.post(&redrive).await, 409, "{redrive:?}");
        }
        assert_eq!(
            world.tape.head(&redrive.run).await.unwrap(),
            before,
            "nothing is written"
        );
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_run_whose_version_was_erased_is_of_no_own_version() {
    let world = World::new(Host::only_own_version).await;
    let run = world.taken(id("pay", 1)).await;
    let stream = StreamId::Run(run.run.clone());
    world
        .tape
        .erase(&stream, vec![Seq(1)], "asked for")
        .await
        .unwrap();
    world.engine.finish_erasures(&stream).await.unwrap();
    assert_eq!(world.post(&run).await, 404);
}

#[tokio::test]
async fn a_run_that_was_adopted_is_another_drivers() {
    let world = World::new(|host| host).await;
    let redrive = world.taken(id("pay", 1)).await;
    let adopt = world
        .tape
        .run(redrive.run.clone())
        .existing()
        .adopt(redrive.epoch);
    let _driving = adopt.begin().await.unwrap().driving().unwrap();
    assert_eq!(world.post(&redrive).await, 409);
}

#[tokio::test]
async fn an_empty_secret_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = Host::new(Tape::connect("memory:").await.unwrap()).endpoint(listener, "");
    let refused = host.serve_until(std::future::pending()).await.unwrap_err();
    assert_eq!(refused.to_string(), "secret: is empty: anyone could sign with it");
}

/// A connection that is kept.
struct Kept(BufReader<TcpStream>);

impl Kept {
    /// Sends a request. The head of the answer, which has no body.
    async fn post(&mut self, redrive: &Redrive) -> String {
        let body = serde_json::to_vec(redrive).unwrap();
        let head = format!(
            "POST /redrive HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n{SIGNATURE_HEADER}: {}\r\n\r\n",
            body.len(),
            sign(SECRET, now(), &body)
        );
        self.0.write_all(head.as_bytes()).await.unwrap();
        self.0.write_all(&body).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            assert!(
                self.0.read_line(&mut answer).await.unwrap() > 0,
                "it was cut: {answer}"
            );
        }
        answer
    }
}

/// Tokio's clock goes on.
async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_connection_in_steady_use_ends_after_an_answer_and_not_amid_one() {
    let world = World::new(|host| host).await;
    let redrive = world.taken(id("pay", 1)).await;
    let mut kept = Kept(BufReader::new(TcpStream::connect(world.address).await.unwrap()));
    assert!(kept.post(&redrive).await.starts_with("HTTP/1.1 202"));
    world.go.notify_one();
    world.ended(id("pay", 1)).await;
    for closes in [false, true] {
        later(Duration::from_secs(70)).await;
        let answer = kept.post(&redrive).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(answer.contains("connection: close"), closes, "{answer}");
    }
    assert_eq!(kept.0.read(&mut [0]).await.unwrap(), 0, "it has ended");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_signed_is_cut() {
    let world = World::new(|host| host).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let unsigned = "POST /redrive HTTP/1.1\r\nhost: agent\r\ncontent-length: 0\r\n\r\n";
    let mut answer = [0; 12];
    for _ in 0..2 {
        stream.write_all(unsigned.as_bytes()).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 401");
        // The rest of the answer ends with its text.
        let mut rest = vec![0; 4096];
        while !rest.ends_with(b"no good signature") {
            let read = stream.read(&mut rest).await.unwrap();
            rest.truncate(read);
        }
        later(Duration::from_secs(70)).await;
    }
    assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0, "it was cut");
}
