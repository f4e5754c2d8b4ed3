//! `tape export`.

use crate::name::{RunPath, of_tenant, tenant};
use crate::replacement::Replacement;
use crate::text::plain_json;
use crate::verify::{Count, Damage, Heads, Sink, Verify};
use crate::{Context, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tape_client::StreamEnd;
use tape_client::core::codec::StoredEntry;
use tape_client::core::id::{Seq, StreamId, Tenant};
use tape_client::core::payload::Digest;

/// Writes runs, or all streams of a tenant, as they are stored, for programs that verify them without Tape.
///
/// One JSON object a line: each stream with its head and snapshot, its entries to the letter, and what is broken. docs/format.md says
/// how to read and verify it. Erased payloads are not in it; all others are.
///
/// What is written is verified too. What was found is said as `tape verify` says it, on standard error unless --out names a file. Exits
/// with 1 where anything is broken, also where entries are gone or cannot be read, and with 3 where nothing is and something is not
/// proved. An export that ends early exits with another code than 0, and replaces no file.
#[derive(Debug, Args)]
#[command(override_usage = "tape export [OPTIONS] <RUN>...\n       tape export [OPTIONS] --tenant <TENANT>")]
pub(crate) struct Export {
    /// The runs.
    #[arg(required_unless_present = "tenant", value_name = "RUN")]
    runs: Vec<RunPath>,
    /// All streams of a tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Option<Tenant>,
    /// Writes to a file instead of standard output. A file that is there is replaced once the export is complete.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Does without the feed, all of which is read otherwise: a stream that was cut off together with its head is not found then.
    #[arg(long)]
    quick: bool,
}

impl Export {
    /// Whether what is exported takes up the standard output.
    pub(crate) const fn fills_stdout(&self) -> bool {
        self.out.is_none()
    }

    /// A tenant of the environment does not count where runs are named.
    pub(crate) fn forget_tenant(&mut self) {
        if !self.runs.is_empty() {
            self.tenant = None;
        }
    }

    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let named = self.runs.iter().map(|RunPath(run)| StreamId::Run(run.clone()));
        of_tenant(self.tenant.as_ref(), named)?;
        let mut count = Count::default();
        let Some(path) = self.out.clone() else {
            self.write(context, &mut io::stdout(), &mut count).await?;
            return count.end(&mut context.print);
        };
        let mut file = Replacement::of(&path).map_err(|error| at(&path, &error))?;
        self.write(context, &mut file, &mut count).await?;
        file.complete().map_err(|error| at(&path, &error))?;
        count.end(&mut context.print)
    }

    async fn write(
        self,
        context: &mut Context<'_>,
        to: &mut dyn Write,
        count: &mut Count,
    ) -> Result<(), Failure> {
        let mut lines = Lines {
            to: BufWriter::new(to),
            streams: BTreeSet::new(),
        };
        // A tenant of the environment does not count where runs are named.
        let tenant = self.tenant.filter(|_| self.runs.is_empty());
        let verify = Verify::of(tenant, self.quick);
        if self.runs.is_empty() {
            verify.many(context, Heads::new(), count, &mut lines).await?;
        }
        for RunPath(run) in self.runs {
            let stream = StreamId::Run(run);
            // One that is named twice is written once.
            if lines.streams.contains(&stream) {
                continue;
            }
            verify.one(context, &stream, &[], count, &mut lines).await?;
        }
        Ok(lines.finish(count.broken_so_far())?)
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// What a stream's first line says.
#[derive(Serialize)]
struct Begin {
    stream: String,
    head: Option<Head>,
    snapshot: Option<Snapshot>,
}

#[derive(Serialize)]
struct Head {
    seq: u64,
    digest: String,
}

#[derive(Serialize)]
struct Snapshot {
    seq: u64,
    sha256: String,
    bytes: String,
}

/// What the line of an entry says.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    digest: String,
    envelope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

/// Writes what is read of streams, one value a line.
struct Lines<W: Write> {
    to: W,
    streams: BTreeSet<StreamId>,
}

impl<W: Write> Lines<W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        writeln!(self.to, "{}", plain_json(&text))
    }

    /// Says that this is all.
    fn finish(&mut self, broken: u64) -> io::Result<()> {
        self.line(&json!({"streams": self.streams.len(), "broken": broken}))?;
        self.to.flush()
    }
}

