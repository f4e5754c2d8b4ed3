//! Webhooks: signatures, answers, order, bounds, and what is never shown or followed.

#![cfg(feature = "webhook")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod endpoint;

use axum::http::StatusCode;
use endpoint::{Answer, Endpoint, SECRET};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tape_core::time::Timestamp;
use tape_environment::{Environment, machine};
use tape_relay::conformance::Fault;
use tape_relay::conformance::pen::Pen;
use tape_relay::event::{EVENT_CONTENT_TYPE, Event};
use tape_relay::sink::{REASON_BYTES_MAX, Sink, SinkError};
use tape_relay::sinks::webhook::{
    CONCURRENCY_MAX, InvalidSecret, InvalidWebhook, Secret, TIMEOUT_MAX, Webhook, WebhookSettings,
    message_id, signature,
};

fn event() -> Event {
    Pen::new("acme/run/treasury/ann/s1/i1").event(&json!({"amount": 1}))
}

/// The machine, but for what its clocks show.
#[derive(Debug)]
struct Clock {
    wall: Timestamp,
    elapsed: std::sync::Mutex<Duration>,
    /// How far the clock goes on with each look at it.
    step: Duration,
}

impl Clock {
    fn at(seconds: i64, step: Duration) -> Arc<dyn Environment> {
        let wall = Timestamp::from_micros(seconds * 1_000_000);
        Arc::new(Self {
            wall,
            elapsed: Duration::ZERO.into(),
            step,
        })
    }
}

impl Environment for Clock {
    fn wall(&self) -> Timestamp {
        self.wall
    }
    fn elapsed(&self) -> Duration {
        let mut elapsed = self.elapsed.lock().unwrap();
        *elapsed += self.step;
        *elapsed
    }
    fn boot(&self) -> Option<String> {
        None
    }
    fn process(&self) -> u32 {
        1
    }
    fn random(&self) -> u128 {
        0
    }
}

/// What the sink says to an answer.
async fn meaning(answer: Answer) -> Result<(), SinkError> {
    let endpoint = Endpoint::start().await;
    endpoint.answer_next([answer]);
    let mut answers = endpoint.webhook().deliver(&[event()]).await;
    assert_eq!(endpoint.requests().len(), 1, "one event is one request");
    answers.remove(0)
}

