//! Published heads: the lines of an earlier `tape verify --json`.

use crate::name::RunPath;
use serde::Deserialize;
use std::path::Path;
pub(crate) use tape_cli::exported::Heads;
use tape_client::Error;
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;

/// A line that has a head; others are skipped.
#[derive(Deserialize)]
struct Line {
    run: Option<String>,
    stream: Option<String>,
    head: Option<String>,
}

/// Reads a head, as `tape verify` prints it.
pub(super) fn head(text: &str) -> Result<(Seq, Digest), String> {
    let form = || "a head is SEQ:DIGEST, as `tape verify` prints it".to_owned();
    let (seq, digest) = text.split_once(':').ok_or_else(form)?;
    Ok((
        Seq(seq.parse().map_err(|_| form())?),
        digest.parse().map_err(|_| form())?,
    ))
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
    for (n, line) in (1..).zip(text.lines()) {
        let wrong = |problem: String| format!("line {n}: {problem}");
        let line: Line = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let Some(text) = line.head else { continue };
        let head = head(&text).map_err(wrong)?;
        let stream = match (line.stream, line.run) {
            (Some(name), _) => name.parse().map_err(|error| wrong(format!("{error}")))?,
            (None, Some(run)) => StreamId::Run(run.parse::<RunPath>().map_err(wrong)?.0),
            (None, None) => return Err(wrong("it does not say of which stream the head is".to_owned())),
        };
        heads.entry(stream).or_default().push(head);
    }
    Ok(heads)
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
    fn a_line_that_is_wrong_is_told() {
        let digest = Digest::of(b"head");
        for (line, told) in [
            ("ok".to_owned(), "line 1: "),
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
