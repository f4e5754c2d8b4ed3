//! What the sink for Pub/Sub does beyond the promises of every sink, with Google's emulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tape-store/tests/proxy/mod.rs"]
mod proxy;
mod pubsub_emulator;
mod pubsub_front;
mod pubsub_inbox;

use proxy::Proxy;
use pubsub_emulator::Emulator;
use pubsub_front::{Front, Wrong};
use pubsub_inbox::{Inbox, place};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tape_core::id::StreamId;
use tape_relay::conformance::pen::Pen;
use tape_relay::event::Event;
use tape_relay::sink::{DELIVERY_EVENTS_MAX, Sink as _, SinkError};
use tape_relay::sinks::pubsub::{Content, PubSub, Settings, ordering_key};
use tonic::Code;

/// Settings of a topic at an address.
fn settings(topic: &str, address: &str) -> Settings {
    let mut settings = Settings::new(topic.parse().unwrap());
    settings.emulator = Some(address.to_owned());
    // Other tests may keep the machine busy.
    settings.timeout = Duration::from_secs(60);
    settings
}

/// Streams with so many events each, interleaved.
fn events(streams: usize, each: usize) -> Vec<Event> {
    let mut pens: Vec<Pen> = (0..streams)
        .map(|n| Pen::new(&format!("acme/value/v{n}")))
        .collect();
    let mut events = Vec::new();
    for n in 0..each {
        events.extend(pens.iter_mut().map(|pen| pen.event(&json!({"n": n}))));
    }
    events
}

/// Delivers events as a relay does: what is not confirmed comes again.
async fn deliver(sink: &PubSub, events: &[Event]) {
    let mut rest = events.to_vec();
    while !rest.is_empty() {
        let answers = sink.deliver(&rest).await;
        let mut answers = answers.into_iter();
        rest.retain(|_| answers.next().is_none_or(|answer| answer.is_err()));
    }
}

/// Takes messages until every event was there once, and checks that each stream came in order. Returns the number of messages.
async fn receive(inbox: &mut Inbox, events: &[Event]) -> usize {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let (mut new, mut all) = (0, 0);
    while new < events.len() {
        let message = inbox.next().await;
        let (stream, seq) = place(&message);
        assert_eq!(message.ordering_key, stream);
        all += 1;
        let expected = last.get(&stream).map_or(1, |last| last + 1);
        assert!(seq <= expected, "{stream}: {seq} came where {expected} was next");
        if seq == expected {
            last.insert(stream, seq);
            new += 1;
        }
    }
    all
}

