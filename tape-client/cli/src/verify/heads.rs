//! Published heads: the lines of an earlier `tape verify --json`, or of `tape heads`. The section Export of docs/format.md has their form.

use crate::published::Published;
pub(super) use crate::published::head;
use serde::{Deserialize, Deserializer};
use std::path::Path;
pub(crate) use tape_cli::exported::Heads;
use tape_client::Error;
use tape_client::core::json::Letters;

/// A line that has a head; others are skipped.
#[derive(Deserialize)]
struct Line {
    #[serde(default, deserialize_with = "there")]
    run: Option<String>,
    #[serde(default, deserialize_with = "there")]
    stream: Option<String>,
    #[serde(default, deserialize_with = "there")]
    head: Option<String>,
}

/// A member that is absent or a text; never null.
fn there<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// Reads a file of heads.
pub(super) fn read(path: &Path) -> Result<Heads, Error> {
    let invalid = |problem: String| Error::Invalid {
        what: "heads",
        problem: format!("{}: {problem}", path.display()),
    };
    let text = std::fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
    parse(&text).map_err(invalid)
}

fn parse(text: &str) -> Result<Heads, String> {
    let mut heads = Heads::new();
    for (n, line) in (1..).zip(text.split_terminator('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let found = published(line).map_err(|problem| format!("line {n}: {problem}"))?;
        if let Some(Published { stream, head }) = found {
            heads.entry(stream).or_default().push(head);
        }
    }
    if heads.is_empty() {
        return Err("it has no head".to_owned());
    }
    Ok(heads)
}

/// The head that a line has, if any.
fn published(line: &str) -> Result<Option<Published>, String> {
    // The name of a stream may begin with a brace, but no head ends with one.
    if !line.ends_with('}') {
        return line.parse().map(Some);
    }
    let line = printed(line).map_err(|error| error.to_string())?;
    let Some(text) = line.head else { return Ok(None) };
    let head = head(&text)?;
    let name = match (line.stream, line.run) {
        (Some(name), None) => name,
        // The names of runs are printed without the word `run`.
        (None, Some(run)) => run.replacen('/', "/run/", 1),
        _ => return Err("it does not say of which stream the head is".to_owned()),
    };
    let stream = name.parse().map_err(|error| format!("{error}"))?;
    Ok(Some(Published { stream, head }))
}

/// Reads a line of JSON, and refuses what other readers refuse or read otherwise.
fn printed(line: &str) -> Result<Line, Box<dyn std::error::Error>> {
    Letters::parse(line)?.check_texts()?;
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
mod tests {
    use super::{head, parse};
    use tape_client::core::payload::Digest;

    #[test]
    fn lines_that_were_printed_are_read() {
        let digest = Digest::of(b"head");
        let text = format!(
            "{{\"run\":\"acme/treasury/ann/s1/i1\",\"ok\":true,\"head\":\"7:{digest}\"}}\n\
             {{\"stream\":\"acme/value/rate\",\"head\":\"2:{digest}\"}}\n\
             {{\"stream\":\"acme/value/rate\",\"head\":\"3:{digest}\"}}\n{{\"broken\":0,\"runs\":1}}\n"
        );
        let heads = parse(&text).unwrap();
        let read = heads
            .iter()
            .map(|(stream, heads)| (stream.to_string(), heads.len()));
        let expected = [("acme/run/treasury/ann/s1/i1", 1), ("acme/value/rate", 2)];
        assert_eq!(
            read.collect::<Vec<_>>(),
            expected.map(|(name, n)| (name.to_owned(), n))
        );
        let heads = &heads[&"acme/value/rate".parse().unwrap()];
        assert_eq!(heads[1], head(&format!("3:{digest}")).unwrap());
    }

    #[test]
    fn lines_of_text_are_read_beside_them() {
        let digest = Digest::of(b"head");
        let text = format!(
            "acme/run/treasury/ann/s1/i1 7:{digest}\n{{\"stream\":\"{{b/value/rate\",\"head\":\"2:{digest}\"}}\n{{b/value/rate 3:{digest}\n"
        );
        let heads = parse(&text).unwrap();
        let read = heads
            .iter()
            .map(|(stream, heads)| (stream.to_string(), heads.len()));
        let expected = [("acme/run/treasury/ann/s1/i1", 1), ("{b/value/rate", 2)];
        assert_eq!(
            read.collect::<Vec<_>>(),
            expected.map(|(name, n)| (name.to_owned(), n))
        );
    }

    /// docs/verify/tape_verify.py has the same cases.
    #[test]
    fn files_of_heads_are_read_as_by_the_other_verifier() {
        let digest = Digest::of(b"").to_string();
        let cases = include_str!("../../../../docs/verify/heads.json");
        let cases: Vec<(String, bool)> = serde_json::from_str(cases).unwrap();
        for (text, is_right) in cases {
            let read = parse(&text.replace(":D", &format!(":{digest}")));
            assert_eq!(read.is_ok(), is_right, "{text:?}: {read:?}");
        }
    }

    #[test]
    fn a_line_that_is_wrong_is_told() {
        let digest = Digest::of(b"head");
        for (line, told) in [
            ("ok".to_owned(), "line 1: "),
            (format!("acme/treasury/ann/s1/i1 7:{digest}"), "line 1: "),
            ("acme/value/rate 7".to_owned(), "SEQ:DIGEST"),
            (format!("{{\"head\":\"7:{digest}\"}}"), "of which stream"),
            (
                format!("{{\"stream\":\"acme\",\"head\":\"7:{digest}\"}}"),
                "line 1: ",
            ),
            (
                "{\"stream\":\"acme/value/rate\",\"head\":\"7\"}".to_owned(),
                "SEQ:DIGEST",
            ),
        ] {
            let error = parse(&line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
