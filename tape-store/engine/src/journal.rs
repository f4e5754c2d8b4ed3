//! The engine as a journal.

pub(crate) mod failure;
mod feed;
mod pages;
mod relay_control;
mod relay_lag;
mod relays;
mod sessions;
mod values;

use crate::{Engine, EventsFrom, Retirement as RetireBefore};
use async_trait::async_trait;
use failure::of_store;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use pages::{Reading, pages};
use std::sync::Arc;
use std::time::Duration;
use tape_api::argument::{self, DUE, ENTRIES, EVENTS, RETIRED, STREAMS, check_reason};
use tape_api::due::{DueEffect, DueObligation, DuePage, DueWork, PendingPage, PendingWork};
use tape_api::query::{
    FeedPage, GatePage, GateQuery, IndexFinding, IndexPage, KeyOwnership, OlderEvents, QueueSummary,
    RetiredPage, Retirement, RunCounts, RunPage, RunQuery, SessionEvents, SessionPage, SessionQuery,
    SessionView, StreamEnd, StreamPage, Tail, Transition, Until, ValuePage, ValueQuery, Versioned,
};
use tape_api::{Journal, JournalError, Pages, Relays};
use tape_core::agenda::Queue;
use tape_core::causes::Causes;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::erasure::Erasure;
use tape_core::id::{
    BusinessKey, ConnectorName, EffectId, Principal, RequestId, RunId, Seq, SessionId, StreamId, Tenant,
    ValueName,
};
use tape_core::payload::Digest;
use tape_core::reply::Reply;
use tape_core::run::Driver;
use tape_core::time::Timestamp;
use tape_environment::Environment;
use tape_store::contract::{Hint, PageToken};

#[async_trait]
impl Journal for Engine {
    fn environment(&self) -> Arc<dyn Environment> {
        Self::environment(self)
    }

    fn request_id(&self) -> RequestId {
        Self::request_id(self)
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        Ok(Self::run(self, run, command).await?)
    }

    async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError> {
        Ok(Self::session(self, session, command).await?)
    }

    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, JournalError> {
        Ok(self.rewind_session(session, to).await?)
    }

    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, JournalError> {
        Ok(Self::value(self, tenant, name, command).await?)
    }

    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, JournalError> {
        Ok(Self::erase(self, stream, command).await?.seq)
    }

    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, JournalError> {
        let head = self.store().head(&StreamId::Run(run.clone())).await;
        Ok(head.map_err(of_store)?.map(|head| (head.seq, head.digest)))
    }

    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, JournalError> {
        let Some(state) = self.run_state(run).await? else {
            return Ok(None);
        };
        let now = self.read_clock().await.map_err(of_store)?;
        Ok(Some(state.driver(now)))
    }

    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, JournalError> {
        sessions::view(self, session, events_max).await
    }

    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError> {
        let from = argument::token(Some(&from.0)).map_or(Ok(EventsFrom::END), str::parse);
        sessions::events(self, session, from.map_err(of_store)?, EVENTS.of(events_max)).await
    }

    async fn value_state(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, JournalError> {
        let state = Self::value_state(self, tenant, name).await?;
        Ok(state.map(|value| Versioned {
            version: value.version(),
            value: value.current(),
        }))
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        let stream = StreamId::Run(run.clone());
        let page = self.store().read(&stream, after, ENTRIES.of(limit)).await;
        page.map_err(of_store)
    }

    fn entries(&self, run: &RunId, after: Seq, until: Until) -> Pages {
        let reading = match until {
            Until::End => Reading::ToEnd,
            Until::Forever => Reading::Following,
        };
        pages(self.store().clone(), StreamId::Run(run.clone()), after, reading)
    }

    fn stream_entries(&self, stream: &StreamId) -> Pages {
        pages(self.store().clone(), stream.clone(), Seq::ZERO, Reading::AsStored)
    }

    async fn stream_end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, JournalError> {
        let head = self.store().head(stream).await.map_err(of_store)?;
        Ok(head.map(|head| StreamEnd {
            seq: head.seq,
            digest: head.digest,
            snapshot: head.snapshot.map(|snapshot| (snapshot.seq, snapshot.bytes)),
        }))
    }

    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, JournalError>> {
        let stream = StreamId::Value {
            tenant: tenant.clone(),
            name: name.clone(),
        };
        values::watch(self.store().clone(), stream, after)
    }

    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, JournalError>> {
        feed::tail(self.store().clone(), Self::environment(self), tail.clone())
    }

    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        let now = self.due_until().await.map_err(of_store)?;
        let until = now.plus_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let from = token(from);
        let page = self.due_page(queue, until, from.as_ref(), DUE.of(limit)).await;
        let page = page.map_err(of_store)?;
        Ok(DuePage {
            work: page.hints.into_iter().map(|hint| due_work(hint, now)).collect(),
            next: page.next.map(|token| token.0),
        })
    }

    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError> {
        let now = self.due_until().await.map_err(of_store)?;
        let from = token(from);
        let page = self.due_page(queue, Timestamp::MAX, from.as_ref(), DUE.of(limit));
        let page = page.await.map_err(of_store)?;
        Ok(PendingPage {
            work: page.hints.into_iter().map(pending_work).collect(),
            next: page.next.map(|token| token.0),
            now: Some(now),
        })
    }