impl<W: Write> Sink for Lines<W> {
    fn begin(&mut self, stream: &StreamId, end: Option<&StreamEnd>) -> io::Result<()> {
        self.streams.insert(stream.clone());
        // One of no entry is damage, and has no form in a file.
        let snapshot = end.and_then(|end| end.snapshot.as_ref());
        let snapshot = snapshot.filter(|(seq, _)| *seq > Seq::ZERO);
        self.line(&Begin {
            stream: stream.to_string(),
            head: end.map(|end| Head {
                seq: end.seq.0,
                digest: end.digest.to_string(),
            }),
            snapshot: snapshot.map(|(seq, bytes)| Snapshot {
                seq: seq.0,
                sha256: Digest::of(bytes).to_string(),
                bytes: STANDARD.encode(bytes),
            }),
        })
    }

    fn entry(&mut self, stored: &StoredEntry) -> io::Result<()> {
        // An envelope that is no text is no envelope: the stream is broken there.
        let Ok(envelope) = std::str::from_utf8(&stored.envelope) else {
            return Ok(());
        };
        self.line(&Line {
            seq: stored.seq.0,
            digest: stored.digest.to_string(),
            envelope,
            payload: stored.payload.as_ref().map(|bytes| STANDARD.encode(bytes)),
        })
    }

    fn end(&mut self, stream: &StreamId, broken: Option<&Damage>) -> io::Result<()> {
        let broken = broken.map(|broken| &broken.public);
        self.line(&json!({"end": stream.to_string(), "broken": broken}))
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use crate::verify::Sink as _;
    use std::collections::BTreeSet;
    use tape_client::core::codec::StoredEntry;
    use tape_client::core::id::Seq;
    use tape_client::core::payload::Digest;

    fn written(fill: impl FnOnce(&mut Lines<&mut Vec<u8>>)) -> String {
        let mut bytes = Vec::new();
        let streams = BTreeSet::new();
        fill(&mut Lines {
            to: &mut bytes,
            streams,
        });
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_stream_that_is_read_anew_counts_once_and_begins_anew() {
        let stream = "acme/value/rate".parse().unwrap();
        let text = written(|lines| {
            lines.begin(&stream, None).unwrap();
            lines.begin(&stream, None).unwrap();
            lines.end(&stream, Some(&"gone".to_owned().into())).unwrap();
            lines.finish(1).unwrap();
        });
        let begin = "{\"stream\":\"acme/value/rate\",\"head\":null,\"snapshot\":null}\n";
        assert_eq!(
            text,
            format!(
                "{begin}{begin}{{\"broken\":\"gone\",\"end\":\"acme/value/rate\"}}\n{{\"broken\":1,\"streams\":1}}\n"
            )
        );
    }

    #[test]
    fn envelopes_keep_their_bytes_and_those_that_are_no_text_are_left_out() {
        let stored = |envelope: &'static [u8]| StoredEntry {
            seq: Seq(1),
            envelope: envelope.into(),
            payload: None,
            digest: Digest::default(),
        };
        let envelope = "{\"by\":\"\u{202e}\\u0061\u{7f}\"}";
        let text = written(|lines| lines.entry(&stored(envelope.as_bytes())).unwrap());
        assert!(!text.contains('\u{202e}'), "no terminal is steered: {text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["envelope"], envelope);
        assert!(line.get("payload").is_none(), "erased is not empty");
        assert_eq!(written(|lines| lines.entry(&stored(b"\xff")).unwrap()), "");
    }
}