fn retry_after(answer: Result<(), SinkError>) -> Option<Duration> {
    match answer {
        Err(SinkError::Unavailable { retry_after, .. }) => retry_after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn signatures_are_those_of_standard_webhooks() {
    // The example of the specification's libraries.
    let secret: Secret = SECRET.parse().unwrap();
    let body = br#"{"test": 2432232314}"#;
    let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
    assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    assert_eq!(
        theirs.sign("msg_1", 1_796_040_000, body).unwrap(),
        signature(&secret, "msg_1", "1796040000", body)
    );
}

#[tokio::test]
async fn a_library_of_standard_webhooks_verifies_requests_with_each_secret() {
    let endpoint = Endpoint::start().await;
    let new = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let secrets = vec![new.parse().unwrap(), SECRET.parse().unwrap()];
    let settings = WebhookSettings::new(&endpoint.url, secrets, false).unwrap();
    let webhook = Webhook::new(settings, machine()).unwrap();
    let event = event();
    assert_eq!(webhook.deliver(std::slice::from_ref(&event)).await, [Ok(())]);
    let request = endpoint.requests().remove(0);
    for secret in [new, SECRET] {
        let theirs = standardwebhooks::Webhook::new(secret).unwrap();
        theirs.verify(&request.body, &request.headers).unwrap();
        let changed = [&request.body[..], b" "].concat();
        assert!(theirs.verify(&changed, &request.headers).is_err());
    }
    let other = standardwebhooks::Webhook::new("whsec_/////////////////////////////////////////w==").unwrap();
    assert!(other.verify(&request.body, &request.headers).is_err());
    assert_eq!(request.headers["content-type"], EVENT_CONTENT_TYPE);
    assert_eq!(request.body, event.to_json());
    assert_eq!(request.path, "/hook");
}

#[tokio::test]
async fn an_event_has_one_message_id_and_each_attempt_its_time() {
    let endpoint = Endpoint::start().await;
    let event = event();
    for seconds in [1_796_040_000, 1_796_040_777] {
        let webhook = Webhook::new(endpoint.settings(), Clock::at(seconds, Duration::ZERO)).unwrap();
        assert_eq!(webhook.deliver(std::slice::from_ref(&event)).await, [Ok(())]);
    }
    let requests = endpoint.requests();
    assert_eq!(
        requests[0].headers["webhook-id"],
        requests[1].headers["webhook-id"]
    );
    assert_eq!(requests[0].headers["webhook-id"], message_id(&event));
    assert_eq!(requests[0].headers["webhook-timestamp"], "1796040000");
    assert_eq!(requests[1].headers["webhook-timestamp"], "1796040777");
    let mut pen = Pen::new("acme/run/treasury/ann/s1/i1");
    assert_eq!(
        message_id(&pen.event(&json!(7))),
        message_id(&event),
        "the same stream and number"
    );
    assert_ne!(
        message_id(&pen.event(&json!(7))),
        message_id(&event),
        "another number"
    );
}

#[tokio::test]
async fn each_status_has_its_meaning() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(meaning(Answer::status(status)).await, Ok(()), "{status}");
    }
    for status in [413, 422] {
        assert!(
            matches!(
                meaning(Answer::status(status)).await,
                Err(SinkError::Refused { .. })
            ),
            "{status}"
        );
    }
    assert!(matches!(
        meaning(Answer::status(410)).await,
        Err(SinkError::Disabled { .. })
    ));
    for status in [
        300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 425, 429, 500, 502, 503, 504, 599,
    ] {
        assert!(
            matches!(
                meaning(Answer::status(status)).await,
                Err(SinkError::Unavailable { .. })
            ),
            "{status}"
        );
    }
    let said = meaning(Answer::status(422).with_body("no\u{1b}[31m such\naccount"))
        .await
        .unwrap_err();
    assert_eq!(
        said.to_string(),
        "refused for good: the endpoint refuses the event (status 422): no [31m such account"
    );
}

