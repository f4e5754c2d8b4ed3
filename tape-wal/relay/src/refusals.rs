//! Puts on record what a sink refused for good.

use crate::counts::{Counters, add};
use crate::delivery::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tape_api::backoff::Backoff;
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::command::{Command, RelayCommand};
use tape_core::entry::relay::SentEntry;
use tape_core::id::{RelayId, RelayStream, StreamId};
use tape_core::payload::Digest;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A call that takes longer counts as one whose answer was lost.
const CALL_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Refusals<'a> {
    journal: &'a Arc<dyn Journal>,
    relay: &'a RelayId,
    counters: &'a Counters,
}

impl<'a> Refusals<'a> {
    pub(crate) const fn new(
        journal: &'a Arc<dyn Journal>,
        relay: &'a RelayId,
        counters: &'a Counters,
    ) -> Self {
        Self {
            journal,
            relay,
            counters,
        }
    }

    /// Records a refusal in the stream of the relay, however long the journal is out of reach. The relay passes the event only after that.
    ///
    /// Where the stream of the relay cannot take it, because it is damaged, the log has it instead: the trouble of one tenant does not stop a
    /// relay of all tenants.
    pub(crate) async fn record(&self, refusal: &Refusal) {
        let (event, reason) = (&refusal.event, &refusal.reason);
        tracing::warn!(relay = %self.relay, event = event.id(), reason, "the sink refused an event for good");
        let stream = event.stream();
        // What is on record of a relay would be sent, refused and put on record in its turn.
        if matches!(stream, StreamId::Relay(_)) {
            return;
        }
        let Some(record) = RelayStream::of(self.relay, stream.tenant()) else {
            return self.unrecorded(refusal, "it is not of the tenant of the relay");
        };
        let digest = event
            .attribute("chaindigest")
            .and_then(|digest| digest.parse::<Digest>().ok());
        let command = RelayCommand::Refuse {
            entry: SentEntry {
                stream: stream.clone(),
                seq: event.seq(),
                digest: digest.unwrap_or_default(),
            },
            attempts: refusal.attempts,
            reason: reason.clone(),
        };
        if let Err(error) = self.send(&record, command).await {
            self.unrecorded(refusal, &Causes(&error).to_string());
        }
    }

    fn unrecorded(&self, refusal: &Refusal, problem: &str) {
        add(&self.counters.refusals_unrecorded, 1);
        let event = refusal.event.id();
        tracing::error!(relay = %self.relay, event, problem, "a refusal cannot be put on record, and the event is passed");
    }

    async fn send(&self, record: &RelayStream, body: RelayCommand) -> Result<(), JournalError> {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let mut request = self.journal.request_id();
        loop {
            let command = Command::new(request, body.clone());
            let recorded = self.journal.relays().record(record, command);
            let recorded = tokio::time::timeout(CALL_MAX, recorded).await;
            match recorded.unwrap_or_else(|late| Err(JournalError::unavailable(late))) {
                Ok(_) => return Ok(()),
                Err(JournalError::Unavailable(_)) => {
                    tokio::time::sleep(backoff.next(self.journal.environment().chance())).await;
                }
                Err(JournalError::Rejected(tape_core::reply::Rejection::RequestTooOld { .. })) => {
                    request = self.journal.request_id();
                }
                Err(error) => return Err(error),
            }
        }
    }
}