    fn changed(&self, _queue: Queue) -> BoxFuture<'static, ()> {
        self.store().changed()
    }

    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError> {
        let state = self.run_state(run).await?;
        let now = self.read_clock().await.map_err(of_store)?;
        let effect = state.as_ref().and_then(|run| run.claimable_effect(effect, now));
        Ok(effect.map(|effect| DueEffect {
            connector: effect.connector.clone(),
            begun: effect.begun,
        }))
    }

    async fn due_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError> {
        let state = self.run_state(run).await?;
        let now = self.read_clock().await.map_err(of_store)?;
        let obligation = state
            .as_ref()
            .and_then(|run| run.claimable_obligation(obligation, now));
        Ok(obligation.map(|obligation| DueObligation {
            connector: obligation.connector.clone(),
            source: obligation.source,
            begun: obligation.begun,
        }))
    }

    async fn merge(&self, session: &SessionId) -> Result<(), JournalError> {
        Ok(self.merge_session(session).await?)
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), JournalError> {
        Ok(Self::finish_erasures(self, stream).await?)
    }

    async fn runs(&self, query: &RunQuery, from: Option<&str>, limit: u32) -> Result<RunPage, JournalError> {
        self.list_runs(query, from, limit).await
    }

    async fn count_runs(&self, query: &RunQuery, from: Option<&str>) -> Result<RunCounts, JournalError> {
        Self::count_runs(self, query, from).await
    }

    async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError> {
        Self::open_gates(self, query, from, limit).await
    }

    async fn sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<SessionPage, JournalError> {
        self.list_sessions(query, from, limit).await
    }

    async fn values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<ValuePage, JournalError> {
        self.list_values(query, from, limit).await
    }

    async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError> {
        Self::key_owner(self, tenant, connector, key).await
    }

    async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, JournalError> {
        Self::queues(self, tenant).await
    }

    async fn streams(&self, from: Option<&str>) -> Result<StreamPage, JournalError> {
        let page = Self::streams(self, token(from).as_ref(), STREAMS.max).await;
        let page = page.map_err(of_store)?;
        Ok(StreamPage {
            streams: page.streams,
            unreadable: page.unreadable,
            next: page.next.map(|token| token.0),
        })
    }

    async fn retire(
        &self,
        retirement: &Retirement,
        principal: Option<&Principal>,
        from: Option<&str>,
    ) -> Result<RetiredPage, JournalError> {
        let Retirement {
            tenant,
            older_than,
            reason,
            dry_run,
        } = retirement.clone();
        check_reason(&reason)?;
        let older_than_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let now = self.now().await.map_err(of_store)?;
        let retirement = RetireBefore {
            tenant,
            ended_before: now.minus_millis(older_than_ms),
            principal: principal.cloned(),
            reason,
            dry_run,
        };
        let from = token(from);
        let page = self.retire_page(&retirement, from.as_ref(), RETIRED.max).await?;
        let left = page.failed.into_iter();
        Ok(RetiredPage {
            runs: page.runs,
            entries: page.entries,
            left: left
                .map(|(run, error)| (run, Causes(&error).to_string()))
                .collect(),
            next: page.next.map(|token| token.0),
        })
    }

    fn relays(&self) -> &dyn Relays {
        self
    }

    async fn reclaim(&self) -> Result<bool, JournalError> {
        Self::reclaim(self).await.map_err(of_store)
    }

    async fn check_index(&self, from: Option<&str>, correct: bool) -> Result<IndexPage, JournalError> {
        let page = Self::check_index(self, token(from).as_ref(), STREAMS.max, correct).await?;
        let findings = page.findings.into_iter().map(|finding| IndexFinding {
            kind: finding.problem.kind().to_owned(),
            problem: finding.problem.to_string(),
            stream: finding.stream,
            corrected: finding.corrected,
        });
        Ok(IndexPage {
            looked_at: page.looked_at,
            findings: findings.collect(),
            next: page.next.map(|token| token.0),
        })
    }
}

fn token(from: Option<&str>) -> Option<PageToken> {
    argument::token(from).map(|from| PageToken(from.to_owned()))
}

fn pending_work(hint: Hint) -> PendingWork {
    PendingWork {
        stream: hint.stream,
        item: hint.item,
        due: hint.due,
    }
}

fn due_work(hint: Hint, now: Timestamp) -> DueWork {
    let micros = hint.due.as_micros().saturating_sub(now.as_micros());
    DueWork {
        stream: hint.stream,
        item: hint.item,
        due_in: Duration::from_micros(u64::try_from(micros).unwrap_or(0)),
    }
}