#[tokio::test]
async fn other_statuses_refuse_where_the_settings_say_so() {
    let endpoint = Endpoint::start().await;
    let webhook = Webhook::new(endpoint.settings().with_refused(&[400]).unwrap(), machine()).unwrap();
    endpoint.answer_next([400, 422].map(Answer::status));
    assert!(matches!(
        webhook.deliver(&[event()]).await[0],
        Err(SinkError::Refused { .. })
    ));
    assert!(matches!(
        webhook.deliver(&[event()]).await[0],
        Err(SinkError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn an_endpoint_may_ask_to_wait() {
    let asking = |status, value: &str| meaning(Answer::status(status).with_header("retry-after", value));
    assert_eq!(
        retry_after(asking(429, "120").await),
        Some(Duration::from_secs(120))
    );
    assert_eq!(retry_after(asking(503, "0").await), Some(Duration::ZERO));
    // At most a day.
    assert_eq!(
        retry_after(asking(503, "31536000").await),
        Some(Duration::from_secs(86_400))
    );
    assert_eq!(retry_after(asking(503, "soon").await), None);
    assert_eq!(retry_after(asking(503, "-1").await), None);
    assert_eq!(
        retry_after(asking(503, "Sun, 06 Nov 1994 08:49:37 GMT").await),
        Some(Duration::ZERO)
    );
    assert_eq!(retry_after(meaning(Answer::status(503)).await), None);

    let endpoint = Endpoint::start().await;
    endpoint.answer_next([Answer::status(503).with_header("retry-after", "Mon, 30 Nov 2026 12:01:00 GMT")]);
    let webhook = Webhook::new(endpoint.settings(), Clock::at(1_796_040_000, Duration::ZERO)).unwrap();
    let answer = webhook.deliver(&[event()]).await.remove(0);
    assert_eq!(retry_after(answer), Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (endpoint, other) = (Endpoint::start().await, Endpoint::start().await);
    for status in [301, 302, 303, 307, 308] {
        endpoint.answer_next([Answer::status(status).with_header("location", &other.url)]);
        assert!(matches!(
            endpoint.webhook().deliver(&[event()]).await[0],
            Err(SinkError::Unavailable { .. })
        ));
    }
    assert_eq!(endpoint.requests().len(), 5);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_large_answer_is_read_in_part() {
    let refused = meaning(Answer::status(422).with_body("ü".repeat(4 << 20)))
        .await
        .unwrap_err();
    let SinkError::Refused { reason } = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.len() <= REASON_BYTES_MAX, "{} bytes", reason.len());
    assert_eq!(
        meaning(Answer::status(200).with_body("x".repeat(4 << 20))).await,
        Ok(())
    );
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unavailable_and_its_url_is_not_told() {
    let endpoint = Endpoint::start().await;
    let webhook = endpoint.webhook();
    let settings = endpoint.settings();
    // A listener that is gone: its port refuses connections.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{gone}/hook?key=hidden");
    let refused = Webhook::new(
        WebhookSettings::new(&url, vec![SECRET.parse().unwrap()], false).unwrap(),
        machine(),
    );
    let answer = refused.unwrap().deliver(&[event()]).await.remove(0);
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
    for shown in [
        format!("{answer:?}"),
        format!("{webhook:?}"),
        format!("{settings:?}"),
    ] {
        assert!(!shown.contains("hidden") && !shown.contains("MfKQ"), "{shown}");
    }
}

#[tokio::test]
async fn an_endpoint_that_answers_nothing_is_given_up() {
    // Its queue takes connections, and nothing reads them.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let settings = WebhookSettings::new(&url, vec![SECRET.parse().unwrap()], false).unwrap();
    let webhook = Webhook::new(
        settings.with_timeout(Duration::from_millis(1)).unwrap(),
        machine(),
    )
    .unwrap();
    let answer = webhook.deliver(&[event()]).await.remove(0);
    assert!(matches!(answer, Err(SinkError::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_call_begins_nothing_after_its_time() {
    let endpoint = Endpoint::start().await;
    // Each look at the clock takes 25 s: the third event is begun after 75 s.
    let environment = Clock::at(1_796_040_000, Duration::from_secs(25));
    let webhook = Webhook::new(endpoint.settings(), environment).unwrap();
    let mut pen = Pen::new("acme/value/rate");
    let events: Vec<Event> = (0..4).map(|n| pen.event(&json!(n))).collect();
    let answers = webhook.deliver(&events).await;
    assert_eq!(answers[..2], [Ok(()), Ok(())]);
    assert!(
        matches!(answers[2], Err(SinkError::Unavailable { .. })),
        "{:?}",
        answers[2]
    );
    assert_eq!(answers[3], Err(SinkError::Behind));
    assert_eq!(endpoint.requests().len(), 2);
}

/// An endpoint that answers requests in pairs, and counts how many it had at once.
#[derive(Clone)]
struct Pairs {
    pair: Arc<tokio::sync::Barrier>,
    /// How many requests there are, and how many there were at most.
    at_once: Arc<std::sync::Mutex<(usize, usize)>>,
}

impl Pairs {
    async fn answer(self) -> StatusCode {
        {
            let mut at_once = self.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        self.pair.wait().await;
        // What is sent meanwhile comes before these are answered.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        self.at_once.lock().unwrap().0 -= 1;
        StatusCode::NO_CONTENT
    }
}

#[tokio::test]
async fn all_parts_together_keep_to_the_streams_at_once() {
    let pairs = Pairs {
        pair: Arc::new(tokio::sync::Barrier::new(2)),
        at_once: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = pairs.clone();
    let app = axum::Router::new().fallback(move || answer.clone().answer());
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let settings = WebhookSettings::new(&url, vec![SECRET.parse().unwrap()], false).unwrap();
    let webhook = Webhook::new(settings.with_concurrency(2).unwrap(), machine()).unwrap();
    let part = async |part: usize| {
        let stream = |n: usize| format!("acme/value/p{part}-{n}");
        let events: Vec<Event> = (0..4).map(|n| Pen::new(&stream(n)).event(&json!(n))).collect();
        webhook.deliver(&events).await
    };
    let answers = futures::future::join_all((0..4).map(part)).await;
    server.abort();
    assert!(answers.iter().flatten().all(Result::is_ok), "{answers:?}");
    assert_eq!(pairs.at_once.lock().unwrap().1, 2);
}

#[tokio::test]
async fn a_gone_endpoint_gets_no_more_requests_in_the_call() {
    let endpoint = Endpoint::start().await;
    endpoint.fail(Fault::Gone);
    let settings = endpoint.settings().with_concurrency(1).unwrap();
    let webhook = Webhook::new(settings, machine()).unwrap();
    let events: Vec<Event> = (0..20)
        .map(|n| Pen::new(&format!("acme/value/v{n}")).event(&json!(n)))
        .collect();
    let answers = webhook.deliver(&events).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Err(SinkError::Disabled { .. })))
    );
    assert_eq!(endpoint.requests().len(), 1);
    assert!(endpoint.taken().is_empty());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let secret = || SECRET.parse::<Secret>().unwrap();
    let new = |url: &str| WebhookSettings::new(url, vec![secret()], false);
    let mut found = BTreeMap::new();
    for url in [
        "https://hooks.example/x?y",
        "https://10.0.0.7:8443",
        "http://localhost:8080",
        "http://127.0.0.9",
        "http://[::1]/",
    ] {
        found.insert(url, new(url).err());
    }
    assert!(found.values().all(Option::is_none), "{found:?}");
    for url in [
        "http://hooks.example",
        "http://10.0.0.7",
        "http://[::2]/",
        "http://localhost.example/",
    ] {
        assert_eq!(new(url), Err(InvalidWebhook::Insecure), "{url}");
        assert!(WebhookSettings::new(url, vec![secret()], true).is_ok());
    }
    for url in [
        "",
        "hooks.example",
        "ftp://a",
        "https://",
        "https://u:p@a",
        "https://u@a",
        "https://a/#b",
        "data:,x",
    ] {
        assert_eq!(new(url), Err(InvalidWebhook::Url), "{url}");
    }
    let with = |n: usize| WebhookSettings::new("https://a", vec![secret(); n], false).err();
    assert_eq!(with(0), Some(InvalidWebhook::Secrets { found: 0 }));
    assert_eq!(with(5), Some(InvalidWebhook::Secrets { found: 5 }));
    let settings = || new("https://a").unwrap();
    for timeout in [Duration::ZERO, TIMEOUT_MAX + Duration::from_millis(1)] {
        assert_eq!(settings().with_timeout(timeout), Err(InvalidWebhook::Timeout));
    }
    for found in [0, CONCURRENCY_MAX + 1] {
        assert_eq!(
            settings().with_concurrency(found),
            Err(InvalidWebhook::Concurrency { found })
        );
    }
    for status in [200, 401, 403, 404, 408, 410, 429, 500] {
        assert_eq!(
            settings().with_refused(&[422, status]),
            Err(InvalidWebhook::Refused { status })
        );
    }
    assert!(settings().with_refused(&[]).is_ok());
    for text in [
        "",
        "whsec_",
        "whsec_c2hvcnQ=",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_!!!",
        &format!("whsec_{}", "AAAA".repeat(22)),
    ] {
        assert_eq!(text.parse::<Secret>(), Err(InvalidSecret), "{text}");
    }
}
