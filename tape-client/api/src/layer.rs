//! A journal around another one.

use crate::due::{DueEffect, DueObligation, DuePage, PendingPage};
use crate::error::JournalError;
use crate::journal::{Journal, Pages};
use crate::query::{
    FeedPage, GatePage, GateQuery, IndexPage, KeyOwnership, OlderEvents, QueueSummary, RetiredPage,
    Retirement, RunCounts, RunPage, RunQuery, SessionEvents, SessionPage, SessionQuery, SessionView,
    StreamEnd, StreamPage, Tail, Transition, Until, ValuePage, ValueQuery, Versioned,
};
use crate::relays::Relays;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tape_core::agenda::Queue;
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
use tape_environment::Environment;
use tokio::sync::watch;

/// A journal around another one. A layer writes only the methods that it changes and is a [`Journal`]; the journal within does the rest.
#[async_trait]
pub trait Layer: Debug + Send + Sync + 'static {
    /// The journal within.
    fn inner(&self) -> &dyn Journal;

    /// As [`Journal::environment`].
    fn environment(&self) -> Arc<dyn Environment> {
        self.inner().environment()
    }

    /// As [`Journal::request_id`].
    fn request_id(&self) -> RequestId {
        self.inner().request_id()
    }

    /// As [`Journal::run`].
    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        self.inner().run(run, command).await
    }

    /// As [`Journal::session`].
    async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError> {
        self.inner().session(session, command).await
    }

    /// As [`Journal::rewind`].
    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, JournalError> {
        self.inner().rewind(session, to).await
    }

    /// As [`Journal::value`].
    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, JournalError> {
        self.inner().value(tenant, name, command).await
    }

    /// As [`Journal::erase`].
    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, JournalError> {
        self.inner().erase(stream, command).await
    }

    /// As [`Journal::head`].
    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, JournalError> {
        self.inner().head(run).await
    }

    /// As [`Journal::driver`].
    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, JournalError> {
        self.inner().driver(run).await
    }

    /// As [`Journal::session_view`].
    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, JournalError> {
        self.inner().session_view(session, events_max).await
    }

    /// As [`Journal::session_events`].
    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError> {
        self.inner().session_events(session, from, events_max).await
    }

    /// As [`Journal::value_state`].
    async fn value_state(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, JournalError> {
        self.inner().value_state(tenant, name).await
    }

    /// As [`Journal::read`].
    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        self.inner().read(run, after, limit).await
    }

    /// As [`Journal::entries`].
    fn entries(&self, run: &RunId, after: Seq, until: Until) -> Pages {
        self.inner().entries(run, after, until)
    }

    /// As [`Journal::stream_entries`].
    fn stream_entries(&self, stream: &StreamId) -> Pages {
        self.inner().stream_entries(stream)
    }

    /// As [`Journal::stream_end`].
    async fn stream_end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, JournalError> {
        self.inner().stream_end(stream).await
    }

    /// As [`Journal::watch`].
    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, JournalError>> {
        self.inner().watch(tenant, name, after)
    }

    /// As [`Journal::tail`].
    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, JournalError>> {
        self.inner().tail(tail)
    }

    /// As [`Journal::due`].
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        self.inner().due(queue, within, from, limit).await
    }

    /// As [`Journal::pending`].
    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError> {
        self.inner().pending(queue, from, limit).await
    }

    /// As [`Journal::changed`].
    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        self.inner().changed(queue)
    }

    /// As [`Journal::due_effect`].
    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError> {
        self.inner().due_effect(run, effect).await
    }

    /// As [`Journal::due_obligation`].
    async fn due_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError> {
        self.inner().due_obligation(run, obligation).await
    }

    /// As [`Journal::merge`].
    async fn merge(&self, session: &SessionId) -> Result<(), JournalError> {
        self.inner().merge(session).await
    }

    /// As [`Journal::finish_erasures`].
    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), JournalError> {
        self.inner().finish_erasures(stream).await
    }

    /// As [`Journal::runs`].
    async fn runs(&self, query: &RunQuery, from: Option<&str>, limit: u32) -> Result<RunPage, JournalError> {
        self.inner().runs(query, from, limit).await
    }

    /// As [`Journal::count_runs`].
    async fn count_runs(&self, query: &RunQuery, from: Option<&str>) -> Result<RunCounts, JournalError> {
        self.inner().count_runs(query, from).await
    }

    /// As [`Journal::open_gates`].
    async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError> {
        self.inner().open_gates(query, from, limit).await
    }

    /// As [`Journal::sessions`].
    async fn sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<SessionPage, JournalError> {
        self.inner().sessions(query, from, limit).await
    }

    /// As [`Journal::values`].
    async fn values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<ValuePage, JournalError> {
        self.inner().values(query, from, limit).await
    }

    /// As [`Journal::key_owner`].
    async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError> {
        self.inner().key_owner(tenant, connector, key).await
    }

    /// As [`Journal::queues`].
    async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, JournalError> {
        self.inner().queues(tenant).await
    }

    /// As [`Journal::streams`].
    async fn streams(&self, from: Option<&str>) -> Result<StreamPage, JournalError> {
        self.inner().streams(from).await
    }

    /// As [`Journal::retire`].
    async fn retire(
        &self,
        retirement: &Retirement,
        principal: Option<&Principal>,
        from: Option<&str>,
    ) -> Result<RetiredPage, JournalError> {
        self.inner().retire(retirement, principal, from).await
    }

    /// As [`Journal::reclaim`].
    async fn reclaim(&self) -> Result<bool, JournalError> {
        self.inner().reclaim().await
    }

    /// As [`Journal::check_index`].
    async fn check_index(&self, from: Option<&str>, correct: bool) -> Result<IndexPage, JournalError> {
        self.inner().check_index(from, correct).await
    }

    /// As [`Journal::relays`].
    fn relays(&self) -> &dyn Relays {
        self.inner().relays()
    }

    /// As [`Journal::lost_connections`].
    fn lost_connections(&self) -> watch::Receiver<u64> {
        self.inner().lost_connections()
    }
}

