//! The messages that were acknowledged, as long as they could be shown again.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;
use tape_core::time::Timestamp;
use tape_environment::micros;
use tape_identity::LEEWAY_MAX;

/// Most messages that are remembered, about 6 MB. Beyond that, those are forgotten whose tokens expire the soonest: a message that is shown
/// again then costs one more look at the agenda, which a message under a new id would cost, too.
const MESSAGES_MAX: usize = 65_536;

/// A message under a token.
type Key = [u8; 32];

/// The messages that were acknowledged under tokens that are still valid.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged(BTreeSet<(Timestamp, Key)>);

impl Acknowledged {
    /// Notes a message that came with a token, until the token is refused for its expiry. Returns whether it had not come before.
    pub(crate) fn note(&mut self, token: &str, expires: Timestamp, message_id: &str, now: Timestamp) -> bool {
        self.forget_expired(now);
        let new = self.0.insert((expires, key(token, message_id)));
        if self.0.len() > MESSAGES_MAX {
            self.0.pop_first();
        }
        new
    }

    fn forget_expired(&mut self, now: Timestamp) {
        let leeway: Duration = LEEWAY_MAX;
        let over = |expires: Timestamp| expires.as_micros().saturating_add(micros(leeway)) <= now.as_micros();
        while self.0.first().is_some_and(|(expires, _)| over(*expires)) {
            self.0.pop_first();
        }
    }
}

/// Of the token, only the signed part counts: some signatures can be written in another way and stay valid.
fn key(token: &str, message_id: &str) -> Key {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    let mut hash = Sha256::new();
    hash.update(signed);
    // A token has no such byte.
    hash.update([0]);
    hash.update(message_id);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{Acknowledged, MESSAGES_MAX};
    use tape_core::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_micros(1_795_348_800_000_000);

    #[test]
    fn a_message_comes_once_under_a_token() {
        let mut seen = Acknowledged::default();
        let expires = NOW.plus_millis(3_600_000);
        assert!(seen.note("a.b.c", expires, "1", NOW));
        assert!(!seen.note("a.b.c", expires, "1", NOW));
        assert!(
            !seen.note("a.b.d", expires, "1", NOW),
            "another form of the signature"
        );
        assert!(seen.note("a.b.c", expires, "2", NOW));
        assert!(seen.note("a.c.c", expires, "1", NOW));
    }

    #[test]
    fn a_message_is_remembered_until_its_token_is_refused() {
        let mut seen = Acknowledged::default();
        let expires = NOW.plus_millis(3_600_000);
        assert!(seen.note("a.b.c", expires, "1", NOW));
        let last = expires.plus_millis(299_999);
        assert!(!seen.note("a.b.c", expires, "1", last));
        assert!(seen.note("a.c.c", last, "1", expires.plus_millis(300_000)));
        assert_eq!(seen.0.len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut seen = Acknowledged::default();
        let soon = NOW.plus_millis(1_000);
        let later = NOW.plus_millis(2_000);
        assert!(seen.note("a.b.c", later, "kept", NOW));
        for n in 0..MESSAGES_MAX + 100 {
            assert!(seen.note("a.b.c", soon, &n.to_string(), NOW));
        }
        assert_eq!(seen.0.len(), MESSAGES_MAX);
        assert!(
            !seen.note("a.b.c", later, "kept", NOW),
            "the soonest to expire are forgotten first"
        );
    }
}
