//! Sends again what a sink refused for good.

use crate::event_format::EventFormat;
use crate::relay::Relay;
use crate::sink::SinkError;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_api::{Journal, JournalError};
use tape_core::codec::{DecodeError, StoredEntry, decode};
use tape_core::command::{Command, RelayCommand};
use tape_core::entry::EntryBody;
use tape_core::entry::relay::SentEntry;
use tape_core::id::{RelayStream, Seq, StreamId};
use tape_core::reply::Rejection;

/// Most refusals that one call sends again; the oldest come first.
pub const REDELIVERIES_MAX: usize = 1_000;

/// Why refused entries were not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedeliveryError {
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry of the relay's stream cannot be read.
    #[error("what is on record of the relay cannot be read")]
    Unreadable(#[from] DecodeError),
    /// There is no such refusal that is outstanding.
    #[error("entry {refusal} of the relay's stream is no refusal that is outstanding")]
    NoRefusal {
        /// The entry that was named.
        refusal: Seq,
    },
}

/// What became of a refused entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redelivered {
    /// The sink took it, and that is on record.
    Taken,
    /// It did not, and the refusal stays outstanding: why.
    NotTaken(String),
}

/// Sends refused entries again, those of `refusals` or all that are outstanding, in the order in which they were refused. An entry comes
/// after later ones of its stream then; a consumer that orders by number has to place it.
///
/// A process that dies between the sink's confirmation and the record leaves the refusal outstanding: the entry may be sent twice.
///
/// # Errors
/// [`RedeliveryError`]; what was sent until then is on record.
pub async fn redeliver(
    relay: &Relay,
    journal: &Arc<dyn Journal>,
    stream: &RelayStream,
    refusals: &[Seq],
) -> Result<Vec<(Seq, Redelivered)>, RedeliveryError> {
    let mut outstanding = outstanding(journal, stream).await?;
    if let Some(refusal) = refusals.iter().find(|refusal| !outstanding.contains_key(refusal)) {
        return Err(RedeliveryError::NoRefusal { refusal: *refusal });
    }
    outstanding.retain(|refusal, _| refusals.is_empty() || refusals.contains(refusal));
    let mut sent = Vec::new();
    for (refusal, entry) in outstanding.into_iter().take(REDELIVERIES_MAX) {
        let outcome = match find(journal, &entry).await? {
            Err(reason) => Redelivered::NotTaken(reason),
            Ok(stored) => send(relay, &relay.format, &entry.stream, &stored).await?,
        };
        if outcome == Redelivered::Taken {
            let command = Command::new(journal.request_id(), RelayCommand::Redelivered { refusal });
            match journal.relays().record(stream, command).await {
                // Another command has sent it, too.
                Ok(_) | Err(JournalError::Rejected(Rejection::Redelivered { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        sent.push((refusal, outcome));
    }
    Ok(sent)
}

/// The refusals of a relay whose entries were not sent again yet.
async fn outstanding(
    journal: &Arc<dyn Journal>,
    stream: &RelayStream,
) -> Result<BTreeMap<Seq, SentEntry>, RedeliveryError> {
    let mut outstanding = BTreeMap::new();
    let mut pages = journal.stream_entries(&StreamId::Relay(stream.clone()));
    while let Some(page) = pages.next().await {
        for stored in page? {
            match decode(&stored)?.body {
                EntryBody::RelayRefused(refused) => drop(outstanding.insert(stored.seq, refused.entry)),
                EntryBody::RelayRedelivered(redelivered) => drop(outstanding.remove(&redelivered.refusal)),
                _ => {}
            }
        }
    }
    Ok(outstanding)
}

/// The entry that was refused; why it cannot be sent where it is not there any more.
async fn find(
    journal: &Arc<dyn Journal>,
    entry: &SentEntry,
) -> Result<Result<StoredEntry, String>, RedeliveryError> {
    let mut pages = journal.stream_entries(&entry.stream);
    while let Some(page) = pages.next().await {
        if let Some(found) = page?.into_iter().find(|stored| stored.seq >= entry.seq) {
            let same = found.seq == entry.seq && found.digest == entry.digest;
            return Ok(if same {
                Ok(found)
            } else {
                Err("the entry was dropped, or its stream is another by now".to_owned())
            });
        }
    }
    Ok(Err("the entry was dropped".to_owned()))
}

async fn send(
    relay: &Relay,
    format: &EventFormat,
    stream: &StreamId,
    stored: &StoredEntry,
) -> Result<Redelivered, RedeliveryError> {
    let event = format.event(stream, stored)?;
    let mut answers = relay.sink.deliver(&[event]).await;
    Ok(match answers.pop() {
        Some(Ok(())) => Redelivered::Taken,
        Some(Err(SinkError::Refused { reason })) => Redelivered::NotTaken(format!("refused again: {reason}")),
        Some(Err(error)) => Redelivered::NotTaken(error.to_string()),
        None => Redelivered::NotTaken("the sink gave no answer".to_owned()),
    })
}
