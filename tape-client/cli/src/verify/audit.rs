//! Reads a stream of a journal and verifies it.

use crate::text::quoted;
use crate::{Context, Failure};
use futures::StreamExt as _;
use std::io;
use tape_cli::stream::{Known, Sound, StreamAudit};
use tape_client::core::causes::Causes;
use tape_client::core::codec::{StoredEntry, kind};
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;
use tape_client::{Error, StreamEnd};

/// How often a stream is read anew, where entries are dropped or erased while it is read.
const ANEW_MAX: u32 = 3;

/// The result of verifying a stream, or what is broken.
pub(super) type Finding = Result<Sound, Damage>;

/// What is broken in a stream.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    /// As it is printed.
    pub(crate) what: String,
    /// As it stands in a file that others get: without the names of files and machines that errors of stores have.
    pub(crate) public: String,
}

impl From<String> for Damage {
    fn from(what: String) -> Self {
        let what = quoted(&what);
        let public = what.clone();
        Self { what, public }
    }
}

/// Gets what is read of the streams that are verified, as it is stored.
pub(crate) trait Sink {
    /// A stream is read from its first entry on; where it was read before, anew. It ends here by the journal's own account.
    fn begin(&mut self, stream: &StreamId, end: Option<&StreamEnd>) -> io::Result<()>;
    /// The next entry that there is, before it is verified.
    fn entry(&mut self, stored: &StoredEntry) -> io::Result<()>;
    /// The stream was read, and this is broken.
    fn end(&mut self, stream: &StreamId, broken: Option<&Damage>) -> io::Result<()>;
}

/// Keeps nothing.
impl Sink for () {
    fn begin(&mut self, _: &StreamId, _: Option<&StreamEnd>) -> io::Result<()> {
        Ok(())
    }
    fn entry(&mut self, _: &StoredEntry) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self, _: &StreamId, _: Option<&Damage>) -> io::Result<()> {
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
    let mut anew = 0;
    loop {
        match read(context, stream, published, feed, sink).await? {
            Err(Walked::Overtaken(_)) if anew < ANEW_MAX => anew += 1,
            Err(Walked::Broken(damage) | Walked::Overtaken(damage)) => return Ok(Err(damage)),
            Ok(sound) => return Ok(Ok(sound)),
        }
    }
}

/// Reads a stream once.
async fn read(
    context: &Context<'_>,
    stream: &StreamId,
    published: &[(Seq, Digest)],
    feed: Option<Known>,
    sink: &mut dyn Sink,
) -> Result<Result<Sound, Walked>, Failure> {
    // The end is requested first, because entries that are written meanwhile come after it.
    let end = match context.tape.stream_end(stream).await {
        Err(error) => Err(lost(error, "the journal cannot say where it ends")?),
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
    let audit = StreamAudit::new(stream, published.iter().copied(), known, snapshot);
    sink.begin(stream, told)?;
    let begun_at = told.map_or(Seq::ZERO, |end| end.seq);
    let found = walk(context, stream, audit, begun_at, sink).await?;
    Ok(found.and_then(|sound| end.map(|_| sound).map_err(Walked::Broken)))
}

/// Why a stream was not read to its end.
enum Walked {
    Broken(Damage),
    /// Entries were dropped or erased while they were read: what remains is read again.
    Overtaken(Damage),
}

/// Reads the entries of a stream that ended at `begun_at` before.
async fn walk(
    context: &Context<'_>,
    stream: &StreamId,
    mut audit: StreamAudit,
    begun_at: Seq,
    sink: &mut dyn Sink,
) -> Result<Result<Sound, Walked>, Failure> {
    let mut pages = context.tape.stream_entries(stream);
    let mut last = Seq::ZERO;
    while let Some(page) = pages.next().await {
        let page = match page {
            Err(error) => {
                let public = format!("the journal cannot give out what comes after entry {last}");
                return Ok(Err(Walked::Broken(lost(error, &public)?)));
            }
            Ok(page) => page,
        };
        for stored in page {
            sink.entry(&stored)?;
            last = stored.seq;
            if let Err(broken) = audit.check(&stored) {
                let dropped = broken.is_gap && stands_for_others(&stored);
                let erased = broken.finished.is_some_and(|finished| finished > begun_at);
                let overtaken = dropped || erased;
                let damage = Damage::from(broken.what);
                return Ok(Err(if overtaken {
                    Walked::Overtaken(damage)
                } else {
                    Walked::Broken(damage)
                }));
            }
        }
    }
    Ok(audit
        .finish()
        .map_err(|broken| Walked::Broken(broken.what.into())))
}

/// Whether an entry replaces those before it.
fn stands_for_others(stored: &StoredEntry) -> bool {
    kind(stored).is_ok_and(|kind| kind == "run.retired")
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

/// Damage that a store or server tells of, and how a file says it.
fn lost(error: Error, public: &str) -> Result<Damage, Failure> {
    let (what, public) = (damage(error)?, public.to_owned());
    Ok(Damage { what, public })
}
