//! What reactions do to the journal, each of it once whatever is repeated.

use super::clock::Clock;
use super::names::Names;
use crate::event::Event;
use crate::sink::SinkError;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_api::query::Until;
use tape_api::sending::ask;
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::codec::decode;
use tape_core::command::{Begin, Create, DriverCommand, ExternalCommand, RunCommand};
use tape_core::entry::EntryBody;
use tape_core::entry::gate::AnsweredBy;
use tape_core::id::{Epoch, GateName, Holder, Key, RunId, Seq, SignalId};
use tape_core::payload::Payload;
use tape_core::reply::{Field, Rejection, ReplyResult};

/// How long the lease of a run lasts that is begun for its agent. Where the relay dies before it lets the run go, recovery takes it after that.
const LEASE_MS: u64 = 10_000;

/// Acts on runs under one name.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) holder: Holder,
    pub(super) clock: Arc<Clock>,
}

impl Actor {
    /// Whether a run is there, whatever has become of it.
    pub(super) async fn is_begun(&self, run: &RunId) -> Result<bool, SinkError> {
        let head = self.journal.head(run).await;
        head.map(|head| head.is_some()).map_err(|error| failed(&error))
    }

    /// Begins a run that was not there, and lets it go for its agent.
    pub(super) async fn begin(
        &self,
        run: &RunId,
        labels: BTreeMap<Key, String>,
        input: Payload,
    ) -> Result<(), SinkError> {
        let begin = Begin {
            run: run.clone(),
            create: Some(Create {
                labels,
                input,
                forked_from: None,
            }),
            holder: self.holder.clone(),
            lease_ms: LEASE_MS,
            adopt: None,
            recovery: false,
        };
        match ask(self.journal.as_ref(), run, RunCommand::Begin(begin)).await {
            Ok(reply) => {
                if let ReplyResult::Leased { epoch, until } = reply.result {
                    self.clock.learn(until.minus_millis(LEASE_MS));
                    self.let_go(run, epoch).await;
                }
                Ok(())
            }
            // Another process has begun it: an earlier one whose answer was lost, or the agent that has it already.
            Err(JournalError::Rejected(Rejection::LeaseHeld { .. })) => Ok(()),
            // The labels of the definition were checked, so these are the journal's own. Nothing is wrong with the event.
            Err(JournalError::Rejected(
                refused @ Rejection::Invalid {
                    field: Field::Label, ..
                },
            )) => Err(SinkError::unavailable(format!(
                "the server is of a build that knows no reactions, and is to be upgraded: {refused}"
            ))),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Lets recovery have the run at once. Where that fails, recovery has it when the lease is over.
    async fn let_go(&self, run: &RunId, epoch: Epoch) {
        let release = DriverCommand::ReleaseLease {
            redrive_in_ms: 0,
            undriven: true,
        };
        let command = RunCommand::Drive(epoch, release);
        if let Err(error) = ask(self.journal.as_ref(), run, command).await {
            tracing::debug!(%run, error = %Causes(&error), "the run is let go when its lease runs out");
        }
    }

    /// Signals a gate of a run.
    pub(super) async fn signal(
        &self,
        run: &RunId,
        gate: &GateName,
        names: &Names<'_>,
        answer: Payload,
    ) -> Result<(), SinkError> {
        let id = names.signal();
        let command = ExternalCommand::Signal {
            gate: gate.clone(),
            id: id.clone(),
            answer,
            seen: None,
        };
        match ask(self.journal.as_ref(), run, RunCommand::External(command)).await {
            // It exists with another answer where the bytes of the entry were erased in between.
            Ok(_) | Err(JournalError::Rejected(Rejection::Exists { .. })) => Ok(()),
            // The first signal may be what let the run go on to its end.
            Err(JournalError::Rejected(
                refused @ (Rejection::RunEnded { .. } | Rejection::Closing { .. }),
            )) => {
                let signalled = self.was_signalled(run, gate, &id).await;
                if signalled.map_err(|error| failed(&error))? {
                    Ok(())
                } else {
                    Err(SinkError::refused(refused))
                }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Whether the journal of a run has the signal.
    async fn was_signalled(
        &self,
        run: &RunId,
        gate: &GateName,
        signal: &SignalId,
    ) -> Result<bool, JournalError> {
        let mut pages = self.journal.entries(run, Seq::ZERO, Until::End);
        while let Some(page) = pages.next().await {
            for stored in page? {
                let entry = decode(&stored).map_err(JournalError::damaged)?;
                if is_signal(&entry.body, gate, signal) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn is_signal(body: &EntryBody, gate: &GateName, signal: &SignalId) -> bool {
    match body {
        EntryBody::SignalReceived(received) => received.gate == *gate && received.id == *signal,
        EntryBody::GateAnswered(answered) => {
            let by = match &answered.by {
                AnsweredBy::Signal { id, .. } | AnsweredBy::EarlierSignal { id, .. } => Some(id),
                AnsweredBy::Deadline => None,
            };
            answered.gate == *gate && by == Some(signal)
        }
        _ => false,
    }
}

/// What an event is as an input or answer.
///
/// # Errors
/// [`SinkError::Refused`] where it is too large to be kept.
pub(super) fn payload(event: &Event) -> Result<Payload, SinkError> {
    Payload::new(Payload::JSON, event.to_json()).map_err(SinkError::refused)
}

/// What an error of the journal means for an event. What the rules refuse is refused for good, but for what passes by itself.
pub(super) fn failed(error: &JournalError) -> SinkError {
    match error {
        JournalError::Rejected(rejection) if !passes(rejection) => SinkError::refused(rejection),
        JournalError::Invalid(problem) => SinkError::refused(problem),
        error => SinkError::unavailable(Causes(error)),
    }
}

fn passes(rejection: &Rejection) -> bool {
    rejection.is_for_its_age()
        || matches!(
            rejection,
            Rejection::TimeUnsure { .. } | Rejection::LeaseHeld { .. }
        )
}
