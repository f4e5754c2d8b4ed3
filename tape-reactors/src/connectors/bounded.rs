//! Answers of any length: kept up to a bound, counted and digested beyond it.

use sha2::{Digest as _, Sha256};
use tape_core::limits::PAYLOAD_BYTES_MAX;
use tape_core::payload::{Digest, Head, Payload, Unkept};

/// Most bytes of an answer that are kept to be parsed.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most bytes of an answer that are read.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The bytes of an answer.
#[derive(Clone, Default)]
pub(super) struct Bounded {
    kept: Vec<u8>,
    len: u64,
    /// Whether more bytes came after those that are read.
    more: bool,
    digest: Sha256,
}

impl Bounded {
    /// Takes the next bytes; false where no more are kept or counted.
    pub(super) fn push(&mut self, chunk: &[u8]) -> bool {
        if self.len >= READ_BYTES_MAX && !chunk.is_empty() {
            self.more = true;
            return false;
        }
        let room = KEPT_BYTES_MAX - self.kept.len();
        self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.len = self.len.saturating_add(chunk.len() as u64);
        self.digest.update(chunk);
        true
    }

    /// All bytes; none where only the first of them are kept.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        let whole = self.len == self.kept.len() as u64 && !self.more;
        whole.then_some(self.kept.as_slice())
    }

    /// The first bytes.
    pub(super) fn head(&self) -> &[u8] {
        &self.kept
    }

    /// As much of the bytes as a payload can keep.
    pub(super) fn payload(&self, content_type: &str) -> Payload {
        match self.whole().filter(|whole| whole.len() <= PAYLOAD_BYTES_MAX) {
            Some(whole) => Payload::kept(content_type, whole.to_vec()),
            None => Payload::unkept(&Unkept {
                content_type: content_type.to_owned(),
                len: self.len,
                more: self.more,
                sha256: (!self.more).then(|| Digest(self.digest.clone().finalize().into())),
                head: Head::of(&self.kept),
            }),
        }
    }
}

#[cfg(test)]
impl From<&[u8]> for Bounded {
    fn from(bytes: &[u8]) -> Self {
        let mut bounded = Self::default();
        bounded.push(bytes);
        bounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_counted_and_digested_and_its_begin_kept() {
        let mut answer = Bounded::default();
        let chunk = vec![b'x'; 1 << 20];
        assert!(answer.push(&chunk));
        assert_eq!(answer.payload("text/plain").len(), 1 << 20);
        assert!(answer.push(b"y"));
        assert!(answer.whole().is_some(), "it can still be understood");
        let unkept = answer.payload("text/plain").as_unkept().unwrap();
        assert_eq!((unkept.len, unkept.more), ((1 << 20) + 1, false));
        let all = [&chunk[..], b"y"].concat();
        assert_eq!(unkept.sha256, Some(Digest::of(&all)));
        assert_eq!(unkept.content_type, "text/plain");
        assert!(all.starts_with(&unkept.head.0) && !unkept.head.0.is_empty());
    }

    #[test]
    fn an_answer_without_end_is_not_read_for_ever() {
        let mut answer = Bounded::default();
        let chunk = vec![b'x'; 1 << 20];
        let chunks = (0..1000).take_while(|_| answer.push(&chunk)).count();
        assert_eq!(chunks, 64);
        assert!(answer.whole().is_none());
        let unkept = answer.payload("text/plain").as_unkept().unwrap();
        assert_eq!((unkept.len, unkept.more, unkept.sha256), (64 << 20, true, None));
    }
}
