//! Signatures over requests, so that an agent's endpoint can authenticate a re-drive.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::time::Duration;

/// The header that has the signature: `t=SECONDS,v1=HEX`, where `HEX` is the HMAC-SHA256, under a shared secret, of
/// `SECONDS`, a full stop and the body. `SECONDS` is Unix time.
pub const SIGNATURE_HEADER: &str = "tape-signature";

/// The value of the header [`SIGNATURE_HEADER`] for a body that is sent at a time. A signature under an empty secret does not verify.
#[must_use]
pub fn sign(secret: &[u8], unix_seconds: u64, body: &[u8]) -> String {
    let code = hex::encode(mac(secret, unix_seconds, body).finalize().into_bytes());
    format!("t={unix_seconds},v1={code}")
}

/// Whether a header's value signs a body under a secret, at a time that is at most `tolerance` away from `now` (Unix seconds). Within the
/// tolerance, an eavesdropper can replay a request. That does no harm, since a run is adopted from an epoch once: the second adoption is
/// refused. An empty secret, such as from an unset variable, verifies nothing: it is no secret.
#[must_use]
pub fn verify(secret: &[u8], header: &str, body: &[u8], now: u64, tolerance: Duration) -> bool {
    let Some((time, code)) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
        return false;
    };
    let (Ok(time), Ok(code)) = (time.parse::<u64>(), hex::decode(code)) else {
        return false;
    };
    let fresh = now.abs_diff(time) <= tolerance.as_secs();
    // Compared in constant time.
    fresh && !secret.is_empty() && mac(secret, time, body).verify_slice(&code).is_ok()
}

fn mac(secret: &[u8], unix_seconds: u64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key may have any length");
    mac.update(unix_seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_signs_only_the_body_only_for_a_while() {
        let tolerance = Duration::from_secs(300);
        let header = sign(b"secret", 1_000, b"body");
        assert!(verify(b"secret", &header, b"body", 1_200, tolerance));
        assert!(verify(b"secret", &header, b"body", 800, tolerance));
        assert!(!verify(b"secret", &header, b"body", 1_301, tolerance));
        assert!(!verify(b"other", &header, b"body", 1_000, tolerance));
        assert!(!verify(b"secret", &header, b"bodz", 1_000, tolerance));
        let moved = header.replace("t=1000", "t=1200");
        assert!(!verify(b"secret", &moved, b"body", 1_200, tolerance));
        for wrong in ["", "t=,v1=", "t=1000", "v1=00", "t=1000,v1=zz"] {
            assert!(!verify(b"secret", wrong, b"body", 1_000, tolerance), "{wrong}");
        }
    }

    #[test]
    fn an_empty_secret_verifies_nothing() {
        let forged = sign(b"", 1_000, b"body");
        assert!(!verify(b"", &forged, b"body", 1_000, Duration::from_secs(300)));
    }

    #[test]
    fn the_signature_is_the_same_in_every_build() {
        assert_eq!(
            sign(b"secret", 1_000, b"{}"),
            "t=1000,v1=026360fb6284f077f1148b1ae7c62679730497810a6a0321574de01e8b009e7a"
        );
    }
}
