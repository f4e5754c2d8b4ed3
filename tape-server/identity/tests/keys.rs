//! The keys of an issuer: rotated, out of reach, asked for by made-up ids.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_environment::Seeded;
use tape_identity::testing::{Issuer, jwks};
use tape_identity::{
    DOCUMENT_BYTES_MAX, Expected, Identity, JwksUrl, KEYS_AGE_MAX, KEYS_MAX, KEYS_STALE_MAX, KeyCache,
    KeySource, REFETCH_PAUSE, Refusal, SourceError, Verifier,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

const MOMENT: Duration = Duration::from_millis(1);

/// Keys that a test changes or takes away.
#[derive(Debug)]
struct Server {
    document: Mutex<Option<Value>>,
    asked: AtomicUsize,
    /// Each answer takes one.
    answers: Semaphore,
}

#[async_trait::async_trait]
impl KeySource for Server {
    async fn fetch(&self) -> Result<Bytes, SourceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answers.acquire().await.unwrap().forget();
        let document = self.document.lock().unwrap().clone();
        let document = document.ok_or(SourceError::Status { status: 503 })?;
        Ok(Bytes::from(document.to_string()))
    }
}

struct World {
    server: Arc<Server>,
    verifier: Verifier,
}

impl World {
    fn new(keys: &[&Issuer]) -> Self {
        let server = Arc::new(Server {
            document: Mutex::new(Some(jwks(keys))),
            asked: AtomicUsize::new(0),
            answers: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let environment = Arc::new(Seeded::new(1));
        let cache = Arc::new(KeyCache::new(server.clone(), environment.clone()));
        let verifier = Verifier::new(Expected::new(["i"], ["a"]), cache, environment);
        Self { server, verifier }
    }

    fn serve(&self, keys: Option<&[&Issuer]>) {
        *self.server.document.lock().unwrap() = keys.map(jwks);
    }

    fn asked(&self) -> usize {
        self.server.asked.load(Ordering::Relaxed)
    }

    async fn verify(&self, issuer: &Issuer) -> Result<Identity, Refusal> {
        self.verifier.verify(&signed(issuer)).await
    }
}

/// A token that does not expire within a test.
fn signed(issuer: &Issuer) -> String {
    issuer.token(&json!({"iss": "i", "aud": "a", "sub": "s", "exp": 4_102_444_800_i64}))
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_is_found_and_a_key_that_is_withdrawn_is_refused() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let world = World::new(&[&old]);
    assert!(world.verify(&old).await.is_ok());
    world.serve(Some(&[&old, &new]));
    tokio::time::advance(REFETCH_PAUSE).await;
    assert!(world.verify(&new).await.is_ok(), "an unknown key is looked for");
    assert_eq!(world.asked(), 2);
    world.serve(Some(&[&new]));
    tokio::time::advance(KEYS_AGE_MAX + MOMENT).await;
    let refused = world.verify(&old).await;
    assert!(matches!(refused, Err(Refusal::UnknownKey)), "{refused:?}");
    assert!(world.verify(&new).await.is_ok());
    assert_eq!(world.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn made_up_key_ids_cause_no_flood() {
    let issuer = Issuer::new("good");
    let world = World::new(&[&issuer]);
    assert!(world.verify(&issuer).await.is_ok());
    for round in 1..=3 {
        tokio::time::advance(REFETCH_PAUSE).await;
        for n in 0..100 {
            let refused = world.verify(&Issuer::new(&format!("made-up-{n}"))).await;
            assert!(matches!(refused, Err(Refusal::UnknownKey)), "{refused:?}");
            assert!(
                world.verify(&issuer).await.is_ok(),
                "good tokens are taken meanwhile"
            );
        }
        assert_eq!(world.asked(), 1 + round, "one look each pause");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_used_on_while_their_server_is_down() {
    let (known, new) = (Issuer::new("known"), Issuer::new("new"));
    let world = World::new(&[&known]);
    assert!(world.verify(&known).await.is_ok());
    world.serve(None);
    tokio::time::advance(KEYS_AGE_MAX + MOMENT).await;
    assert!(world.verify(&known).await.is_ok());
    let unknown = world.verify(&new).await;
    assert!(matches!(unknown, Err(Refusal::KeysUnavailable(_))), "{unknown:?}");
    assert_eq!(world.asked(), 2, "a server that is down is not flooded either");
    tokio::time::advance(REFETCH_PAUSE).await;
    assert!(world.verify(&known).await.is_ok());
    assert_eq!(world.asked(), 3);

    // Not for ever: the key may have been withdrawn.
    tokio::time::advance(KEYS_STALE_MAX).await;
    let refused = world.verify(&known).await;
    assert!(matches!(refused, Err(Refusal::KeysUnavailable(_))), "{refused:?}");
    world.serve(Some(&[&known, &new]));
    tokio::time::advance(REFETCH_PAUSE).await;
    assert!(world.verify(&new).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn keys_that_make_no_sense_do_not_replace_those_that_do() {
    let issuer = Issuer::new("good");
    let world = World::new(&[&issuer]);
    assert!(world.verify(&issuer).await.is_ok());
    let many = vec![Issuer::new("other").jwk(); KEYS_MAX + 1];
    for document in [
        json!({"keys": []}),
        json!([]),
        json!({"keys": many}),
        json!("<html>"),
    ] {
        *world.server.document.lock().unwrap() = Some(document);
        tokio::time::advance(KEYS_AGE_MAX + MOMENT).await;
        assert!(world.verify(&issuer).await.is_ok());
    }
    assert_eq!(world.asked(), 5);
}

#[tokio::test(start_paused = true)]
async fn without_any_keys_nothing_is_told_of_a_token() {
    let issuer = Issuer::new("good");
    let world = World::new(&[&issuer]);
    world.serve(None);
    let unknown = world.verify(&issuer).await;
    assert!(matches!(unknown, Err(Refusal::KeysUnavailable(_))), "{unknown:?}");
    world.serve(Some(&[&issuer]));
    let unknown = world.verify(&issuer).await;
    assert!(
        matches!(unknown, Err(Refusal::KeysUnavailable(_))),
        "too early: {unknown:?}"
    );
    tokio::time::advance(REFETCH_PAUSE).await;
    assert!(world.verify(&issuer).await.is_ok());
}

/// Callers that give up, each of them while it asks for the keys, would otherwise keep them from all others.
#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_break_off_the_look() {
    let issuer = Issuer::new("good");
    let world = World::new(&[&issuer]);
    world.server.answers.forget_permits(Semaphore::MAX_PERMITS);
    let (verifier, token) = (world.verifier.clone(), signed(&issuer));
    let caller = tokio::spawn(async move { verifier.verify(&token).await });
    while world.asked() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    world.server.answers.add_permits(1);
    assert!(world.verify(&issuer).await.is_ok());
    assert_eq!(world.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_callers_at_once_ask_once() {
    let issuer = Issuer::new("good");
    let world = World::new(&[&issuer]);
    let callers = (0..50).map(|_| {
        let (verifier, token) = (world.verifier.clone(), signed(&issuer));
        tokio::spawn(async move { verifier.verify(&token).await })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(world.asked(), 1);
}

#[test]
fn keys_come_by_tls_or_from_this_machine() {
    for good in [
        JwksUrl::GOOGLE,
        "http://127.0.0.1:8080/keys",
        "http://[::1]/keys",
        "http://localhost/keys",
    ] {
        assert!(JwksUrl::new(good).is_ok(), "{good}");
    }
    for bad in [
        "http://issuer.example/keys",
        "http://localhost.evil.example/",
        "http://127.0.0.1.evil.example/",
        "file:///keys",
        "keys",
        "",
    ] {
        let refused = JwksUrl::new(bad);
        assert!(matches!(refused, Err(SourceError::Address { .. })), "{bad}");
    }
}

/// Answers one request with some bytes.
async fn answer(answer: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        let _ = peer.read(&mut [0; 4_096]).await.unwrap();
        // The client may have seen enough before it has all.
        let _ = peer.write_all(&answer).await;
    });
    url
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound() {
    let head =
        |status, length| format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nlocation: /\r\n\r\n");
    let long = [
        head("200 OK", DOCUMENT_BYTES_MAX + 1).into_bytes(),
        vec![b' '; DOCUMENT_BYTES_MAX + 1],
    ];
    let fetch = async |bytes| JwksUrl::new(&answer(bytes).await).unwrap().fetch().await;
    let good = fetch([head("200 OK", 2).as_bytes(), b"{}"].concat()).await;
    assert_eq!(good.unwrap(), "{}");
    let too_long = fetch(long.concat()).await;
    assert!(
        matches!(too_long, Err(SourceError::TooLong { .. })),
        "{too_long:?}"
    );
    let moved = fetch(head("302 Found", 0).into_bytes()).await;
    assert!(
        matches!(moved, Err(SourceError::Status { status: 302 })),
        "{moved:?}"
    );
    let broken = fetch(head("200 OK", 10).into_bytes()).await;
    assert!(matches!(broken, Err(SourceError::Unreachable(_))), "{broken:?}");
}