fn unavailable(answer: &Result<(), SinkError>) -> &str {
    match answer {
        Err(SinkError::Unavailable { reason, .. }) => reason,
        other => panic!("it is unavailable, not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_arrive_in_order() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let topic = emulator.create_topic("entries");
    let subscription = emulator.create_subscription("reader", &topic);
    let sink = PubSub::new(settings(&topic, &emulator.address()));
    let events = events(16, 64);
    for call in events.chunks(DELIVERY_EVENTS_MAX) {
        assert_eq!(sink.deliver(call).await, vec![Ok(()); call.len()]);
    }
    let mut inbox = Inbox::open(&emulator.endpoint(), &subscription).await;
    assert_eq!(
        receive(&mut inbox, &events).await,
        events.len(),
        "none comes twice"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_told_and_made_only_when_asked() {
    let Some(mut emulator) = Emulator::start() else {
        return;
    };
    let sink = PubSub::new(settings("projects/tape-test/topics/entries", &emulator.address()));
    let events = events(2, 2);
    let answers = sink.deliver(&events).await;
    let advice = "gcloud pubsub topics create entries --project tape-test";
    assert!(unavailable(&answers[0]).contains(advice), "{answers:?}");
    assert!(unavailable(&answers[1]).contains(advice), "{answers:?}");
    assert_eq!(answers[2..], [Err(SinkError::Behind), Err(SinkError::Behind)]);

    assert_eq!(sink.create_topic().await, Ok(true));
    assert_eq!(sink.create_topic().await, Ok(false));
    assert_eq!(
        sink.deliver(&events).await,
        vec![Ok(()); 4],
        "no key stays stopped"
    );

    emulator.stop();
    let answers = sink.deliver(&events).await;
    let address = emulator.address();
    assert!(unavailable(&answers[0]).contains(&address), "{answers:?}");
    emulator.start_again();
    assert!(unavailable(&sink.deliver(&events).await[0]).contains(advice));
    let topic = emulator.create_topic("entries");
    let subscription = emulator.create_subscription("reader", &topic);
    assert_eq!(sink.deliver(&events).await, vec![Ok(()); 4]);
    let mut inbox = Inbox::open(&emulator.endpoint(), &subscription).await;
    assert_eq!(receive(&mut inbox, &events).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_cost_neither_events_nor_their_order() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let port = emulator.address().rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).await;
    let topic = emulator.create_topic("entries");
    let subscription = emulator.create_subscription("reader", &topic);
    let sink = PubSub::new(settings(&topic, &format!("127.0.0.1:{}", proxy.port())));
    let events = events(8, 60);
    let cutting = async {
        proxy.havoc(150);
        for call in events.chunks(40) {
            deliver(&sink, call).await;
        }
    };
    let mut inbox = Inbox::open(&emulator.endpoint(), &subscription).await;
    let ((), all) = tokio::join!(cutting, receive(&mut inbox, &events));
    eprintln!("{all} messages of {} events", events.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_repeats_a_stream_and_skips_nothing() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let topic = emulator.create_topic("entries");
    let subscription = emulator.create_subscription("reader", &topic);
    let front = Front::start(emulator.endpoint()).await;
    let sink = PubSub::new(settings(&topic, front.address()));
    let events = events(3, 5);
    front.let_go_wrong(Wrong::LosesAnswers);
    let answers = sink.deliver(&events).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    front.let_go_wrong(Wrong::Nothing);
    assert_eq!(sink.deliver(&events).await, vec![Ok(()); events.len()]);
    let mut inbox = Inbox::open(&emulator.endpoint(), &subscription).await;
    receive(&mut inbox, &events).await;
    assert!(front.taken().len() > events.len(), "they went out before, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_swallows_everything_is_given_up() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let topic = emulator.create_topic("entries");
    let port = emulator.address().rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port).await;
    let mut settings = settings(&topic, &format!("127.0.0.1:{}", proxy.port()));
    let events = events(2, 2);
    settings.timeout = Duration::from_secs(5);
    let sink = PubSub::new(settings);
    assert_eq!(sink.deliver(&events).await, vec![Ok(()); 4]);
    proxy.hold();
    let answers = sink.deliver(&events).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    // The connection before is still silent.
    proxy.pass_new();
    assert_eq!(sink.deliver(&events).await, vec![Ok(()); 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_event_that_is_not_valid_is_refused() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    for ordered in [true, false] {
        let topic = emulator.create_topic(&format!("entries-{ordered}"));
        let front = Front::start(emulator.endpoint()).await;
        let mut settings = settings(&topic, front.address());
        settings.ordered = ordered;
        let sink = PubSub::new(settings);
        let events = events(2, 128);
        let bad = events[100].id().to_owned();
        front.let_go_wrong(Wrong::AnswersAt(bad.clone(), Code::InvalidArgument));
        let answers = sink.deliver(&events).await;
        for (event, answer) in events.iter().zip(&answers) {
            match answer {
                Err(SinkError::Refused { reason }) if event.id() == bad => {
                    assert!(
                        reason.contains("INVALID_ARGUMENT") && reason.contains(&bad),
                        "{reason}"
                    );
                }
                other => assert_eq!(other, &Ok(()), "{}", event.id()),
            }
        }
        let requests = front.requests().len();
        assert!(requests <= 30, "{requests} requests to find one of 256 events");
        let taken: Vec<_> = front
            .taken()
            .iter()
            .map(|message| message.attribute("ce-id").to_owned())
            .collect();
        for stream in ["acme/value/v0/", "acme/value/v1/"] {
            let expected = events.iter().map(|event| event.id().to_owned());
            let mut expected: Vec<_> = expected
                .filter(|id| id.starts_with(stream) && *id != bad)
                .collect();
            let mut of_stream: Vec<_> = taken
                .iter()
                .filter(|id| id.starts_with(stream))
                .cloned()
                .collect();
            if !ordered {
                of_stream.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(
                of_stream, expected,
                "each is there once, in order where there is one"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_may_pass_refuse_nothing() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let topic = emulator.create_topic("entries");
    let front = Front::start(emulator.endpoint()).await;
    let sink = PubSub::new(settings(&topic, front.address()));
    let events = events(2, 2);
    for (code, said) in [
        (Code::PermissionDenied, "roles/pubsub.publisher"),
        (Code::Unauthenticated, "Application Default Credentials"),
        (Code::ResourceExhausted, "quotas"),
        (Code::FailedPrecondition, "FAILED_PRECONDITION"),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (Code::Internal, "INTERNAL"),
    ] {
        front.let_go_wrong(Wrong::Answers(code));
        let answers = sink.deliver(&events).await;
        for n in [0, 1] {
            let reason = unavailable(&answers[n]);
            assert!(reason.contains(said) && reason.contains(&topic), "{reason}");
        }
        assert_eq!(answers[2..], [Err(SinkError::Behind), Err(SinkError::Behind)]);
    }
    assert_eq!(front.taken(), []);
    front.let_go_wrong(Wrong::Nothing);
    assert_eq!(sink.deliver(&events).await, vec![Ok(()); 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_stay_within_the_limits_of_pubsub() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let topic = emulator.create_topic("entries");
    let front = Front::start(emulator.endpoint()).await;
    let part = "%2F".repeat(150);
    let name = format!("acme/run/{part}/{part}/{part}/{part}");
    let long: StreamId = name.parse().unwrap();
    let (mut long_pen, mut short_pen) = (Pen::new(&name), Pen::new("acme/value/v0"));
    let events = [
        long_pen.event(&json!({"n": 1})),
        short_pen.event(&json!({"n": 2})),
    ];

    let sink = PubSub::new(settings(&topic, front.address()));
    assert_eq!(sink.deliver(&events).await, [Ok(()), Ok(())]);
    let taken = front.taken();
    let of = |stream: &StreamId| {
        let key = ordering_key(stream);
        let found = taken.iter().find(|message| message.ordering_key == key);
        found.expect("each has its stream as its key")
    };
    let message = of(events[1].stream());
    assert_eq!(message.ordering_key, "acme/value/v0");
    assert_eq!(message.data, events[1].data().to_vec());
    assert_eq!(message.attribute("content-type"), "application/json");
    assert_eq!(message.attribute("ce-id"), "acme/value/v0/1");
    assert!(!message.attributes.contains_key("ce-datacontenttype"));

    // Names that Pub/Sub does not take as attributes are in the data.
    let message = of(&long);
    assert!(message.ordering_key.starts_with("sha256:") && message.ordering_key.len() == 71);
    assert_eq!(message.data, events[0].to_json());
    assert_eq!(
        message.attribute("content-type"),
        tape_relay::event::EVENT_CONTENT_TYPE
    );
    assert_eq!(message.attribute("ce-tenant"), "acme");
    assert!(!message.attributes.contains_key("ce-stream"));
    assert!(message.attributes.values().all(|value| value.len() <= 1_024));

    let mut structured = settings(&topic, front.address());
    structured.content = Content::Structured;
    structured.ordered = false;
    let sink = PubSub::new(structured);
    assert_eq!(sink.deliver(&events[1..]).await, [Ok(())]);
    let message = front.taken().pop().unwrap();
    assert_eq!(message.data, events[1].to_json());
    assert_eq!(message.attribute("ce-id"), "acme/value/v0/1");
    assert_eq!(message.ordering_key, "");
}

/// The process that this test starts finds credentials where this variable says.
const CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

#[test]
fn credentials_that_failed_are_read_anew() {
    let Some(file) = std::env::var_os(CREDENTIALS) else {
        let folder = tempfile::tempdir().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "credentials_that_failed_are_read_anew", "--nocapture"])
            .env(CREDENTIALS, folder.path().join("credentials.json"))
            .status();
        assert!(status.unwrap().success());
        return;
    };
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let topic = emulator.create_topic("entries");
        let mut settings = settings(&topic, "");
        (settings.emulator, settings.endpoint) = (None, Some(emulator.endpoint()));
        let sink = PubSub::new(settings);
        let events = events(1, 2);
        let advice = "give the relay Application Default Credentials";
        let answers = sink.deliver(&events).await;
        assert!(unavailable(&answers[0]).contains(advice), "{answers:?}");

        let tokens = Tokens::start().await;
        std::fs::write(&file, tokens.credentials()).unwrap();
        // After such an answer the client's credentials ask no more.
        let answers = sink.deliver(&events).await;
        assert!(unavailable(&answers[0]).contains(advice), "{answers:?}");
        tokens.work.store(true, Ordering::SeqCst);
        assert_eq!(sink.deliver(&events).await, [Ok(()), Ok(())]);
    });
}

/// A server that gives out tokens, once it works.
struct Tokens {
    port: u16,
    work: Arc<AtomicBool>,
}

impl Tokens {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let work = Arc::new(AtomicBool::new(false));
        let works = Arc::clone(&work);
        let token = axum::routing::post(move || {
            let works = works.load(Ordering::SeqCst);
            let token = json!({ "access_token": "secret", "expires_in": 3600, "token_type": "Bearer" });
            let refused = json!({ "error": "invalid_grant" });
            std::future::ready(if works {
                (axum::http::StatusCode::OK, axum::Json(token))
            } else {
                (axum::http::StatusCode::BAD_REQUEST, axum::Json(refused))
            })
        });
        let router = axum::Router::new().route("/token", token);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, work }
    }

    /// The file of a user's credentials that lead to this server.
    fn credentials(&self) -> String {
        let uri = format!("http://127.0.0.1:{}/token", self.port);
        let credentials = json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", "token_uri": uri
        });
        credentials.to_string()
    }
}
