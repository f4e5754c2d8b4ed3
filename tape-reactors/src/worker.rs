//! The common part of workers on claims: they load the work, keep the claim while an upstream is called, and record the outcome.

use crate::backoff::Backoff;
use crate::connector::{Call, ConcurrencyLimit, Connector, Connectors};
use crate::outages::Outages;
use crate::reactor::ReactionError;
use crate::told::tell;
use crate::watched::Watched;
use std::sync::Arc;
use std::time::Duration;
use tape_api::due::{DueEffect, DueObligation, DueWork};
use tape_api::sending::{Sending, ask};
use tape_api::{Journal, JournalError};
use tape_core::agenda::Item;
use tape_core::causes::Causes;
use tape_core::command::{Held, RunCommand, WorkerCommand};
use tape_core::effect::{EffectSpec, Status, Undo};
use tape_core::entry::{EntryBody, obligation::ObligationId};
use tape_core::id::{ConnectorName as Name, EffectId, Holder, RunId, Seq, StreamId};
use tape_core::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
use tape_core::reply::{Reply, ReplyResult};
use tokio::time::Instant;
use tracing::debug;

/// How long workers hold on to work and wait for upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// A claim lapses after this long unless it is renewed, which happens at a third of it; from 100 ms to an hour. If a worker
    /// vanishes, its work waits this long.
    pub claim: Duration,
    /// An upstream has this long to answer; then its answer counts as lost.
    pub timeout: Duration,
}

impl Default for Terms {
    /// Claims of 30 s, answers within 60 s.
    fn default() -> Self {
        Self {
            claim: Duration::from_secs(30),
            timeout: Duration::from_secs(60),
        }
    }
}

/// One worker: a name under which work is claimed, the connectors it has, and a journal. Cheap to clone; the reactors of a process
/// share one.
#[derive(Clone)]
pub struct Worker {
    journal: Watched,
    connectors: Arc<Connectors>,
    holder: Holder,
    terms: Terms,
    outages: Arc<Outages<Name>>,
}

/// An effect that is due, with its connector.
pub(crate) struct TheEffect<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) effect: &'a EffectId,
    /// The entry that began it.
    pub(crate) begun: Seq,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) limit: ConcurrencyLimit,
}

/// An obligation that is due, with its connector.
pub(crate) struct TheObligation<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) obligation: &'a ObligationId,
    pub(crate) at: DueObligation,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) limit: ConcurrencyLimit,
}

/// The result of waiting for an upstream.
pub(crate) enum Waited<T> {
    /// It answered.
    Answered(T),
    /// It took longer than the timeout.
    TooLong,
    /// Another worker may have the work now: an outcome recorded by this one no longer counts.
    Lost,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker named `holder`; no two processes may have the same name.
    #[must_use]
    pub fn new(journal: impl Into<Watched>, connectors: Connectors, holder: Holder, terms: Terms) -> Self {
        let bounds = Duration::from_millis(LEASE_MS_MIN)..=Duration::from_millis(LEASE_MS_MAX);
        let claim = terms.claim.clamp(*bounds.start(), *bounds.end());
        Self {
            journal: journal.into(),
            connectors: Arc::new(connectors),
            holder,
            terms: Terms { claim, ..terms },
            outages: Arc::new(Outages::new(
                "upstream",
                "is not reached: its work waits, and no attempt counts",
            )),
        }
    }

    /// A random number from 0 to below 1.
    pub(crate) fn chance(&self) -> f64 {
        self.journal.environment().chance()
    }

    /// The upstreams that are not reached.
    pub(crate) fn outages(&self) -> &Outages<Name> {
        &self.outages
    }

    pub(crate) fn holder(&self) -> Holder {
        self.holder.clone()
    }

    pub(crate) fn claim_ms(&self) -> u64 {
        u64::try_from(self.terms.claim.as_millis()).unwrap_or(LEASE_MS_MAX)
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.terms.timeout
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.terms.timeout
    }

