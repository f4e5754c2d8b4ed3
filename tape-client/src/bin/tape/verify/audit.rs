//! One run, verified against everything that knows where it ends.

use crate::text::with_causes;
use crate::{Context, Failure};
use futures::StreamExt as _;
use tape_client::core::chain::Verifier;
use tape_client::core::codec::{StoredEntry, decode};
use tape_client::core::entry::EntryBody;
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;
use tape_client::core::reply::Rejection;
use tape_client::{Error, RunId};

/// An entry that the run must have, and who says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) by: &'static str,
    pub(super) seq: Seq,
    pub(super) digest: Digest,
}

/// What of a run is in order.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pub(super) head: (Seq, Digest),
    /// Payloads that were erased on request.
    pub(super) erased: u64,
}

/// What was found in a run; an error where it could not be looked at.
pub(super) type Finding = Result<Verified, String>;

/// Verifies a run from its first entry on.
pub(super) async fn audit(
    context: &Context<'_>,
    run: &RunId,
    published: Option<(Seq, Digest)>,
    feed: Option<Known>,
) -> Result<Finding, Failure> {
    // Asked for first: what is written meanwhile comes after it.
    let head = match context.tape.head(run).await {
        Err(error) => Err(damage(error)?),
        Ok(head) => Ok(head.map(|(seq, digest)| Known {
            by: "its head",
            seq,
            digest,
        })),
    };
    let known: Vec<Known> = head.iter().flatten().copied().chain(feed).collect();
    let found = walk(context, run, published, &known).await?;
    Ok(found.and_then(|verified| head.map(|_| verified)))
}

async fn walk(
    context: &Context<'_>,
    run: &RunId,
    published: Option<(Seq, Digest)>,
    known: &[Known],
) -> Result<Finding, Failure> {
    let mut verifier = Verifier::new(published);
    let mut pages = context.tape.journal(run);
    while let Some(page) = pages.next().await {
        let page = match page {
            // Who knows of entries of the run says below what is missing.
            Err(Error::Rejected(rejection)) if matches!(*rejection, Rejection::NotFound { .. }) => break,
            Err(error) => return Ok(Err(damage(error)?)),
            Ok(page) => page,
        };
        for stored in page {
            if let Err(broken) = verifier.check(&stored) {
                return Ok(Err(broken.to_string()));
            }
            if let Some(other) = named(&stored).filter(|named| named != run) {
                let other = StreamId::Run(other);
                return Ok(Err(format!("its entries are those of {other}")));
            }
            let other = known
                .iter()
                .find(|known| known.seq == stored.seq && known.digest != stored.digest);
            if let Some(Known { by, seq, digest }) = other {
                let found = stored.digest;
                return Ok(Err(format!("entry {seq} has digest {found}, {by} has {digest}")));
            }
        }
    }
    let (end, erased) = (verifier.seq(), verifier.erased());
    if let Some(Known { by, seq, .. }) = known.iter().find(|known| known.seq > end) {
        return Ok(Err(format!("its entries end at {end}, {by} is at entry {seq}")));
    }
    let head = verifier.finish().map_err(|broken| broken.to_string());
    Ok(head.map(|head| Verified { head, erased }))
}

/// The run whose journal begins with this entry.
fn named(stored: &StoredEntry) -> Option<RunId> {
    let first = (stored.seq == Seq(1)).then(|| decode(stored).ok())??;
    match first.body {
        EntryBody::RunBegun(begun) => Some(begun.run),
        _ => None,
    }
}

/// What is damaged, in a line.
///
/// # Errors
/// The error itself, where it says nothing about the journal.
pub(super) fn damage(error: Error) -> Result<String, Failure> {
    match error {
        Error::Damaged { source } => Ok(with_causes(source.as_ref())),
        other => Err(other.into()),
    }
}
