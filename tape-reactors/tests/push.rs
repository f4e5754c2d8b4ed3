//! The endpoint that Pub/Sub pushes to: which requests wake, and what the others are answered.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::Json;
use axum::routing::get;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tape_environment::{Environment, Seeded};
use tape_identity::testing::{Issuer, jwks, token};
use tape_identity::{Expected, JwksUrl, KeyCache, Verifier};
use tape_reactors::{PushCounts, PushEndpoint, Wake};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://reactor.example/wake";
const ACCOUNT: &str = "push@project.iam.gserviceaccount.com";

struct World {
    issuer: Issuer,
    environment: Arc<Seeded>,
    endpoint: PushEndpoint,
    wake: Wake,
    stop: CancellationToken,
    client: reqwest::Client,
    url: String,
}

async fn serve(router: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

impl World {
    async fn new() -> Self {
        let issuer = Issuer::new("key");
        let keys = jwks(&[&issuer]);
        let keys = axum::Router::new().route("/keys", get(async move || Json(keys)));
        Self::with(issuer, &format!("{}/keys", serve(keys).await)).await
    }

    async fn with(issuer: Issuer, keys: &str) -> Self {
        let environment = Arc::new(Seeded::new(1));
        let keys = Arc::new(JwksUrl::new(keys).unwrap());
        let keys = Arc::new(KeyCache::new(keys, environment.clone()));
        let expected = Expected::new([ISSUER], [AUDIENCE]).of_account(ACCOUNT);
        let verifier = Verifier::new(expected, keys, environment.clone());
        let wake = Wake::new();
        let stop = CancellationToken::new();
        let endpoint = PushEndpoint::new(wake.clone(), verifier, environment.clone(), stop.clone());
        Self {
            issuer,
            url: format!("{}/wake", serve(endpoint.router()).await),
            environment,
            endpoint,
            wake,
            stop,
            client: reqwest::Client::new(),
        }
    }

    fn claims(&self) -> Value {
        let now = self.environment.wall().as_micros() / 1_000_000;
        json!({
            "iss": ISSUER, "sub": "1234", "aud": AUDIENCE, "iat": now, "exp": now + 3_600,
            "email": ACCOUNT, "email_verified": true,
        })
    }

    /// A good token, but for one claim; `null` is for none.
    fn but(&self, claim: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[claim] = value;
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        self.issuer.token(&claims)
    }

    fn token(&self) -> String {
        self.issuer.token(&self.claims())
    }

    fn request(&self, token: &str) -> RequestBuilder {
        self.client.post(&self.url).bearer_auth(token)
    }

    /// What a push of a message is answered, and whether it was a hint.
    async fn push(&self, token: &str, id: &str) -> (StatusCode, bool) {
        self.send(self.request(token).body(wrapped(id))).await
    }

    async fn send(&self, request: RequestBuilder) -> (StatusCode, bool) {
        let hinted: BoxFuture<'_, ()> = self.wake.hinted();
        let answer = request.send().await.unwrap();
        (answer.status(), hinted.now_or_never().is_some())
    }

    fn counts(&self) -> [u64; 4] {
        let PushCounts {
            hints,
            repeated,
            malformed,
            refused,
            ..
        } = self.endpoint.counts();
        [hints, repeated, malformed, refused]
    }
}

/// A push as Pub/Sub makes it.
fn wrapped(id: &str) -> String {
    let message = json!({
        "attributes": {"ce-type": "tape.entry", "tenant": "acme"}, "data": "e30=", "messageId": id, "message_id": id,
        "publishTime": "2026-11-22T12:00:00Z", "publish_time": "2026-11-22T12:00:00Z",
    });
    json!({"message": message, "subscription": "projects/p/subscriptions/s"}).to_string()
}

const HINT: (StatusCode, bool) = (StatusCode::NO_CONTENT, true);
const NO_HINT: (StatusCode, bool) = (StatusCode::OK, false);

#[tokio::test]
async fn a_message_wakes_once() {
    let world = World::new().await;
    let (token, other) = (world.token(), world.but("sub", json!("5678")));
    assert_eq!(world.push(&token, "1").await, HINT);
    assert_eq!(
        world.push(&token, "2").await,
        HINT,
        "a token is for many messages"
    );
    for _ in 0..3 {
        assert_eq!(
            world.push(&token, "1").await,
            NO_HINT,
            "a message under a token is for once"
        );
    }
    assert_eq!(
        world.push(&other, "1").await,
        HINT,
        "Pub/Sub may send it again under a newer token"
    );
    assert_eq!(world.counts(), [3, 3, 0, 0]);
}

#[tokio::test]
async fn a_message_is_read_wrapped_and_unwrapped() {
    let world = World::new().await;
    let token = world.token();
    let unwrapped = |id: &str| {
        let request = world.request(&token).header("x-goog-pubsub-message-id", id);
        request.body("\u{1}not JSON")
    };
    assert_eq!(world.send(unwrapped("1")).await, HINT);
    assert_eq!(world.send(unwrapped("1")).await, NO_HINT);
    // Either name of the id is enough, and nothing else is needed.
    for body in [
        r#"{"message": {"messageId": "2"}}"#,
        r#"{"message": {"message_id": "3"}}"#,
    ] {
        assert_eq!(world.send(world.request(&token).body(body)).await, HINT);
        assert_eq!(world.send(world.request(&token).body(body)).await, NO_HINT);
    }
    assert_eq!(world.counts(), [3, 3, 0, 0]);
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_acknowledged_and_counted() {
    let world = World::new().await;
    let token = world.token();
    let long = "1".repeat(10_000);
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"message": null}"#,
        r#"{"message": {}}"#,
        r#"{"message": {"messageId": 7}}"#,
        r#"{"message": {"messageId": ""}}"#,
        "\u{0}\u{1}",
        &wrapped(&long),
    ];
    for body in bodies {
        let sent = world.send(world.request(&token).body(body.to_owned())).await;
        assert_eq!(sent, NO_HINT, "{body}");
    }
    assert_eq!(world.counts(), [0, 0, 11, 0]);
}

