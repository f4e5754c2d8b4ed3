//! Sends again what a sink refused for good.

use crate::event_format::EventFormat;
use crate::relay::Relay;
use crate::sink::SinkError;
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeSet;
use std::sync::Arc;
use tape_api::{Journal, JournalError};
use tape_core::codec::{DecodeError, StoredEntry, decode};
use tape_core::command::{Command, RelayCommand};
use tape_core::entry::relay::SentEntry;
use tape_core::entry::{Entry, EntryBody};
use tape_core::id::{RelayStream, Seq, StreamId};
use tape_core::reply::Rejection;

/// After so many entries in a row that the sink did not take for now, no more are sent: it takes nothing.
pub const UNAVAILABLE_MAX: u32 = 10;

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
    /// The sink takes nothing now. What was not sent stays outstanding.
    #[error("the sink took none of the last {UNAVAILABLE_MAX} entries: {reason}")]
    SinkUnavailable {
        /// Why it did not take the last one.
        reason: String,
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

/// How far a redelivery is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedeliveryStep {
    /// The relay's stream was read this far. It is read once to find what is outstanding, before anything is sent.
    Read {
        /// The last entry.
        to: Seq,
        /// How many refusals up to there are outstanding, as far as is known.
        outstanding: usize,
    },
    /// An entry was sent.
    Sent {
        /// The entry of the relay's stream that records its refusal.
        refusal: Seq,
        /// What became of it.
        outcome: Redelivered,
    },
}

