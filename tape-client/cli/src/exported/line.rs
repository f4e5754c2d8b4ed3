//! The lines of a file, each in the one form that it has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::num::NonZeroU64;
use tape_client::core::json::Letters;
use tape_client::core::payload::Digest;

/// A line. Members that are not known are ignored.
pub(super) enum Line {
    Stream(StreamLine),
    Entry(EntryLine),
    End(EndLine),
    Footer(FooterLine),
}

#[derive(Deserialize)]
pub(super) struct StreamLine {
    pub(super) stream: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) head: Option<HeadLine>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) snapshot: Option<SnapshotLine>,
}

#[derive(Deserialize)]
pub(super) struct HeadLine {
    pub(super) seq: NonZeroU64,
    #[serde(deserialize_with = "digest")]
    pub(super) digest: Digest,
}

#[derive(Deserialize)]
pub(super) struct SnapshotLine {
    pub(super) seq: NonZeroU64,
    #[serde(deserialize_with = "digest")]
    pub(super) sha256: Digest,
    pub(super) bytes: String,
}

#[derive(Deserialize)]
pub(super) struct EntryLine {
    pub(super) seq: NonZeroU64,
    #[serde(deserialize_with = "digest")]
    pub(super) digest: Digest,
    pub(super) envelope: String,
    /// Absent where the bytes are gone; never null.
    #[serde(default, deserialize_with = "there")]
    pub(super) payload: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct EndLine {
    pub(super) end: String,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) broken: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct FooterLine {
    pub(super) streams: u64,
    pub(super) broken: u64,
}

impl Line {
    /// Reads a line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
        let letters = Letters::parse(text).map_err(|error| error.to_string())?;
        letters.check_texts().map_err(|error| error.to_string())?;
        let sorts = ["stream", "seq", "end", "streams"];
        let sorts: Vec<&str> = sorts
            .into_iter()
            .filter(|sort| letters.get(sort).is_some())
            .collect();
        let line = match sorts[..] {
            ["stream"] => serde_json::from_str(text).map(Self::Stream),
            ["seq"] => serde_json::from_str(text).map(Self::Entry),
            ["end"] => serde_json::from_str(text).map(Self::End),
            ["streams"] => serde_json::from_str(text).map(Self::Footer),
            _ => {
                return Err(
                    "it is neither a stream, an entry, the end of a stream nor the end of the file"
                        .to_owned(),
                );
            }
        };
        line.map_err(|error| error.to_string())
    }
}

/// Reads base64 in the one form that the bytes have: with padding, and without stray bits at the end.
pub(super) fn base64(text: &str) -> Result<Bytes, String> {
    let bytes = STANDARD.decode(text);
    bytes
        .map(Bytes::from)
        .map_err(|error| format!("not base64 in its only form: {error}"))
}

fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

fn digest<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(from)?;
    let digest: Digest = text.parse().map_err(D::Error::custom)?;
    if digest.to_string() != text {
        return Err(D::Error::custom("a digest is written in lower case"));
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::{Line, base64};

    #[test]
    fn a_line_has_one_form() {
        let parse = |text: &str| Line::parse(text.as_bytes()).map(drop);
        let digest = "ab".repeat(32);
        let entry = format!(r#"{{"seq":1,"digest":"{digest}","envelope":"{{}}","payload":""}}"#);
        parse(&entry).unwrap();
        parse(r#" {"new":[1e400,null],"broken":null, "end":"a" }"#).unwrap();
        parse(r#"{"stream":"a","head":null,"snapshot":null,"new":1,"new":2}"#).unwrap();
        for (from, to) in [
            (digest.as_str(), digest.to_uppercase().as_str()),
            (r#""payload":"""#, r#""payload":null"#),
            (r#""seq":1"#, r#""seq":0"#),
            (r#""seq":1"#, r#""seq":1.0"#),
            (r#""seq":1"#, r#""seq":1,"seq":1"#),
            (r#""seq":1"#, r#""seq":1,"end":"a""#),
            (r#""seq":1"#, r#""seq":1,"new":"\ud800""#),
            (r#""envelope":"{}""#, r#""new":1"#),
        ] {
            let other = entry.replace(from, to);
            assert_ne!(other, entry);
            assert!(parse(&other).is_err(), "{other}");
        }
        for text in [
            "",
            "null",
            "{}",
            r#"{"stream":"a","snapshot":null}"#,
            r#"{"stream":"a","head":null}"#,
            r#"{"end":"a"}"#,
            r#"{"streams":1}"#,
            r#"{"streams":1,"broken":-0}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Line::parse(b"{\"end\":\"\xff\",\"broken\":null}").is_err());
    }

    #[test]
    fn bytes_have_one_form() {
        assert_eq!(base64("MS4xMA==").unwrap(), "1.10");
        for text in ["MS4xMA=", "MS4xMA", "MS4xMB==", "MS4x\nMA==", "MS4xMA== "] {
            assert!(base64(text).is_err(), "{text}");
        }
    }
}
