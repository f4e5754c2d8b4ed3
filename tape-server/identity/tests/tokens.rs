//! Which tokens are taken, and why the others are not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tape_environment::{Environment as _, Seeded};
use tape_identity::testing::{Issuer, token};
use tape_identity::{
    Algorithm, Claim, Expected, Identity, KeyCache, KeySource, Refusal, SourceError, TOKEN_BYTES_MAX,
    Verifier,
};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://reactor.example/push";
const ACCOUNT: &str = "push@project.iam.gserviceaccount.com";
const HOUR: i64 = 3_600;

/// Keys that never change, and how often they were asked for.
#[derive(Debug)]
struct Fixed(Value, AtomicUsize);

#[async_trait::async_trait]
impl KeySource for Fixed {
    async fn fetch(&self) -> Result<Bytes, SourceError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(self.0.to_string()))
    }
}

/// An issuer with a key of each kind, and what is expected of its tokens.
struct World {
    elliptic: Issuer,
    rsa: RsaKeyPair,
    environment: Arc<Seeded>,
    source: Arc<Fixed>,
    cache: Arc<KeyCache>,
}

fn rsa(der: &[u8]) -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(der).unwrap()
}

fn rsa_jwk(key_id: &str, key: &RsaKeyPair) -> Value {
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
    let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
    json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id,
        "n": n, "e": e,
    })
}

fn by_rsa(header: &Value, claims: &Value, key: &RsaKeyPair, encoding: &'static dyn RsaEncoding) -> String {
    token(header, claims, |message| {
        let mut signature = vec![0; key.public().modulus_len()];
        let random = SystemRandom::new();
        key.sign(encoding, &random, message, &mut signature).unwrap();
        signature
    })
}

impl World {
    fn new() -> Self {
        let elliptic = Issuer::new("elliptic");
        let rsa = rsa(include_bytes!("keys/issuer.pk8"));
        let environment = Arc::new(Seeded::new(1));
        let keys = json!({"keys": [
            elliptic.jwk(),
            rsa_jwk("rsa", &rsa),
            // What this build does not know does not keep it from the rest.
            {"kty": "AKP", "alg": "ML-DSA-44", "kid": "later"},
            {"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"},
            "no key",
        ]});
        let source = Arc::new(Fixed(keys, AtomicUsize::new(0)));
        let cache = Arc::new(KeyCache::new(source.clone(), environment.clone()));
        Self {
            elliptic,
            rsa,
            environment,
            source,
            cache,
        }
    }

    fn now(&self) -> i64 {
        self.environment.wall().as_micros() / 1_000_000
    }

    fn claims(&self) -> Value {
        json!({
            "iss": ISSUER, "sub": "1234", "aud": AUDIENCE, "iat": self.now(), "exp": self.now() + HOUR,
            "email": ACCOUNT, "email_verified": true,
        })
    }

    /// The usual claims, but for one; `null` is for none.
    fn but(&self, claim: &str, value: Value) -> Value {
        let mut claims = self.claims();
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(claim),
            value => claims.as_object_mut().unwrap().insert(claim.to_owned(), value),
        };
        claims
    }

    fn expected() -> Expected {
        Expected::new([ISSUER], [AUDIENCE]).of_account(ACCOUNT)
    }

    async fn verify_as(&self, expected: Expected, token: &str) -> Result<Identity, Refusal> {
        Verifier::new(expected, self.cache.clone(), self.environment.clone())
            .verify(token)
            .await
    }

    async fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        self.verify_as(Self::expected(), token).await
    }

    /// What comes of a token of the usual key with these claims.
    async fn judge(&self, claims: &Value) -> Result<Identity, Refusal> {
        self.verify(&self.elliptic.token(claims)).await
    }
}

