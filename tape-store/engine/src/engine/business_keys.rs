//! Business keys: one owner each, claimed before the owner's effect begins.

use super::{Engine, Parts};
use crate::stream_service::{EngineError, damaged};
use std::sync::Arc;
use tape_api::JournalError;
use tape_api::query::KeyOwnership;
use tape_core::command::{Command, DriverCommand, KeyCommand, RunCommand};
use tape_core::decider::Decider as _;
use tape_core::id::{BusinessKey, ConnectorName, EffectId, RunId, Seq, StreamId, Tenant};
use tape_core::key_owner::{Ownership, OwnershipTrace};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::reply::{Missing, Rejection};

/// The business key that a command wants for an effect.
pub(super) struct Wanted {
    effect: EffectId,
    connector: ConnectorName,
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

    fn take(&self, run: &RunId, from: Option<(RunId, EffectId)>) -> KeyCommand {
        let (connector, key) = (self.connector.clone(), self.key.clone());
        KeyCommand::Take {
            connector,
            key,
            run: run.clone(),
            effect: self.effect.clone(),
            from,
        }
    }
}

impl Engine {
    /// The owner of a business key; none where the key was never taken. An owner whose effect never happened keeps the key until another
    /// effect wants it.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] where the key's stream cannot be read.
    pub async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError> {
        let stream = StreamId::KeyOwner {
            tenant: tenant.clone(),
            connector: connector.clone(),
            key: key.clone(),
        };
        let Some(state) = self.0.claims.state(&stream).await? else {
            return Ok(None);
        };
        let Some((run, effect)) = state.owner().cloned() else {
            return Ok(None);
        };
        // Every entry of the stream is a taking; the last one counts.
        let taken = state.seq();
        Ok(Some(KeyOwnership {
            run,
            effect,
            taken,
            taken_at: self.0.recorded_at(&stream, taken).await?,
        }))
    }
}

impl Parts {
    /// Takes the key for the run, if need be from an owner that can no longer use it.
    pub(super) async fn take_business_key(
        &self,
        run: &RunId,
        command: &Command<RunCommand>,
        wanted: Wanted,
    ) -> Result<(), EngineError> {
        // A command that is refused, or was executed before, must not claim a key.
        let state = self.runs.state(&StreamId::Run(run.clone())).await?;
        let state = state.ok_or(Rejection::not_found(Missing::Run))?;
        if state.decide(command, self.clock.read())?.entries.is_empty() {
            return Ok(());
        }
        drop(state);
        let (connector, key) = (wanted.connector.clone(), wanted.key.clone());
        let stream = StreamId::KeyOwner {
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
            Err(EngineError::Rejected(Rejection::BusinessKeyTaken { run, effect, .. })) => (run, effect),
            Err(error) => return Err(error),
        };
        match self.key_owner(&owner).await? {
            Ownership::Free => self.claims.command(&stream, take(Some(owner))).await.map(drop),
            Ownership::Holds { status, settled } => {
                let (connector, key) = (wanted.connector.clone(), wanted.key.to_string());
                let (run, effect) = owner;
                Err(Rejection::BusinessKeyTaken {
                    connector,
                    key,
                    run,
                    effect,
                    status,
                    settled,
                }
                .into())
            }
        }
    }

    /// What became of the effect that owns a key. Usually the state of its run says so; what the state has forgotten is read from all
    /// entries.
    async fn key_owner(&self, (run, effect): &(RunId, EffectId)) -> Result<Ownership, EngineError> {
        let stream = StreamId::Run(run.clone());
        let state = self.runs.state(&stream).await?;
        // A key is claimed for a run that exists. An owner that does not exist is damage, and frees nothing.
        let nothing = Ownership::Holds {
            status: None,
            settled: None,
        };
        match state
            .as_deref()
            .map_or(Some(nothing), |run| Ownership::by_state(run, effect))
        {
            Some(owner) => Ok(owner),
            None => self.trace_owner(&stream, effect).await,
        }
    }

    async fn trace_owner(&self, stream: &StreamId, effect: &EffectId) -> Result<Ownership, EngineError> {
        let (mut after, mut trace) = (Seq::ZERO, OwnershipTrace::of(effect.clone()));
        loop {
            let page = self.store.read(stream, after, PAGE_ENTRIES_MAX).await?;
            let Some(last) = page.last() else {
                return Ok(trace.owner());
            };
            after = last.seq;
            for stored in &page {
                let entry =
                    tape_core::codec::decode(stored).map_err(|error| damaged(stream, Arc::new(error)))?;
                trace.note(&entry);
            }
        }
    }
}
