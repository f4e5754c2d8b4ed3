//! Verifies tokens.

use crate::algorithm::{self, Algorithm};
use crate::cache::KeyCache;
use crate::claims::Claims;
use crate::expected::Expected;
use crate::refusal::Refusal;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use std::sync::Arc;
use tape_core::time::Timestamp;
use tape_environment::Environment;

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Verifies identity tokens of one kind. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Verifier {
    expected: Arc<Expected>,
    keys: Arc<KeyCache>,
    environment: Arc<dyn Environment>,
}

/// Whom a verified token is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The issuer, as it stands in the token.
    pub issuer: String,
    /// The account, by the issuer's own id, which it gives to no other account.
    pub subject: String,
    /// The expected audience that the token is for.
    pub audience: String,
    /// The account's email address, if the token has one that the issuer has verified.
    pub email: Option<String>,
    /// From when on the token is not valid, by the issuer's clock.
    pub expires: Timestamp,
}

impl Verifier {
    /// A verifier of tokens that say what is expected, signed by a key of `keys`. Their times are judged by the clock of `environment`.
    #[must_use]
    pub fn new(expected: Expected, keys: Arc<KeyCache>, environment: Arc<dyn Environment>) -> Self {
        algorithm::install();
        Self {
            expected: Arc::new(expected),
            keys,
            environment,
        }
    }

    /// Whom a token is about. The token is the JWT alone, without a word such as `Bearer` before it.
    ///
    /// # Errors
    /// [`Refusal`] says why it is not taken. Only [`Refusal::KeysUnavailable`] says nothing about the token.
    pub async fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            let max = TOKEN_BYTES_MAX;
            return Err(Refusal::TooLong { max });
        }
        let (key_id, algorithm) = self.header(token)?;
        let key = self.keys.key(&key_id, algorithm).await?;
        let claims = decode::<Claims>(token, &key, &signature_only(algorithm));
        let claims = claims.map_err(|error| refusal(error.kind()))?.claims;
        claims.check(&self.expected, self.environment.wall())
    }

    /// The key that a token names, and the algorithm, if it is an allowed one.
    fn header(&self, token: &str) -> Result<(String, Algorithm), Refusal> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // An algorithm that is not known by name, such as `none`.
            ErrorKind::Json(problem) if problem.is_data() => Refusal::Algorithm,
            kind => refusal(kind),
        })?;
        let algorithm = Algorithm::of(header.alg).ok_or(Refusal::Algorithm)?;
        if !self.expected.algorithms.contains(&algorithm) {
            return Err(Refusal::Algorithm);
        }
        let key_id = header.kid.ok_or(Refusal::Malformed {
            problem: "its header names no key",
        })?;
        Ok((key_id, algorithm))
    }
}

/// The claims are checked here by the environment's clock, and by rules that name the claim.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm.jwa());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn refusal(kind: &ErrorKind) -> Refusal {
    let malformed = |problem| Refusal::Malformed { problem };
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat => Refusal::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        ErrorKind::Base64(_) => malformed("a part of it is not base64url"),
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => {
            malformed("its header or its claims are not the expected JSON")
        }
        _ => malformed("it has not three parts, or its header asks for what is not known here"),
    }
}
