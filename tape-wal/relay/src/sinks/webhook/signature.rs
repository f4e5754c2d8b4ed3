//! Signatures of Standard Webhooks: HMAC-SHA256 over the message's id, time and body.

use crate::event::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Fewest bytes of a secret.
pub const SECRET_BYTES_MIN: usize = 24;
/// Most bytes of a secret.
pub const SECRET_BYTES_MAX: usize = 64;

/// A secret that an endpoint shares: `whsec_` and 24 to 64 bytes in base64. It is never shown.
///
/// ```
/// use tape_relay::sinks::webhook::Secret;
/// let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A text is no secret of a webhook. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret is `{PREFIX}` and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes in base64, such as `openssl rand -base64 32` gives"
)]
pub struct InvalidSecret;

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(InvalidSecret)
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// One value of the header `webhook-signature`: `v1,` and the signature in base64.
///
/// # Panics
/// Never: a key of HMAC may have any length.
#[must_use]
pub fn signature(secret: &Secret, id: &str, seconds: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("a key may have any length");
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The header `webhook-id` of an event: `evt_` and the first 32 hexadecimal digits of the SHA-256 of `source`, a line feed and `id`. It is the
/// same however often the event is posted. The event's own `id` has full stops and letters that a header or the signed text cannot have.
#[must_use]
pub fn message_id(event: &Event) -> String {
    let source = event.attribute("source").unwrap_or_default();
    let digest = Sha256::digest(format!("{source}\n{}", event.id()));
    let digits = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("evt_{}", digits.collect::<String>())
}