#[tokio::test]
async fn a_request_without_a_good_token_does_nothing() {
    let world = World::new().await;
    let now = world.environment.wall().as_micros() / 1_000_000;
    let unauthorized = [
        token(&json!({"alg": "none", "kid": "key"}), &world.claims(), |_| {
            Vec::new()
        }),
        Issuer::new("key").token(&world.claims()),
        Issuer::new("other").token(&world.claims()),
        world.but("exp", json!(now - 600)),
        world.but("nbf", json!(now + 600)),
        world.but("exp", Value::Null),
        world.but("aud", json!("https://reactor.example/other")),
        world.but("iss", json!("https://evil.example")),
        world.but("email", Value::Null),
        "secret".to_owned(),
        "a".repeat(20_000),
    ];
    let forbidden = [
        world.but("email", json!("other@project.iam.gserviceaccount.com")),
        world.but("email_verified", json!(false)),
    ];
    for token in &unauthorized {
        let refused = (StatusCode::UNAUTHORIZED, false);
        assert_eq!(world.push(token, "1").await, refused);
    }
    for token in &forbidden {
        let refused = (StatusCode::FORBIDDEN, false);
        assert_eq!(world.push(token, "1").await, refused);
    }
    let good = world.token();
    let post = || world.client.post(&world.url).body(wrapped("1"));
    let without = [
        post(),
        post().header("authorization", &good),
        post().header("authorization", format!("Basic {good}")),
        post().bearer_auth(&good).bearer_auth(&good),
        world
            .client
            .post(format!("{}?access_token={good}", world.url))
            .body(wrapped("1")),
    ];
    for request in without {
        assert_eq!(world.send(request).await, (StatusCode::UNAUTHORIZED, false));
    }
    assert_eq!(world.counts(), [0, 0, 0, 18]);
    assert_eq!(
        world.push(&good, "1").await,
        HINT,
        "what was refused was not remembered as seen"
    );
}

#[tokio::test]
async fn an_answer_says_why_and_repeats_no_token() {
    let world = World::new().await;
    let token = world.but("aud", json!("c0ffee"));
    let answer = world.request(&token).body(wrapped("1")).send().await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let body = answer.text().await.unwrap();
    assert_eq!(body, "the token is for another audience\n");
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let world = World::new().await;
    let largest = |bytes: usize| {
        let data = "e".repeat(bytes);
        json!({"message": {"data": data, "messageId": "1"}}).to_string()
    };
    let token = world.token();
    // What Pub/Sub can send at most: 10 MB, in base64.
    let body = largest(10_000_000 / 3 * 4);
    assert_eq!(world.send(world.request(&token).body(body)).await, HINT);
    let too_large = world
        .send(world.request(&token).body(largest(14 * 1024 * 1024)))
        .await;
    assert_eq!(too_large, (StatusCode::PAYLOAD_TOO_LARGE, false));
}

/// Another process gets the message.
#[tokio::test]
async fn a_process_that_stops_acknowledges_nothing() {
    let world = World::new().await;
    let token = world.token();
    world.stop.cancel();
    let refused = (StatusCode::SERVICE_UNAVAILABLE, false);
    assert_eq!(world.push(&token, "1").await, refused);
    assert_eq!(world.counts(), [0, 0, 0, 0]);
}

/// Whether the token is good cannot be told, so that Pub/Sub is to try again.
#[tokio::test]
async fn while_the_keys_are_out_of_reach_nothing_is_acknowledged() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys = format!("http://{}/keys", gone.local_addr().unwrap());
    drop(gone);
    let world = World::with(Issuer::new("key"), &keys).await;
    let refused = world.push(&world.token(), "1").await;
    assert_eq!(refused, (StatusCode::SERVICE_UNAVAILABLE, false));
}