macro_rules! refused {
    ($verified:expr, $refusal:pat) => {
        let verified = $verified.await;
        assert!(matches!(verified, Err($refusal)), "{verified:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_issuer_says_who_the_caller_is() {
    let world = World::new();
    let header = json!({"alg": "RS256", "kid": "rsa"});
    let tokens = [
        world.elliptic.token(&world.claims()),
        by_rsa(&header, &world.claims(), &world.rsa, &RSA_PKCS1_SHA256),
        world
            .elliptic
            .token(&world.but("aud", json!(["https://other.example", AUDIENCE]))),
        // Times with a fraction are allowed by RFC 7519.
        world
            .elliptic
            .token(&world.but("exp", json!(world.now() as f64 + 0.5))),
    ];
    for token in tokens {
        let identity = world.verify(&token).await.unwrap();
        assert_eq!(
            (identity.issuer.as_str(), identity.subject.as_str()),
            (ISSUER, "1234")
        );
        assert_eq!(identity.audience, AUDIENCE);
        assert_eq!(identity.email.as_deref(), Some(ACCOUNT));
        assert!(identity.expires.as_micros() > world.environment.wall().as_micros());
    }
    assert_eq!(
        world.source.1.load(Ordering::Relaxed),
        1,
        "the keys are fetched once"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_token_is_refused() {
    let world = World::new();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": alg, "kid": "elliptic"});
        let unsigned = token(&header, &world.claims(), |_| Vec::new());
        refused!(world.verify(&unsigned), Refusal::Algorithm);
    }
    let empty = token(
        &json!({"alg": "ES256", "kid": "elliptic"}),
        &world.claims(),
        |_| Vec::new(),
    );
    refused!(world.verify(&empty), Refusal::Signature);
    let zeros = token(
        &json!({"alg": "ES256", "kid": "elliptic"}),
        &world.claims(),
        |_| vec![0; 64],
    );
    refused!(world.verify(&zeros), Refusal::Signature);
}

#[tokio::test(start_paused = true)]
async fn a_public_key_is_no_secret() {
    let world = World::new();
    let modulus = PublicKeyComponents::<Vec<u8>>::from(world.rsa.public()).n;
    let public = world.rsa.public().as_ref().to_vec();
    let document = world.source.0.to_string().into_bytes();
    for (kid, secret) in [
        ("rsa", modulus),
        ("rsa", public),
        ("rsa", document),
        ("symmetric", b"secret".to_vec()),
    ] {
        let header = json!({"alg": "HS256", "kid": kid});
        let forged = token(&header, &world.claims(), |message| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            hmac::sign(&key, message).as_ref().to_vec()
        });
        refused!(world.verify(&forged), Refusal::Algorithm);
    }
    assert_eq!(world.source.1.load(Ordering::Relaxed), 0, "no key was looked for");
}

#[tokio::test(start_paused = true)]
async fn a_forged_signature_is_refused() {
    let world = World::new();
    // Another key under the name of the issuer's.
    let thief = Issuer::new("elliptic");
    refused!(world.verify(&thief.token(&world.claims())), Refusal::Signature);
    // With its key in the header, as some libraries believe.
    let header =
        json!({"alg": "ES256", "kid": "elliptic", "jwk": thief.jwk(), "jku": "http://127.0.0.1:1/keys"});
    refused!(
        world.verify(&thief.token_with(&header, &world.claims())),
        Refusal::Signature
    );
    let other = rsa(include_bytes!("keys/other.pk8"));
    let header = json!({"alg": "RS256", "kid": "rsa"});
    let forged = by_rsa(&header, &world.claims(), &other, &RSA_PKCS1_SHA256);
    refused!(world.verify(&forged), Refusal::Signature);
    // Claims that were changed after they were signed.
    let signed = world.elliptic.token(&world.but("sub", json!("5678")));
    let usual = world.elliptic.token(&world.claims());
    let (head, _) = usual.rsplit_once('.').unwrap();
    let (_, signature) = signed.rsplit_once('.').unwrap();
    refused!(world.verify(&format!("{head}.{signature}")), Refusal::Signature);
}

#[tokio::test(start_paused = true)]
async fn only_allowed_algorithms_are_taken() {
    let world = World::new();
    for alg in ["RS384", "RS512", "PS256", "ES384", "EdDSA", "HS512"] {
        let header = json!({"alg": alg, "kid": "rsa"});
        let signed = by_rsa(&header, &world.claims(), &world.rsa, &RSA_PKCS1_SHA512);
        refused!(world.verify(&signed), Refusal::Algorithm);
    }
    let only_rsa = World::expected().signed_by([Algorithm::Rs256]);
    let token = world.elliptic.token(&world.claims());
    refused!(world.verify_as(only_rsa, &token), Refusal::Algorithm);
    // The key is one of another algorithm.
    let header = json!({"alg": "ES256", "kid": "rsa"});
    refused!(
        world.verify(&world.elliptic.token_with(&header, &world.claims())),
        Refusal::UnknownKey
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_id_finds_a_key_of_the_issuer_or_nothing() {
    let world = World::new();
    let long = "k".repeat(10_000);
    let ids = [
        "unknown",
        "",
        "ELLIPTIC",
        "elliptic\0",
        "../../../../etc/passwd",
        "/dev/null",
        "' OR 1=1 --",
        "http://127.0.0.1:1/key",
        &long,
    ];
    for id in ids {
        let header = json!({"alg": "ES256", "kid": id});
        let token = world.elliptic.token_with(&header, &world.claims());
        refused!(world.verify(&token), Refusal::UnknownKey);
    }
    let header = json!({"alg": "ES256"});
    refused!(
        world.verify(&world.elliptic.token_with(&header, &world.claims())),
        Refusal::Malformed { .. }
    );
    assert_eq!(
        world.source.1.load(Ordering::Relaxed),
        1,
        "made-up ids cause no flood"
    );
    assert!(world.judge(&world.claims()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_for_its_time() {
    let world = World::new();
    let now = world.now();
    let strict = || World::expected().leeway(Duration::ZERO);
    for (claim, value) in [("exp", now), ("exp", now - 1), ("exp", 0)] {
        let token = world.elliptic.token(&world.but(claim, json!(value)));
        refused!(world.verify_as(strict(), &token), Refusal::Expired);
    }
    for (claim, value) in [("nbf", now + 1), ("iat", now + 1), ("nbf", now + 100 * HOUR)] {
        let token = world.elliptic.token(&world.but(claim, json!(value)));
        refused!(world.verify_as(strict(), &token), Refusal::NotYetValid);
    }
    // The leeway is for clocks that differ, and has a bound.
    let within = |leeway| World::expected().leeway(Duration::from_secs(leeway));
    for (claim, value, leeway, good) in [
        ("exp", now - 9, 10, true),
        ("exp", now - 10, 10, false),
        ("nbf", now + 10, 10, true),
        ("nbf", now + 11, 10, false),
        ("exp", now - 299, 1_000_000, true),
        ("exp", now - 300, 1_000_000, false),
    ] {
        let token = world.elliptic.token(&world.but(claim, json!(value)));
        let verified = world.verify_as(within(leeway), &token).await;
        assert_eq!(verified.is_ok(), good, "{claim} {value} {leeway}: {verified:?}");
    }
    // It expires while it is used.
    let token = world.elliptic.token(&world.claims());
    assert!(world.verify(&token).await.is_ok());
    tokio::time::advance(Duration::from_secs(2 * 3_600)).await;
    refused!(world.verify(&token), Refusal::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_token_for_or_by_others_is_refused() {
    let world = World::new();
    for audience in [
        json!("https://other.example"),
        json!(AUDIENCE.to_uppercase()),
        json!(format!("{AUDIENCE}/")),
        json!(""),
        json!([]),
        json!(["https://other.example"]),
    ] {
        refused!(world.judge(&world.but("aud", audience)), Refusal::Audience);
    }
    for issuer in ["https://evil.example", "https://issuer.example/", ""] {
        refused!(world.judge(&world.but("iss", json!(issuer))), Refusal::Issuer);
    }
    // A verifier that expects nothing takes nothing.
    let token = world.elliptic.token(&world.claims());
    let none: [&str; 0] = [];
    refused!(
        world.verify_as(Expected::new([ISSUER], none), &token),
        Refusal::Audience
    );
    refused!(
        world.verify_as(Expected::new(none, [AUDIENCE]), &token),
        Refusal::Issuer
    );
    refused!(
        world.verify_as(Expected::of_google([AUDIENCE]), &token),
        Refusal::Algorithm
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_or_an_unverified_account_is_refused() {
    let world = World::new();
    refused!(
        world.judge(&world.but("email", json!("other@project.iam.gserviceaccount.com"))),
        Refusal::Account
    );
    refused!(
        world.judge(&world.but("email_verified", json!(false))),
        Refusal::EmailNotVerified
    );
    refused!(
        world.judge(&world.but("email_verified", json!("true"))),
        Refusal::Invalid(Claim::EmailVerified)
    );
    // Without an expected account, an address counts only where it is verified.
    let anyone = || Expected::new([ISSUER], [AUDIENCE]);
    for (verified, email) in [
        (json!(true), Some(ACCOUNT)),
        (json!(false), None),
        (Value::Null, None),
    ] {
        let token = world.elliptic.token(&world.but("email_verified", verified));
        let identity = world.verify_as(anyone(), &token).await.unwrap();
        assert_eq!(identity.email.as_deref(), email);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_missing_or_of_another_type_is_named() {
    let world = World::new();
    let claims = [
        Claim::Issuer,
        Claim::Subject,
        Claim::Audience,
        Claim::Expiry,
        Claim::Email,
        Claim::EmailVerified,
    ];
    for claim in claims {
        let judged = world.judge(&world.but(claim.name(), Value::Null)).await;
        assert!(
            matches!(judged, Err(Refusal::Missing(missing)) if missing == claim),
            "{judged:?}"
        );
    }
    let odd = [
        (Claim::Issuer, json!([ISSUER])),
        (Claim::Subject, json!(7)),
        (Claim::Audience, json!(7)),
        (Claim::Audience, json!([AUDIENCE, 7])),
        (Claim::Expiry, json!("4102444800")),
        (Claim::Expiry, json!(-1)),
        (Claim::Expiry, json!(1e300)),
        (Claim::NotBefore, json!("now")),
        (Claim::IssuedAt, json!({})),
        (Claim::Email, json!(["a@b"])),
    ];
    for (claim, value) in odd {
        let judged = world.judge(&world.but(claim.name(), value.clone())).await;
        assert!(
            matches!(judged, Err(Refusal::Invalid(invalid)) if invalid == claim),
            "{value}: {judged:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_is_refused() {
    let world = World::new();
    let good = world.elliptic.token(&world.claims());
    let no_claims = world.elliptic.token(&json!([1, 2]));
    let critical = json!({"alg": "ES256", "kid": "elliptic", "crit": ["exp"], "exp": 1});
    let critical = world.elliptic.token_with(&critical, &world.claims());
    let parts = format!("{good}.{good}");
    for odd in [
        "",
        ".",
        "..",
        "a.b.c",
        "Bearer x",
        "\u{0}",
        &no_claims,
        &critical,
        &parts,
        &format!(" {good}"),
    ] {
        refused!(world.verify(odd), Refusal::Malformed { .. } | Refusal::Signature);
    }
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    refused!(world.verify(&long), Refusal::TooLong { .. });
    // A good token that is too long.
    let long = world.but("more", json!("a".repeat(TOKEN_BYTES_MAX)));
    refused!(world.judge(&long), Refusal::TooLong { .. });
}

#[tokio::test(start_paused = true)]
async fn no_refusal_repeats_a_part_of_the_token() {
    let world = World::new();
    let secret = "c0ffee-secret";
    let header = json!({"alg": secret, "kid": secret});
    let tokens = [
        world
            .elliptic
            .token_with(&header, &world.but("email", json!(secret))),
        world.elliptic.token(&world.but("aud", json!(secret))),
        world.elliptic.token(&world.but("exp", json!(secret))),
        world.elliptic.token(&world.but("email", json!(secret))),
        world
            .elliptic
            .token_with(&json!({"alg": "ES256", "kid": secret}), &world.claims()),
        secret.to_owned(),
    ];
    for token in tokens {
        let refusal = world.verify(&token).await.unwrap_err();
        let said = format!("{refusal} {refusal:?}");
        assert!(!said.contains(secret), "{said}");
    }
}