/// Sends refused entries again, those of `refusals` or all that are outstanding, in the order in which they were refused, and tells each step.
/// An entry comes after later ones of its stream then; a consumer that orders by number has to place it. Where one is not taken for now, later
/// ones of its stream are not sent either.
///
/// Each entry that is taken is on record before the next one is sent: one that is interrupted goes on with what is outstanding when it is
/// called again. A process that dies between the sink's confirmation and the record leaves the refusal outstanding: the entry may be sent twice.
///
/// The cost: the relay's stream is read twice from its beginning, a page at a time, and of each outstanding refusal a number is kept in memory.
/// For each entry that is sent, its stream is read up to it, that of a run at the entry alone.
///
/// # Errors
/// [`RedeliveryError`]; what was sent until then is on record.
pub async fn redeliver(
    relay: &Relay,
    journal: &Arc<dyn Journal>,
    stream: &RelayStream,
    refusals: &[Seq],
    mut told: impl FnMut(RedeliveryStep),
) -> Result<(), RedeliveryError> {
    let mut chosen = outstanding(journal, stream, &mut told).await?;
    if let Some(refusal) = refusals.iter().find(|refusal| !chosen.contains(refusal)) {
        return Err(RedeliveryError::NoRefusal { refusal: *refusal });
    }
    chosen.retain(|refusal| refusals.is_empty() || refusals.contains(refusal));
    let mut sender = Sender {
        relay,
        journal,
        stream,
        behind: BTreeSet::new(),
        unavailable: 0,
        reason: String::new(),
    };
    let mut pages = journal.stream_entries(&StreamId::Relay(stream.clone()));
    while let Some(page) = pages.try_next().await? {
        for stored in &page {
            if !chosen.remove(&stored.seq) {
                continue;
            }
            if let EntryBody::RelayRefused(refused) = decode(stored)?.body {
                let outcome = sender.send(stored.seq, &refused.entry).await?;
                let refusal = stored.seq;
                told(RedeliveryStep::Sent { refusal, outcome });
                sender.check()?;
            }
        }
        if chosen.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The refusals of a relay whose entries were not sent again yet.
async fn outstanding(
    journal: &Arc<dyn Journal>,
    stream: &RelayStream,
    told: &mut impl FnMut(RedeliveryStep),
) -> Result<BTreeSet<Seq>, RedeliveryError> {
    let mut outstanding = BTreeSet::new();
    let mut pages = journal.stream_entries(&StreamId::Relay(stream.clone()));
    while let Some(page) = pages.try_next().await? {
        for stored in &page {
            let Entry { seq, body, .. } = decode(stored)?;
            match body {
                EntryBody::RelayRefused(_) => drop(outstanding.insert(seq)),
                EntryBody::RelayRedelivered(redelivered) => drop(outstanding.remove(&redelivered.refusal)),
                _ => {}
            }
        }
        if let Some(last) = page.last() {
            let (to, outstanding) = (last.seq, outstanding.len());
            told(RedeliveryStep::Read { to, outstanding });
        }
    }
    Ok(outstanding)
}

/// Sends one entry after the other.
struct Sender<'a> {
    relay: &'a Relay,
    journal: &'a Arc<dyn Journal>,
    stream: &'a RelayStream,
    /// Streams of which an entry was not taken for now.
    behind: BTreeSet<StreamId>,
    /// How many entries in a row were not.
    unavailable: u32,
    /// Why the last one was not.
    reason: String,
}

impl Sender<'_> {
    async fn send(&mut self, refusal: Seq, entry: &SentEntry) -> Result<Redelivered, RedeliveryError> {
        if self.behind.contains(&entry.stream) {
            let problem = "not sent: an earlier one of its stream was not taken";
            return Ok(Redelivered::NotTaken(problem.to_owned()));
        }
        let stored = match find(self.journal, entry).await? {
            Ok(stored) => stored,
            Err(reason) => return Ok(Redelivered::NotTaken(reason)),
        };
        let answer = deliver(self.relay, &self.relay.format, &entry.stream, &stored).await?;
        if let Err(SinkError::Refused { .. }) | Ok(()) = answer {
            self.unavailable = 0;
        } else {
            self.unavailable += 1;
            self.behind.insert(entry.stream.clone());
        }
        Ok(match answer {
            Ok(()) => self.record(refusal).await?,
            Err(SinkError::Refused { reason }) => Redelivered::NotTaken(format!("refused again: {reason}")),
            Err(error) => {
                self.reason = error.to_string();
                Redelivered::NotTaken(self.reason.clone())
            }
        })
    }

    async fn record(&self, refusal: Seq) -> Result<Redelivered, RedeliveryError> {
        let command = Command::new(self.journal.request_id(), RelayCommand::Redelivered { refusal });
        match self.journal.relays().record(self.stream, command).await {
            // Another command has sent it, too.
            Ok(_) | Err(JournalError::Rejected(Rejection::Redelivered { .. })) => Ok(Redelivered::Taken),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it makes sense to go on.
    fn check(&self) -> Result<(), RedeliveryError> {
        if self.unavailable < UNAVAILABLE_MAX {
            return Ok(());
        }
        Err(RedeliveryError::SinkUnavailable {
            reason: self.reason.clone(),
        })
    }
}

/// The entry that was refused; why it cannot be sent where it is not there any more.
async fn find(
    journal: &Arc<dyn Journal>,
    entry: &SentEntry,
) -> Result<Result<StoredEntry, String>, RedeliveryError> {
    let found = match &entry.stream {
        StreamId::Run(run) => {
            let before = Seq(entry.seq.0.saturating_sub(1));
            journal.read(run, before, 1).await?.into_iter().next()
        }
        other => first_from(journal, other, entry.seq).await?,
    };
    Ok(match found {
        Some(found) if found.seq == entry.seq && found.digest == entry.digest => Ok(found),
        Some(_) => Err("the entry was dropped, or its stream is another by now".to_owned()),
        None => Err("the entry was dropped".to_owned()),
    })
}

async fn first_from(
    journal: &Arc<dyn Journal>,
    stream: &StreamId,
    from: Seq,
) -> Result<Option<StoredEntry>, JournalError> {
    let mut pages = journal.stream_entries(stream);
    while let Some(page) = pages.next().await {
        if let Some(found) = page?.into_iter().find(|stored| stored.seq >= from) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn deliver(
    relay: &Relay,
    format: &EventFormat,
    stream: &StreamId,
    stored: &StoredEntry,
) -> Result<Result<(), SinkError>, RedeliveryError> {
    let event = format.event(stream, stored)?;
    let mut answers = relay.sink.deliver(&[event]).await;
    let none = || Err(SinkError::unavailable("the sink gave no answer"));
    Ok(answers.pop().unwrap_or_else(none))
}
