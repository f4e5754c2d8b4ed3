//! The log of heads: a published head a line, of one tenant, and only ever longer.

use super::merkle;
use crate::published::{Head, Published};
use std::collections::BTreeMap;
use tape_client::core::id::{Seq, StreamId, Tenant};
use tape_client::core::payload::Digest;

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it stands in the log, from 0.
    pub(crate) index: usize,
    pub(crate) head: Head,
}

/// The lines of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    leaves: Vec<Digest>,
    /// Of each stream, in the order of the log: never none.
    lines: BTreeMap<StreamId, Vec<Line>>,
}

/// Parts the bytes of a log after its last whole line. What comes after it was not written to its end.
pub(crate) fn whole(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    bytes.split_at(end.map_or(0, |end| end + 1))
}

/// The first lines of a log, where it has that many whole ones.
pub(crate) fn first(bytes: &[u8], size: usize) -> Option<&[u8]> {
    let Some(last) = size.checked_sub(1) else {
        return Some(&[]);
    };
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    ends.nth(last).map(|(end, _)| &bytes[..=end])
}

/// The root over whole lines, whatever they say.
pub(crate) fn root(whole: &[u8]) -> Digest {
    let leaves: Vec<Digest> = whole
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| merkle::leaf(&line[..line.len() - 1]))
        .collect();
    merkle::root(&leaves)
}

impl Log {
    /// Reads whole lines.
    ///
    /// # Errors
    /// Where a line is no published head, is of another tenant than the first, or has a head of its stream that is not beyond those before.
    pub(crate) fn parse(whole: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(whole).map_err(|_| "it is not UTF-8".to_owned())?;
        let mut log = Self::default();
        for line in text.split_terminator('\n') {
            let n = log.size() + 1;
            let wrong = |problem: String| format!("line {n}: {problem}");
            let published = line.parse().map_err(wrong)?;
            log.push(published).map_err(wrong)?;
        }
        Ok(log)
    }

    /// Appends a line.
    ///
    /// # Errors
    /// As [`Log::parse`].
    pub(crate) fn push(&mut self, published: Published) -> Result<(), String> {
        let leaf = merkle::leaf(published.to_string().as_bytes());
        let Published { stream, head } = published;
        if let Some(tenant) = self.tenant().filter(|tenant| *tenant != stream.tenant()) {
            return Err(format!("{stream} is of another tenant, the log is of '{tenant}'"));
        }
        let before = self.newest(&stream).map_or(Seq::ZERO, |line| line.head.0);
        if head.0 <= before {
            let seq = head.0;
            return Err(format!(
                "{stream} is at entry {seq}, and was at {before} in a line before"
            ));
        }
        let index = self.size();
        self.lines.entry(stream).or_default().push(Line { index, head });
        self.leaves.push(leaf);
        Ok(())
    }

    /// The number of lines.
    pub(crate) const fn size(&self) -> usize {
        self.leaves.len()
    }

    /// The hashes of the lines.
    pub(crate) fn leaves(&self) -> &[Digest] {
        &self.leaves
    }

    /// The tenant of all lines; none of an empty log.
    pub(crate) fn tenant(&self) -> Option<&Tenant> {
        self.lines.keys().next().map(StreamId::tenant)
    }

    /// The last line of a stream.
    pub(crate) fn newest(&self, stream: &StreamId) -> Option<Line> {
        self.lines.get(stream).and_then(|lines| lines.last()).copied()
    }

