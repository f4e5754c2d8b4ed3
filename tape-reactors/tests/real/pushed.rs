//! A worker that Pub/Sub wakes by pushing, and nothing else: neither the journal nor a sweep. `tests/push.rs` has what is no hint.

use crate::upstream::{Upstream, http};
use crate::world::{World, effect, spec};
use axum::Json;
use axum::routing::get;
use serde_json::{Value, json};
use tape_core::effect::{Semantics, Status};
use tape_environment::{Environment as _, Machine};
use tape_identity::testing::{Issuer, jwks};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://reactor.example/wake";
const ACCOUNT: &str = "push@project.iam.gserviceaccount.com";

/// Where the issuer's keys are.
async fn serve(keys: Value) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/keys", get(async move || Json(keys)));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn claims(audience: &str, valid_s: i64) -> Value {
    let now = Machine.wall().as_micros() / 1_000_000;
    json!({
        "iss": ISSUER, "sub": "1", "aud": audience, "iat": now - 7_200, "exp": now + valid_s,
        "email": ACCOUNT, "email_verified": true,
    })
}

/// The status of the answer to a push.
async fn push(url: &str, token: &str, id: &str) -> u16 {
    let body = json!({"message": {"messageId": id}, "subscription": "projects/p/subscriptions/s"});
    let request = http().post(format!("{url}/wake")).bearer_auth(token).json(&body);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_push_with_a_good_token_wakes_a_worker_and_others_are_refused() {
    let world = World::sqlite().await;
    let upstream = Upstream::start(world.dir.path(), true);
    let (issuer, thief) = (Issuer::new("key"), Issuer::new("key"));
    let keys = serve(jwks(&[&issuer])).await;
    let flags = ["--wake", "push", "--sweep", "off", "--push-audience", AUDIENCE];
    let of = [
        "--push-account",
        ACCOUNT,
        "--push-issuer",
        ISSUER,
        "--jwks-url",
        &keys,
    ];
    let (_worker, url) = world.worker_listening(&upstream, &[&flags[..], &of].concat());
    let good = issuer.token(&claims(AUDIENCE, 3_600));
    let run = world.run("pushed").await;

    run.begin(0, spec(Semantics::NonIdempotent, "first")).await;
    assert_eq!(push(&url, &good, "1").await, 204);
    run.until_effect(0, Status::Confirmed).await;
    run.begin(1, spec(Semantics::NonIdempotent, "second")).await;
    let refused = [
        thief.token(&claims(AUDIENCE, 3_600)),
        issuer.token(&claims(AUDIENCE, -3_600)),
        issuer.token(&claims("https://reactor.example/other", 3_600)),
    ];
    for token in &refused {
        assert_eq!(push(&url, token, "2").await, 401);
    }
    assert_eq!(push(&url, &good, "1").await, 200, "it came before");
    assert_eq!(push(&url, &good, "2").await, 204);
    run.until_effect(1, Status::Confirmed).await;
    assert_eq!(upstream.acts("second"), 1);
    assert_eq!(run.state().await.effects()[&effect(1)].attempt, 1);
    let health = http().get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 200, "beside health and readiness");
}
