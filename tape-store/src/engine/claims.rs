//! Business keys: one owner each, claimed before the owner's effect begins.

use super::Parts;
use crate::journal::{JournalError, damaged};
use std::sync::Arc;
use tape_core::command::{ClaimCommand, Command, DriverCommand, RunCommand};
use tape_core::entry::EntryBody;
use tape_core::id::{BusinessKey, Connector, EffectId, RunId, Seq, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::reply::Rejection;
use tape_core::run::{Phase, Run};
use tape_core::stream::Stream as _;

/// The business key that a command wants for an effect.
pub(super) struct Wanted {
    effect: EffectId,
    connector: Connector,
    key: BusinessKey,
}

impl Wanted {
    pub(super) fn by(command: &Command<RunCommand>) -> Option<Self> {
        let RunCommand::Drive(_, DriverCommand::BeginEffect { effect, spec }) = &command.body else {
            return None;
        };
        let key = spec.business_key.clone()?;
        Some(Self {
            effect: effect.clone(),
            connector: spec.connector.clone(),
            key,
        })
    }

    fn take(&self, run: &RunId, from: Option<(RunId, EffectId)>) -> ClaimCommand {
        let (connector, key) = (self.connector.clone(), self.key.clone());
        ClaimCommand::Take {
            connector,
            key,
            run: run.clone(),
            effect: self.effect.clone(),
            from,
        }
    }
}

impl Parts {
    /// Takes the key for the run, from an owner that can no longer use it where need be.
    pub(super) async fn take_business_key(
        &self,
        run: &RunId,
        command: &Command<RunCommand>,
        wanted: Wanted,
    ) -> Result<(), JournalError> {
        // A command that is refused, or was taken before, must not claim anything.
        let state = self.runs.state(&StreamId::Run(run.clone())).await?;
        let state = state.ok_or(Rejection::NotFound { what: "run" })?;
        if state.decide(command, self.clock.read())?.entries.is_empty() {
            return Ok(());
        }
        drop(state);
        let (connector, key) = (wanted.connector.clone(), wanted.key.clone());
        let stream = StreamId::Claim {
            tenant: run.tenant.clone(),
            connector,
            key,
        };
        let take = |from| Command {
            request: command.request,
            principal: command.principal.clone(),
            trace: command.trace.clone(),
            body: wanted.take(run, from),
        };
        let taken = self.claims.command(&stream, take(None)).await;
        let owner = match taken {
            Ok(_) => return Ok(()),
            Err(JournalError::Rejected(Rejection::BusinessKeyTaken { run, effect, .. })) => (run, effect),
            Err(error) => return Err(error),
        };
        if !self.is_out_of_reach(&owner).await? {
            let (connector, key) = (wanted.connector.clone(), wanted.key.to_string());
            let (run, effect) = owner;
            return Err(Rejection::BusinessKeyTaken {
                connector,
                key,
                run,
                effect,
            }
            .into());
        }
        self.claims.command(&stream, take(Some(owner))).await.map(drop)
    }

    /// Whether a run has not begun an effect and never will. Once true, it stays true.
    async fn is_out_of_reach(&self, (run, effect): &(RunId, EffectId)) -> Result<bool, JournalError> {
        let stream = StreamId::Run(run.clone());
        let state = self.runs.state(&stream).await?;
        let never_begins = state.is_some_and(|state: Arc<Run>| {
            // Effects begin under the newest decision of their scope, while the run is not coming to its end.
            let later = state.next_position(&effect.position.scope).k > effect.position.k.saturating_add(1);
            later || matches!(state.phase(), Phase::Ended { .. } | Phase::Compensating { .. })
        });
        Ok(never_begins && !self.has_begun(&stream, effect).await?)
    }

    /// Whether the journal has the intent of an effect, or had entries dropped that may have had it. Reads all of it: this is for the rare case that a key changes hands.
    async fn has_begun(&self, stream: &StreamId, effect: &EffectId) -> Result<bool, JournalError> {
        let mut after = Seq::ZERO;
        loop {
            let page = self.store.read(stream, after, PAGE_ENTRIES_MAX).await?;
            let Some(last) = page.last() else { return Ok(false) };
            after = last.seq;
            for stored in &page {
                let entry =
                    tape_core::codec::decode(stored).map_err(|error| damaged(stream, Arc::new(error)))?;
                let may_have_begun = match &entry.body {
                    EntryBody::EffectBegun(begun) => begun.effect == *effect,
                    EntryBody::RunRetired(_) => true,
                    _ => false,
                };
                if may_have_begun {
                    return Ok(true);
                }
            }
        }
    }
}
