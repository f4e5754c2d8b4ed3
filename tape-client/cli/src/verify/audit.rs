//! Verifies one stream against every source that knows where it ends.

use crate::{Context, Failure};
use futures::StreamExt as _;
use std::io;
use tape_client::core::causes::Causes;
use tape_client::core::chain::ChainError;
use tape_client::core::codec::{StoredEntry, kind};
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;
use tape_client::core::verify::{Audit, AuditError, Verified};
use tape_client::{Error, StreamEnd};

/// An entry that the stream must have, and the source that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) by: &'static str,
    pub(super) seq: Seq,
    pub(super) digest: Digest,
}

/// The result of verifying a stream, or what is broken.
pub(super) type Finding = Result<Verified, String>;

/// Gets what is read of the streams that are verified, as it is stored.
pub(crate) trait Sink {
    /// A stream is read from its first entry on; where it was read before, anew. It ends here by the journal's own account.
    fn begin(&mut self, stream: &StreamId, end: Option<&StreamEnd>) -> io::Result<()>;
    /// The next entry that there is, before it is verified.
    fn entry(&mut self, stored: &StoredEntry) -> io::Result<()>;
    /// The stream was read, and this is broken.
    fn end(&mut self, stream: &StreamId, broken: Option<&str>) -> io::Result<()>;
}

/// Keeps nothing.
impl Sink for () {
    fn begin(&mut self, _: &StreamId, _: Option<&StreamEnd>) -> io::Result<()> {
        Ok(())
    }
    fn entry(&mut self, _: &StoredEntry) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self, _: &StreamId, _: Option<&str>) -> io::Result<()> {
        Ok(())
    }
}

/// Verifies a stream from its first entry on.
pub(super) async fn audit(
    context: &Context<'_>,
    stream: &StreamId,
    published: &[(Seq, Digest)],
    feed: Option<Known>,
    sink: &mut dyn Sink,
) -> Result<Finding, Failure> {
    // The end is requested first, because entries that are written meanwhile come after it.
    let end = match context.tape.stream_end(stream).await {
        Err(error) => Err(damage(error)?),
        Ok(end) => Ok(end),
    };
    let head = end.as_ref().ok().and_then(Option::as_ref).map(|end| Known {
        by: "its head",
        seq: end.seq,
        digest: end.digest,
    });
    let known: Vec<Known> = head.into_iter().chain(feed).collect();
    let told = end.as_ref().ok().and_then(Option::as_ref);
    let snapshot = told.and_then(|end| end.snapshot.clone());
    let audit = Audit::new(stream, published.iter().copied(), snapshot);
    sink.begin(stream, told)?;
    let mut found = walk(context, stream, audit.clone(), &known, sink).await?;
    if let Err(Broken { overtaken: true, .. }) = found {
        sink.begin(stream, told)?;
        found = walk(context, stream, audit, &known, sink).await?;
    }
    let found = found.map_err(|broken| broken.what);
    Ok(found.and_then(|verified| end.map(|_| verified)))
}

/// What is broken in a stream.
struct Broken {
    what: String,
    /// Whether entries were dropped while they were read: then the remaining ones are read again.
    overtaken: bool,
}

impl From<String> for Broken {
    fn from(what: String) -> Self {
        Self {
            what,
            overtaken: false,
        }
    }
}

async fn walk(
    context: &Context<'_>,
    stream: &StreamId,
    mut audit: Audit,
    known: &[Known],
    sink: &mut dyn Sink,
) -> Result<Result<Verified, Broken>, Failure> {
    let mut pages = context.tape.stream_entries(stream);
    while let Some(page) = pages.next().await {
        let page = match page {
            Err(error) => return Ok(Err(damage(error)?.into())),
            Ok(page) => page,
        };
        for stored in page {
            sink.entry(&stored)?;
            if let Err(broken) = audit.check(&stored) {
                let gap = matches!(broken, AuditError::Chain(ChainError::Gap { .. }));
                let overtaken = gap && stands_for_others(&stored);
                let what = broken.to_string();
                return Ok(Err(Broken { what, overtaken }));
            }
            if let Some(other) = another(known, stored.seq, stored.digest) {
                return Ok(Err(other.into()));
            }
        }
    }
    if let Some(missing) = missing(known, audit.seq()) {
        return Ok(Err(missing.into()));
    }
    Ok(audit.finish().map_err(|broken| broken.to_string().into()))
}

/// Whether an entry replaces those before it.
fn stands_for_others(stored: &StoredEntry) -> bool {
    kind(stored).is_ok_and(|kind| kind == "run.retired")
}

/// The source that knows this entry by another digest.
fn another(known: &[Known], seq: Seq, digest: Digest) -> Option<String> {
    let Known {
        by, digest: other, ..
    } = known
        .iter()
        .find(|known| known.seq == seq && known.digest != digest)?;
    Some(format!("entry {seq} has digest {digest}, {by} has {other}"))
}

/// The source that knows of entries after the last.
fn missing(known: &[Known], end: Seq) -> Option<String> {
    let Known { by, seq, .. } = known.iter().find(|known| known.seq > end)?;
    Some(format!("its entries end at {end}, {by} is at entry {seq}"))
}

/// What is damaged, in a line.
///
/// # Errors
/// The error itself, if it is not about damage of the journal.
pub(crate) fn damage(error: Error) -> Result<String, Failure> {
    match error {
        Error::Damaged { source } => Ok(Causes(source.as_ref()).to_string()),
        other => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, another, missing};
    use tape_client::core::id::Seq;
    use tape_client::core::payload::Digest;

    fn known(by: &'static str, seq: u64, of: &str) -> Known {
        let (seq, digest) = (Seq(seq), Digest::of(of.as_bytes()));
        Known { by, seq, digest }
    }

    #[test]
    fn an_entry_that_somebody_knows_as_another_is_told() {
        let knows = [known("its head", 3, "c"), known("the feed", 2, "b")];
        let told = |seq, of: &str| another(&knows, Seq(seq), Digest::of(of.as_bytes()));
        let (found, expected) = (Digest::of(b"x"), Digest::of(b"b"));
        let changed = format!("entry 2 has digest {found}, the feed has {expected}");
        assert_eq!(told(2, "x"), Some(changed));
        assert!(told(3, "b").is_some_and(|told| told.contains("its head has")));
        for (seq, of) in [(1, "x"), (2, "b"), (3, "c"), (4, "x")] {
            assert_eq!(told(seq, of), None, "entry {seq}");
        }
    }

    #[test]
    fn entries_that_somebody_knows_of_are_missed() {
        let knows = [known("its head", 3, "c"), known("the feed", 5, "e")];
        let told = |end| missing(&knows, Seq(end));
        assert_eq!(
            told(2).as_deref(),
            Some("its entries end at 2, its head is at entry 3")
        );
        assert_eq!(
            told(4).as_deref(),
            Some("its entries end at 4, the feed is at entry 5")
        );
        assert_eq!(told(5), None);
    }
}