    /// The streams that have a line.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamId> {
        self.lines.keys()
    }

    /// All heads of each stream.
    pub(crate) fn into_heads(self) -> BTreeMap<StreamId, Vec<Head>> {
        let of = |(stream, lines): (StreamId, Vec<Line>)| {
            (stream, lines.into_iter().map(|line| line.head).collect())
        };
        self.lines.into_iter().map(of).collect()
    }

    /// Whether a line is due for a stream that ends at `present` now, or not at all.
    ///
    /// # Errors
    /// How the stream went back behind its last line.
    pub(crate) fn is_due(&self, stream: &StreamId, present: Option<Head>) -> Result<bool, String> {
        let newest = self.newest(stream).map(|line| line.head);
        match (newest, present) {
            (None, present) => Ok(present.is_some()),
            (Some((seq, _)), None) => Err(format!("the log has it at entry {seq}, and it is gone")),
            (Some((seq, _)), Some((now, _))) if now < seq => {
                Err(format!("the log has it at entry {seq}, and it ends at {now}"))
            }
            (Some((seq, digest)), Some((now, other))) if now == seq && digest != other => Err(format!(
                "the log has entry {seq} with digest {digest}, and it is {other} now"
            )),
            (Some((seq, _)), Some((now, _))) => Ok(now > seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::merkle;
    use super::{Log, first, root, whole};
    use crate::published::Published;
    use tape_client::core::id::{Seq, StreamId};
    use tape_client::core::payload::Digest;

    fn line(stream: &str, seq: u64, of: &str) -> String {
        format!("{stream} {seq}:{}\n", Digest::of(of.as_bytes()))
    }

    fn text() -> String {
        [
            line("acme/value/rate", 2, "a"),
            line("acme/run/treasury/ann/s1/i1", 7, "b"),
            line("acme/value/rate", 3, "c"),
        ]
        .concat()
    }

    fn rate() -> StreamId {
        "acme/value/rate".parse().unwrap()
    }

    #[test]
    fn lines_are_read_with_all_heads_of_each_stream() {
        let text = text();
        let log = Log::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (log.size(), log.tenant().unwrap().as_str(), log.streams().count()),
            (3, "acme", 2)
        );
        assert_eq!(log.newest(&rate()).unwrap().index, 2);
        assert_eq!(root(text.as_bytes()), merkle::root(log.leaves()));
        let heads = log.into_heads();
        assert_eq!(
            heads[&rate()],
            [(Seq(2), Digest::of(b"a")), (Seq(3), Digest::of(b"c"))]
        );
        assert_eq!(Log::parse(b"").unwrap().size(), 0);
    }

    #[test]
    fn every_bit_of_a_log_counts() {
        let text = text();
        let root_of = |bytes: &[u8]| first(bytes, 3).map(root);
        let expected = root_of(text.as_bytes());
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(root_of(&bytes), expected, "bit {bit}");
        }
    }

    #[test]
    fn lines_that_cannot_follow_are_refused() {
        for (more, told) in [
            (
                line("acme/value/rate", 3, "d"),
                "line 4: acme/value/rate is at entry 3",
            ),
            (
                line("acme/value/rate", 2, "a"),
                "line 4: acme/value/rate is at entry 2",
            ),
            (
                line("acme/value/new", 0, "a"),
                "line 4: a head is of an entry from 1 to",
            ),
            (
                line("other/value/rate", 9, "d"),
                "of another tenant, the log is of 'acme'",
            ),
            ("\n".to_owned(), "line 4: a published head is"),
            (line("acme/value/rate", 9, "d").replace('\n', "\r\n"), "line 4: "),
        ] {
            let error = Log::parse((text() + &more).as_bytes()).unwrap_err();
            assert!(error.contains(told), "{more}: {error}");
        }
        assert_eq!(Log::parse(b"\xff\n").unwrap_err(), "it is not UTF-8");
    }

    #[test]
    fn only_whole_lines_count() {
        assert_eq!(whole(b"a\nb\nc"), (&b"a\nb\n"[..], &b"c"[..]));
        assert_eq!(whole(b"a\n"), (&b"a\n"[..], &b""[..]));
        assert_eq!(whole(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(first(b"a\nb\nc", 2), Some(&b"a\nb\n"[..]));
        assert_eq!(first(b"a\nb\nc", 0), Some(&b""[..]));
        assert_eq!(first(b"a\nb\nc", 3), None);
    }

    #[test]
    fn a_stream_gets_a_line_where_it_went_on_and_none_may_go_back() {
        let log = Log::parse(text().as_bytes()).unwrap();
        let due = |stream: &str, present: Option<(u64, &str)>| {
            let present = present.map(|(seq, of)| (Seq(seq), Digest::of(of.as_bytes())));
            log.is_due(&stream.parse().unwrap(), present)
        };
        assert_eq!(due("acme/value/rate", Some((3, "c"))), Ok(false));
        assert_eq!(due("acme/value/rate", Some((4, "d"))), Ok(true));
        assert_eq!(due("acme/value/new", Some((1, "n"))), Ok(true));
        assert_eq!(due("acme/value/new", None), Ok(false));
        for (present, told) in [
            (None, "it is gone"),
            (Some((2, "a")), "it ends at 2"),
            (Some((3, "x")), "digest"),
        ] {
            let error = due("acme/value/rate", present).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_is_pushed_is_what_would_be_read() {
        let mut log = Log::default();
        for line in text().lines() {
            log.push(line.parse::<Published>().unwrap()).unwrap();
        }
        assert_eq!(merkle::root(log.leaves()), root(text().as_bytes()));
        log.push(line("acme/value/rate", 3, "c").trim_end().parse().unwrap())
            .unwrap_err();
        assert_eq!(log.size(), 3, "nothing was added");
    }
}