#[async_trait]
impl<L: Layer> Journal for L {
    fn environment(&self) -> Arc<dyn Environment> {
        Layer::environment(self)
    }

    fn request_id(&self) -> RequestId {
        Layer::request_id(self)
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        Layer::run(self, run, command).await
    }

    async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError> {
        Layer::session(self, session, command).await
    }

    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, JournalError> {
        Layer::rewind(self, session, to).await
    }

    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, JournalError> {
        Layer::value(self, tenant, name, command).await
    }

    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, JournalError> {
        Layer::erase(self, stream, command).await
    }

    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, JournalError> {
        Layer::head(self, run).await
    }

    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, JournalError> {
        Layer::driver(self, run).await
    }

    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, JournalError> {
        Layer::session_view(self, session, events_max).await
    }

    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError> {
        Layer::session_events(self, session, from, events_max).await
    }

    async fn value_state(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, JournalError> {
        Layer::value_state(self, tenant, name).await
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        Layer::read(self, run, after, limit).await
    }

    fn entries(&self, run: &RunId, after: Seq, until: Until) -> Pages {
        Layer::entries(self, run, after, until)
    }

    fn stream_entries(&self, stream: &StreamId) -> Pages {
        Layer::stream_entries(self, stream)
    }

    async fn stream_end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, JournalError> {
        Layer::stream_end(self, stream).await
    }

    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, JournalError>> {
        Layer::watch(self, tenant, name, after)
    }

    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, JournalError>> {
        Layer::tail(self, tail)
    }

    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        Layer::due(self, queue, within, from, limit).await
    }

    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError> {
        Layer::pending(self, queue, from, limit).await
    }

    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        Layer::changed(self, queue)
    }

    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError> {
        Layer::due_effect(self, run, effect).await
    }

    async fn due_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError> {
        Layer::due_obligation(self, run, obligation).await
    }

    async fn merge(&self, session: &SessionId) -> Result<(), JournalError> {
        Layer::merge(self, session).await
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), JournalError> {
        Layer::finish_erasures(self, stream).await
    }

    async fn runs(&self, query: &RunQuery, from: Option<&str>, limit: u32) -> Result<RunPage, JournalError> {
        Layer::runs(self, query, from, limit).await
    }

    async fn count_runs(&self, query: &RunQuery, from: Option<&str>) -> Result<RunCounts, JournalError> {
        Layer::count_runs(self, query, from).await
    }

    async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError> {
        Layer::open_gates(self, query, from, limit).await
    }

    async fn sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<SessionPage, JournalError> {
        Layer::sessions(self, query, from, limit).await
    }

    async fn values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<ValuePage, JournalError> {
        Layer::values(self, query, from, limit).await
    }

    async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError> {
        Layer::key_owner(self, tenant, connector, key).await
    }

    async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, JournalError> {
        Layer::queues(self, tenant).await
    }

    async fn streams(&self, from: Option<&str>) -> Result<StreamPage, JournalError> {
        Layer::streams(self, from).await
    }

    async fn retire(
        &self,
        retirement: &Retirement,
        principal: Option<&Principal>,
        from: Option<&str>,
    ) -> Result<RetiredPage, JournalError> {
        Layer::retire(self, retirement, principal, from).await
    }

    async fn reclaim(&self) -> Result<bool, JournalError> {
        Layer::reclaim(self).await
    }

    async fn check_index(&self, from: Option<&str>, correct: bool) -> Result<IndexPage, JournalError> {
        Layer::check_index(self, from, correct).await
    }

    fn relays(&self) -> &dyn Relays {
        Layer::relays(self)
    }

    fn lost_connections(&self) -> watch::Receiver<u64> {
        Layer::lost_connections(self)
    }
}
