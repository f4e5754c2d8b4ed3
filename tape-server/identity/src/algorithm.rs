//! The algorithms of signatures, over ring.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm as Jwa, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256};
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};

/// An algorithm of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 8192 bits.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rs256, Self::Es256];

    pub(crate) const fn of(jwa: Jwa) -> Option<Self> {
        match jwa {
            Jwa::RS256 => Some(Self::Rs256),
            Jwa::ES256 => Some(Self::Es256),
            _ => None,
        }
    }

    pub(crate) const fn jwa(self) -> Jwa {
        match self {
            Self::Rs256 => Jwa::RS256,
            Self::Es256 => Jwa::ES256,
        }
    }
}

/// Signatures by ring: the other providers need crates that a build must not have.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| unsupported(),
        rsa_pub_components_from_public_key: |_| unsupported(),
        ec_pub_components_from_private_key: |_, _| unsupported(),
        ed_pub_components_from_private_key: |_, _| unsupported(),
        compute_digest: |_, _| unsupported(),
    },
};

/// Lets jsonwebtoken use ring. Without a provider it panics at the first token.
pub(crate) fn install() {
    // A second call finds the first one's, or that of another part of the program, which works as well.
    let _ = RING.install_default();
}

fn unsupported<T>() -> Result<T, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

/// This crate signs nothing.
fn no_signer(_: &Jwa, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    unsupported()
}

fn verifier(jwa: &Jwa, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let algorithm = Algorithm::of(*jwa).ok_or(ErrorKind::UnsupportedAlgorithm)?;
    if key.family() != family(algorithm) {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = key.clone();
    Ok(Box::new(ByRing { algorithm, key }))
}

const fn family(algorithm: Algorithm) -> AlgorithmFamily {
    match algorithm {
        Algorithm::Rs256 => AlgorithmFamily::Rsa,
        Algorithm::Es256 => AlgorithmFamily::Ec,
    }
}

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Jwa {
        self.algorithm.jwa()
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (self.algorithm, self.key.kind()) {
            (Algorithm::Rs256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Algorithm::Es256, DecodingKeyKind::SecretOrDer(point)) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature)
            }
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}
