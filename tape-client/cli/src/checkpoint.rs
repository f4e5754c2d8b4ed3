//! Checkpoints: the root of a log of published heads, for signing and for witnesses (docs/checkpoints.md).
//!
//! Nothing here reads or writes files.

pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod merkle;
pub(crate) mod note;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;
use tape_client::core::payload::Digest;

/// The form in which a checkpoint and a proof have a hash.
pub(crate) fn base64(hash: &Digest) -> String {
    STANDARD.encode(hash.0)
}

/// The first lines of a log: how many, and the root of the Merkle tree over them. Its text is that of C2SP `tlog-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The name of the log.
    pub(crate) origin: String,
    /// How many lines of the log it covers.
    pub(crate) size: u64,
    /// The root over these lines.
    pub(crate) root: Digest,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root } = self;
        write!(f, "{origin}\n{size}\n{}\n", base64(root))
    }
}

/// A text is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no checkpoint: {0}")]
pub(crate) struct Malformed(&'static str);

impl FromStr for Checkpoint {
    type Err = Malformed;

    /// Reads the text of a checkpoint. Lines of extensions after the root are passed over: they say nothing about the log.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let text = text
            .strip_suffix('\n')
            .ok_or(Malformed("its last line has no end"))?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().filter(|line| !line.is_empty());
        let origin = line().ok_or(Malformed("it has no origin"))?.to_owned();
        let size = line()
            .and_then(decimal)
            .ok_or(Malformed("its second line is no size"))?;
        let root = line()
            .and_then(hash)
            .ok_or(Malformed("its third line is no root"))?;
        if lines.any(str::is_empty) {
            return Err(Malformed("it has an empty line"));
        }
        Ok(Self { origin, size, root })
    }
}

/// A number as it is written: no sign, and no zero before another digit.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn hash(text: &str) -> Option<Digest> {
    let bytes = STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(Digest)
}

#[cfg(test)]
mod tests {
    use super::key::{PrivateKey, VerifierKey};
    use super::log::Log;
    use super::{Checkpoint, base64, merkle, note};
    use tape_client::core::payload::Digest;

    /// The example of C2SP `tlog-checkpoint`.
    const EXAMPLE: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let read: Checkpoint = EXAMPLE.parse().unwrap();
        assert_eq!(
            (read.origin.as_str(), read.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(read.to_string(), EXAMPLE);
        let extended = format!("{EXAMPLE}extension\n");
        assert_eq!(extended.parse::<Checkpoint>().unwrap(), read);
    }

    #[test]
    fn what_is_written_otherwise_is_no_checkpoint() {
        for (from, to) in [
            ("20852163", "020852163"),
            ("20852163", "+20852163"),
            ("20852163", ""),
            ("20852163", "99999999999999999999"),
            ("example.com/behind-the-sofa", ""),
            ("q2I=", "q2I"),
            ("q2I=", "q2J="),
            ("CsUY", ""),
            ("q2I=\n", "q2I="),
            ("q2I=\n", "q2I=\n\n"),
            ("q2I=\n", "q2I=\n\nextension\n"),
        ] {
            let text = EXAMPLE.replacen(from, to, 1);
            text.parse::<Checkpoint>().unwrap_err();
        }
    }

    /// A block of the page about checkpoints.
    fn example(name: &str) -> &'static str {
        let page = include_str!("../../../docs/checkpoints.md");
        let begin = format!("\n```text vector={name}\n");
        let (_, block) = page.split_once(&begin).unwrap();
        let (block, _) = block.split_once("```\n").unwrap();
        block
    }

    #[test]
    fn the_page_says_what_is_written() {
        let private = "PRIVATE+KEY+tape/acme+c6385ef0+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
        let key: PrivateKey = private.parse().unwrap();
        assert_eq!(format!("{}\n", key.verifier()), example("key"));
        let public: VerifierKey = example("key").trim_end().parse().unwrap();
        let log = Log::parse(example("log").as_bytes()).unwrap();
        let checkpoint = Checkpoint {
            origin: public.name().to_string(),
            size: log.size() as u64,
            root: merkle::root(log.leaves()),
        };
        assert_eq!(note::sign(&checkpoint.to_string(), &key), example("checkpoint"));
        let text = note::open(example("checkpoint"), &public).unwrap();
        assert_eq!(text.parse(), Ok(checkpoint));
        let hashes =
            |proof: Vec<Digest>| -> String { proof.iter().map(|hash| base64(hash) + "\n").collect() };
        let consistency = merkle::consistency(2, log.leaves());
        assert_eq!(hashes(consistency), example("consistency"));
        let line = log.newest(&"acme/value/rate".parse().unwrap()).unwrap();
        let inclusion = hashes(merkle::inclusion(line.index, log.leaves()));
        let inclusion = format!("index {}\nsize {}\n{inclusion}", line.index, log.size());
        assert_eq!(inclusion, example("inclusion"));
    }
}
