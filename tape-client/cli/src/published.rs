//! A published head as a line of text: the stream's full name, a space and `SEQ:DIGEST`.

use std::fmt;
use std::str::FromStr;
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::limits::NUMBER_MAX;
use tape_client::core::payload::Digest;

/// Where a stream ended: its last entry, and the chain digest there.
pub(crate) type Head = (Seq, Digest);

/// Reads a head, as `tape verify` prints it. It has exactly one text form.
pub(crate) fn head(text: &str) -> Result<Head, String> {
    let form = || "a head is SEQ:DIGEST, as `tape verify` prints it".to_owned();
    let (seq, digest) = text.split_once(':').ok_or_else(form)?;
    let seq = Seq(seq.parse().map_err(|_| form())?);
    let digest: Digest = digest.parse().map_err(|_| form())?;
    // A number with a sign or zeros before it, or a digest in upper case, is another text.
    if format!("{seq}:{digest}") != text {
        return Err(form());
    }
    if !(1..=NUMBER_MAX).contains(&seq.0) {
        return Err(format!("a head is of an entry from 1 to {NUMBER_MAX}"));
    }
    Ok((seq, digest))
}

/// Where a stream ended when its head was published. It has exactly one text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) stream: StreamId,
    pub(crate) head: Head,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seq, digest) = self.head;
        write!(f, "{} {seq}:{digest}", self.stream)
    }
}

impl FromStr for Published {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a published head is STREAM SEQ:DIGEST, with the full name of the stream";
        let (name, of) = text.split_once(' ').ok_or(form)?;
        let stream = name.parse().map_err(|error| format!("{error}"))?;
        let head = head(of)?;
        let published = Self { stream, head };
        // A name with another escape is another line.
        if published.to_string() == text {
            Ok(published)
        } else {
            Err(format!("it is not as it is written: {published}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Published;
    use tape_client::core::payload::Digest;

    #[test]
    fn a_head_has_one_text_form() {
        let digest = Digest::of(b"\xfa");
        let line = format!("a%20b/value/rate 12:{digest}");
        assert_eq!(line.parse::<Published>().unwrap().to_string(), line);
        let upper = digest.to_string().to_uppercase();
        for other in [
            format!("a%20b/value/rate +12:{digest}"),
            format!("a%20b/value/rate 012:{digest}"),
            format!("a%20b/value/rate 12:{upper}"),
            format!("a%20b/value/rate 0:{digest}"),
            format!("a%20b/value/rate 9007199254740992:{digest}"),
            format!("a%20b/value/rate  12:{digest}"),
            format!("a%20b/value/rate 12:{digest} "),
            format!("a%20b/value/rate 12:{digest}\r"),
            format!("a b/value/rate 12:{digest}"),
            format!("acme/treasury/ann/s1/i1 12:{digest}"),
            "a%20b/value/rate".to_owned(),
            String::new(),
        ] {
            other.parse::<Published>().unwrap_err();
        }
    }
}
