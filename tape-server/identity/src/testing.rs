//! An issuer for tests, with a key of its own for each that is asked for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// A key of an issuer, which signs tokens by ES256.
#[derive(Debug)]
pub struct Issuer {
    key_id: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    /// A new key.
    ///
    /// # Panics
    /// Where the system has no randomness.
    #[must_use]
    pub fn new(key_id: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("the system has random bits");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
        Self {
            key_id: key_id.to_owned(),
            key: key.expect("it was made just now"),
            random,
        }
    }

    /// Its public key, as one of a JWK set.
    #[must_use]
    pub fn jwk(&self) -> Value {
        // The point uncompressed: a byte 4, x and y.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        })
    }

    /// A token with these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.key_id});
        self.token_with(&header, claims)
    }

    /// A token with another header, which this key signs by ES256 whatever the header says.
    ///
    /// # Panics
    /// Where the system has no randomness.
    #[must_use]
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        token(header, claims, |message| {
            let signature = self.key.sign(&self.random, message);
            signature.expect("the system has random bits").as_ref().to_vec()
        })
    }
}

/// A JWK set of these keys.
#[must_use]
pub fn jwks(issuers: &[&Issuer]) -> Value {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    json!({ "keys": keys })
}

/// A token that is signed in any way.
#[must_use]
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}
