//! What followers cost the writers of a server: a thousand that wait for something else, and a thousand that take nothing. And how soon one
//! of them is told of an entry for it while others write.

use crate::figure::{Figures, rate};
use crate::served::callers;
use crate::work::appends;
use futures::future::join_all;
use std::time::{Duration, Instant};
use tape_proto::v1;
use tape_proto::v1::feed_service_client::FeedServiceClient;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tape_store::clock::{Clock as _, SystemClock};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Followers of each sort; a connection has a hundred.
const FOLLOWERS: usize = 1_000;
const ON_A_CONNECTION: usize = 100;
/// What a client that takes nothing lets a server send.
const WINDOW_BYTES: u32 = 16 * 1024;
/// Runs that append at once.
const RUNS: usize = 64;
/// Spans with and without followers, in turns; the figure is the median.
const ROUNDS: usize = 7;
/// Values that fill the windows of the followers that take nothing, and what waits for them; their bytes; and the time to send them.
const FILLING: usize = 32;
const FILLING_BYTES: usize = 16 * 1024;
const FILLED_AFTER: Duration = Duration::from_secs(3);
/// Entries whose follower is timed.
const WAKES: usize = 200;
/// The longest that a follower should wait for an entry, in milliseconds.
const WAKE_MAX_MS: f64 = 50.0;

type Tail = Streaming<v1::TailResponse>;

/// Measures a server, whose URL is given.
pub(crate) async fn measure(url: &str, span: Duration, figures: &mut Figures) {
    let name = format!("server_appends_{RUNS}_runs_beside_{}_followers", 2 * FOLLOWERS);
    if figures.wants(&name) {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.push(appended(url, span).await);
            let followers = all(url).await;
            fill(url).await;
            beside.push(appended(url, span).await);
            drop(followers);
        }
        figures.say(&name, median(beside), "entries/s", median(alone));
    }
    let name = format!("follower_told_beside_{}_followers", 2 * FOLLOWERS);
    if figures.wants(&name) {
        let _followers = all(url).await;
        fill(url).await;
        let writing = tokio::spawn(write(url.to_owned()));
        let mut times = told(url).await;
        writing.abort();
        times.sort_unstable();
        for (share, at) in [("p50", WAKES / 2), ("p99", WAKES * 99 / 100), ("max", WAKES - 1)] {
            let ms = times[at].as_secs_f64() * 1_000.0;
            figures.say(&format!("{name}_{share}"), ms, "ms", WAKE_MAX_MS);
        }
    }
}

async fn appended(url: &str, span: Duration) -> f64 {
    rate(appends(&callers(url, 1).await, RUNS, span).await.len(), span)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// All followers, each of them live.
async fn all(url: &str) -> Vec<Tail> {
    let mut followers = Vec::new();
    for pattern in ["*.value.never.>", ">"] {
        for _ in 0..FOLLOWERS / ON_A_CONNECTION {
            let channel = connect(url).await;
            let tails = (0..ON_A_CONNECTION).map(|_| tail(&channel, pattern));
            followers.extend(join_all(tails).await);
        }
    }
    followers
}

async fn connect(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .expect("a URL")
        .tcp_nodelay(true);
    let connection = WINDOW_BYTES * u32::try_from(ON_A_CONNECTION).expect("it is small");
    let endpoint = endpoint.initial_stream_window_size(WINDOW_BYTES);
    let endpoint = endpoint.initial_connection_window_size(connection);
    endpoint.connect().await.expect("the server is there")
}

async fn tail(channel: &Channel, pattern: &str) -> Tail {
    let which = v1::tenants::Which::All(v1::tenants::All {});
    let request = v1::TailRequest {
        pattern: pattern.to_owned(),
        start: v1::tail_request::Start::Now.into(),
        tenants: Some(v1::Tenants { which: Some(which) }),
        ..Default::default()
    };
    let tail = FeedServiceClient::new(channel.clone()).tail(request).await;
    let mut tail = tail.expect("the server answers").into_inner();
    let place = tail.message().await.expect("the server sends");
    place.expect("it tells where it begins");
    tail
}

/// Makes those stuck that take nothing: until then they are followers like others, to which everything is sent.
async fn fill(url: &str) {
    let mut values = ValueServiceClient::new(connect(url).await);
    for _ in 0..FILLING {
        let put = put("filling", FILLING_BYTES);
        values.put_value(put).await.expect("the server answers");
    }
    tokio::time::sleep(FILLED_AFTER).await;
}

fn put(name: &str, bytes: usize) -> v1::PutValueRequest {
    v1::PutValueRequest {
        value_id: Some(v1::ValueId {
            tenant: "bench".to_owned(),
            name: name.to_owned(),
        }),
        context: Some(v1::RequestContext {
            request_id: SystemClock.request_id().0.as_bytes().to_vec().into(),
            ..Default::default()
        }),
        value: Some(v1::Payload {
            content_type: "text/plain".to_owned(),
            data: vec![b'1'; bytes].into(),
        }),
        ..Default::default()
    }
}

/// Appends without end.
async fn write(url: String) {
    loop {
        appended(&url, Duration::from_secs(1)).await;
    }
}

/// The time from each put of a value to its follower's message.
async fn told(url: &str) -> Vec<Duration> {
    let channel = connect(url).await;
    let mut tail = tail(&channel, "bench.value.rare.>").await;
    let mut values = ValueServiceClient::new(channel);
    let mut times = Vec::new();
    for _ in 0..WAKES {
        let put = put("rare", 1);
        // From before the put: what is shown has the commit in it.
        let asked = Instant::now();
        let put = async { values.put_value(put).await.expect("the server answers") };
        let message = async {
            loop {
                let message = tail.message().await.expect("the server sends");
                if !message.expect("it does not end").entries.is_empty() {
                    return asked.elapsed();
                }
            }
        };
        times.push(futures::future::join(put, message).await.1);
    }
    times
}
