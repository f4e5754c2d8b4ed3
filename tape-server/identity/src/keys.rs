//! The keys of an issuer.

use crate::algorithm::Algorithm;
use crate::source::SourceError;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

/// Most keys of an issuer. Google has two or three at a time.
pub const KEYS_MAX: usize = 100;

/// The longest key id. Longer ones are not looked for.
pub const KID_BYTES_MAX: usize = 256;

/// The keys of an issuer by which it signs tokens.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// A JWK set (RFC 7517), each key still as it stands there: keys of kinds that this build does not know are left out.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Keys {
    /// The keys of a JWK set that verify signatures by an [`Algorithm`].
    pub(crate) fn parse(document: &[u8]) -> Result<Self, SourceError> {
        let document: Document = serde_json::from_slice(document).map_err(|_| SourceError::NotKeys)?;
        if document.keys.len() > KEYS_MAX {
            return Err(SourceError::TooManyKeys { max: KEYS_MAX });
        }
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::of).collect();
        // No keys would refuse everything: the ones known before are better than that.
        if keys.is_empty() {
            return Err(SourceError::NoKeys);
        }
        Ok(Self(keys))
    }

    /// The key with an id that signs by an algorithm.
    pub(crate) fn find(&self, id: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut keys = self.0.iter();
        let found = keys.find(|key| key.algorithm == algorithm && key.id == id);
        found.map(|key| &key.key)
    }
}

impl Key {
    /// None for a key that is not for signatures of an [`Algorithm`], or that has no id.
    fn of(jwk: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let id = jwk.common.key_id.clone()?;
        let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::Rs256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                (Algorithm::Es256, KeyAlgorithm::ES256)
            }
            _ => return None,
        };
        let other = jwk.common.key_algorithm.is_some_and(|other| other != named);
        if !signs || other || id.len() > KID_BYTES_MAX {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id, algorithm, key })
    }
}