    /// The effect of a piece of work; none where a worker has nothing to do for it.
    pub(crate) async fn effect<'a>(&self, work: &'a DueWork) -> Result<Option<TheEffect<'a>>, ReactionError> {
        let (Some(run), Item::Effect(effect)) = (work.stream.as_run(), &work.item) else {
            return Ok(None);
        };
        let Some(DueEffect { connector, begun }) = self.journal.due_effect(run, effect).await? else {
            return Ok(None);
        };
        let (connector, limit) = self.connector(&connector)?;
        Ok(Some(TheEffect {
            run,
            effect,
            begun,
            connector,
            limit,
        }))
    }

    /// The obligation of a piece of work, in the same way.
    pub(crate) async fn obligation<'a>(
        &self,
        work: &'a DueWork,
    ) -> Result<Option<TheObligation<'a>>, ReactionError> {
        let (Some(run), Item::Obligation(obligation)) = (work.stream.as_run(), &work.item) else {
            return Ok(None);
        };
        let Some(at) = self.journal.due_obligation(run, obligation).await? else {
            return Ok(None);
        };
        let (connector, limit) = self.connector(&at.connector)?;
        Ok(Some(TheObligation {
            run,
            obligation,
            at,
            connector,
            limit,
        }))
    }

    fn connector(&self, name: &Name) -> Result<(Arc<dyn Connector>, ConcurrencyLimit), ReactionError> {
        self.connectors
            .get(name)
            .ok_or_else(|| ReactionError::UnknownConnector {
                connector: name.clone(),
            })
    }

    /// The specification that an effect was begun with.
    pub(crate) async fn spec(&self, run: &RunId, begun: Seq) -> Result<EffectSpec, JournalError> {
        match self.entry(run, begun).await? {
            EntryBody::EffectBegun(begun) => Ok(begun.spec),
            other => Err(damaged(format!("entry {begun} is {}, no effect", other.kind()))),
        }
    }

    /// How to undo an effect, from the entry that says so.
    pub(crate) async fn undo(&self, run: &RunId, source: Seq) -> Result<Undo, JournalError> {
        let undo = match self.entry(run, source).await? {
            EntryBody::EffectBegun(begun) => begun.spec.undo,
            EntryBody::EffectConfirmed(confirmed) => confirmed.undo,
            EntryBody::ObligationArmed(armed) => Some(Undo {
                operation: armed.operation,
                args: armed.args,
            }),
            _ => None,
        };
        undo.ok_or_else(|| damaged(format!("entry {source} says nothing about undoing")))
    }

    async fn entry(&self, run: &RunId, seq: Seq) -> Result<EntryBody, JournalError> {
        let page = self.journal.read(run, Seq(seq.0.saturating_sub(1)), 1).await?;
        let stored = page.first().filter(|entry| entry.seq == seq);
        let stored = stored.ok_or_else(|| damaged(format!("there is no entry {seq}")))?;
        let entry = tape_core::codec::decode(stored).map_err(|error| JournalError::Damaged(error.into()))?;
        Ok(entry.body)
    }

    /// Claims the work. If the reply used up half the claim, it is renewed first. Otherwise a call just before the claim lapses could
    /// arrive after the next worker has asked the upstream whether it acted. None where the claim was lost meanwhile.
    pub(crate) async fn claim(
        &self,
        call: &Call,
        command: WorkerCommand,
    ) -> Result<Option<Reply>, JournalError> {
        let mut asked = Instant::now();
        let reply = self.ask(&call.run, command.clone()).await?;
        let Some(renew) = self.renewal(&command, &reply.result) else {
            return Ok(Some(reply));
        };
        while asked.elapsed() >= self.terms.claim / 2 {
            asked = Instant::now();
            match self.ask(&call.run, renew.clone()).await {
                Ok(_) => {}
                Err(JournalError::Rejected(rejection)) => {
                    tell!(warn, call, %rejection, "a claim was lost before the upstream was called");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(reply))
    }

    /// The command that renews a claim; none where the answer granted none.
    fn renewal(&self, claim: &WorkerCommand, answer: &ReplyResult) -> Option<WorkerCommand> {
        match (claim, answer) {
            (
                WorkerCommand::ClaimEffect { effect, .. },
                ReplyResult::Effect {
                    status: Status::Started,
                    attempt,
                    ..
                },
            ) => Some(self.renew_effect(effect, Held::Attempt(*attempt))),
            (WorkerCommand::ClaimObservation { effect, .. }, ReplyResult::Observing { observation, .. }) => {
                Some(self.renew_effect(effect, Held::Observation(*observation)))
            }
            (
                WorkerCommand::ClaimObligation { obligation, .. },
                ReplyResult::Obligation {
                    stuck: false,
                    attempt,
                    ..
                },
            ) => Some(self.renew_obligation(obligation, *attempt)),
            _ => None,
        }
    }

    /// The command that renews the claim of an effect that is dispatched or observed.
    pub(crate) fn renew_effect(&self, effect: &EffectId, held: Held) -> WorkerCommand {
        WorkerCommand::RenewEffectClaim {
            effect: effect.clone(),
            holder: self.holder(),
            held: Some(held),
            claim_ms: self.claim_ms(),
        }
    }

    /// The command that renews the claim of an obligation that is executed.
    pub(crate) fn renew_obligation(&self, obligation: &ObligationId, attempt: u32) -> WorkerCommand {
        WorkerCommand::RenewObligationClaim {
            obligation: obligation.clone(),
            holder: self.holder(),
            attempt: Some(attempt),
            claim_ms: self.claim_ms(),
        }
    }

    /// Sends a command until it is answered, or for as long as a claim lasts: a known outcome is worth waiting for.
    pub(crate) async fn ask(&self, run: &RunId, command: WorkerCommand) -> Result<Reply, JournalError> {
        let mut command = Sending::new(&self.journal, run, RunCommand::Work(command));
        let give_up = Instant::now() + self.terms.claim;
        let mut backoff = Backoff::new(Duration::from_millis(20), self.terms.claim / 4);
        loop {
            match command.send().await {
                Err(JournalError::Unavailable(error)) if Instant::now() < give_up => {
                    let run = StreamId::Run(run.clone());
                    debug!(%run, error = %Causes(error.as_ref()), "the journal did not answer; asking again");
                    tokio::time::sleep(backoff.next(self.chance())).await;
                }
                other => return other,
            }
        }
    }

    /// Waits for an upstream's answer and keeps the claim meanwhile, by repeating `renew`.
    pub(crate) async fn call<T>(
        &self,
        call: &Call,
        renew: WorkerCommand,
        answer: impl Future<Output = T>,
    ) -> Waited<T> {
        tokio::select! {
            biased;
            answer = tokio::time::timeout(self.terms.timeout, answer) => {
                answer.map_or(Waited::TooLong, Waited::Answered)
            }
            () = self.keep(call, renew) => Waited::Lost,
        }
    }

    /// Renews a claim until it is lost. This also ends where the journal is unreachable for longer than the claim lasts: a call still under
    /// way would arrive after the next worker has asked the upstream about it.
    async fn keep(&self, call: &Call, renew: WorkerCommand) {
        let claim = self.terms.claim;
        // Half of the claim may be over already.
        let (mut wait, mut until) = (claim / 6, Instant::now() + claim / 2);
        loop {
            tokio::time::sleep(wait).await;
            let asked = Instant::now();
            let renewed = ask(&self.journal, &call.run, RunCommand::Work(renew.clone()));
            match tokio::time::timeout_at(until, renewed).await {
                Ok(Ok(_)) => until = asked + claim,
                Ok(Err(JournalError::Rejected(rejection))) => {
                    tell!(warn, call, %rejection, "a claim was lost while the upstream was called");
                    return;
                }
                Ok(Err(JournalError::Unavailable(error))) => {
                    tell!(debug, call, error = %Causes(error.as_ref()), "a claim was not renewed");
                }
                Ok(Err(error)) => tell!(warn, call, error = %Causes(&error), "a claim was not renewed"),
                Err(_) => tell!(warn, call, "a claim was not renewed: the journal does not answer"),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tell!(warn, call, "a claim has lapsed while the upstream was called");
                return;
            }
            wait = left.min(claim / 3);
        }
    }
}

fn damaged(problem: String) -> JournalError {
    JournalError::Damaged(problem.into())
}
