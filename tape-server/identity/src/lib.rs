//! Verifies the identity tokens that a caller shows.
//!
//! An identity token is a signed JWT (RFC 7519) of OpenID Connect: an issuer says who the caller is, and for whom the token is meant. A
//! [`Verifier`] takes a token only if its signature is by a key of the issuer, and its claims are those that [`Expected`] names: issuer,
//! audience, account, times. It knows the issuer's keys from a [`KeySource`], usually a [`JwksUrl`].
//!
//! - Signatures are RS256 or ES256, verified by ring. Any other algorithm, `none` and the symmetric ones too, is refused before a key is
//!   looked for, so that no public key is ever taken for a secret.
//! - The keys are cached ([`KeyCache`]). A key id that is not known leads to another look, but seldom: callers cannot cause a flood of
//!   requests by made-up key ids. While the issuer's server is down, the keys seen before are used.
//! - Every bound is a constant here. No error and no line of the log has any part of a token.
//!
//! The crate does not know what an identity may do.

mod algorithm;
mod cache;
mod claims;
mod expected;
mod keys;
mod refusal;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod verifier;

pub use algorithm::Algorithm;
pub use cache::{KEYS_AGE_MAX, KEYS_STALE_MAX, KeyCache, REFETCH_PAUSE};
pub use expected::{Expected, LEEWAY_MAX};
pub use keys::{KEYS_MAX, KID_BYTES_MAX};
pub use refusal::{Claim, Refusal};
pub use source::{DOCUMENT_BYTES_MAX, JwksUrl, KeySource, SourceError};
pub use verifier::{Identity, TOKEN_BYTES_MAX, Verifier};
