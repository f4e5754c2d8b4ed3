//! The bytes that a step sends to its store over the connection, or writes to files.

use crate::figure::Figures;
use crate::work::{Caller, PAYLOAD_BYTES, steps_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tape_engine::Engine;
use tape_store::clock::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Steps that are averaged; a segment of Bigtable's, and a snapshot, are among them.
const STEPS: u32 = 1_000;
/// The bytes that a step has to keep: arguments and result.
const KEPT_BYTES: f64 = 2.0 * PAYLOAD_BYTES as f64;

/// The bytes that passed.
#[derive(Default)]
struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Measures steps of one run alone, beside the bytes of their payloads.
pub(crate) async fn measure(url: &str, figures: &mut Figures) {
    if !figures.wants("bytes_a_step") {
        return;
    }
    if let Some(address) = address(url) {
        let meter = Arc::new(Meter::default());
        let between = pass_on(address.to_owned(), Arc::clone(&meter)).await;
        let metered = step_through(&url.replacen(address, &between, 1), || meter.read()).await;
        say(
            "bytes_a_step_to_the_store",
            metered.map(|(sent, _)| sent),
            figures,
        );
        say(
            "bytes_a_step_from_the_store",
            metered.map(|(_, received)| received),
            figures,
        );
    } else if url.starts_with("sqlite:") {
        let written = step_through(url, written).await;
        say("bytes_a_step_to_files", written, figures);
    }
}

fn say(name: &str, [before, after]: [u64; 2], figures: &mut Figures) {
    let bytes = u32::try_from(after - before).expect("no step takes megabytes");
    figures.say(name, f64::from(bytes) / f64::from(STEPS), "bytes", KEPT_BYTES);
}

/// A reading before and after the steps.
async fn step_through<T>(url: &str, read: impl Fn() -> T) -> [T; 2] {
    let store = tape_store::open::open(url).await.expect("the store opens");
    let caller = Caller::Embedded(Engine::new(store, Arc::new(SystemClock)));
    let run = caller.begin().await;
    let before = read();
    steps_of(&caller, &run, STEPS as usize).await;
    [before, read()]
}

/// Where a database or an emulator listens, as its URL says.
fn address(url: &str) -> Option<&str> {
    let from = match url.split_once("emulator=") {
        Some((_, from)) => from,
        None if url.starts_with("postgres") => {
            let rest = url.split_once("://")?.1;
            rest.split_once('@').map_or(rest, |(_, host)| host)
        }
        None => return None,
    };
    from.split(['/', '&', '?']).next()
}

/// Bytes that this process has written so far, to files and connections.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    written.map_or(0, |bytes| bytes.parse().expect("the kernel writes numbers"))
}

impl Meter {
    fn read(&self) -> (u64, u64) {
        (
            self.sent.load(Ordering::SeqCst),
            self.received.load(Ordering::SeqCst),
        )
    }
}

/// Forwards connections to an address and counts their bytes. Returns where it listens.
async fn pass_on(to: String, meter: Arc<Meter>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let between = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&to).await.expect("the store is there");
            near.set_nodelay(true).expect("a connection");
            far.set_nodelay(true).expect("a connection");
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let (there, back) = (Arc::clone(&meter), Arc::clone(&meter));
            tokio::spawn(async move { count(near_read, far_write, &there.sent).await });
            tokio::spawn(async move { count(far_read, near_write, &back.received).await });
        }
    });
    between
}

async fn count(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    bytes: &AtomicU64,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(read as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
