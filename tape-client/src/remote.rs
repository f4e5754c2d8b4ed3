//! A journal behind a server.

mod answer;
mod commands;
mod drive;
mod due;
mod failure;
mod feed;
mod link;
mod lists;
mod pages;
mod relays;
mod requests;
mod sessions;
mod values;
mod versions;

use crate::error::Error;
use answer::{ANSWER_TIMEOUT, Messages, Silence, messages};
use async_trait::async_trait;
use drive::Drive;
use due::Pushes;
use failure::failed;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use link::Link;
use pages::next_page;
use requests::RequestIds;
use std::sync::Arc;
use std::time::Duration;
use tape_api::argument::{ENTRIES, GATES, RETIRED, RUNS, SESSIONS, VALUES, check_reason};
use tape_api::due::{DueEffect, DueObligation, DuePage, PendingPage};
use tape_api::query::{
    FeedPage, GatePage, GateQuery, IndexFinding, IndexPage, KeyOwnership, OlderEvents, QueueSummary,
    RetiredPage, Retirement, RunCounts, RunPage, RunQuery, SessionEvents, SessionPage, SessionQuery,
    SessionView, StreamEnd, StreamPage, Tail, Transition, Until, ValuePage, ValueQuery, Versioned,
};
use tape_api::{Journal, JournalError, Pages, Relays};
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
use tape_core::reply::{Rejection, Reply};
use tape_core::run::Driver;
use tape_environment::Environment;
use tape_proto::convert::{Only, RetirementQuery, RunQuestion, StreamErasure, Tenants, ValueChange};
use tape_proto::v1;
use tape_proto::v1::retention_service_client::RetentionServiceClient;
use tape_proto::v1::run_service_client::RunServiceClient;
use tape_proto::v1::stream_service_client::StreamServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;
use tokio::sync::watch;
use tonic::transport::Channel;

/// A renewal that is not answered within this part of its lease is asked for over a new connection.
const RENEWALS_PER_LEASE: u64 = 3;
/// The shortest wait for the answer to a renewal.
const RENEWAL_TIMEOUT_MIN: Duration = Duration::from_millis(250);

/// A server, connected to when it is first needed, and again whenever the connection is lost.
#[derive(Debug)]
pub struct Remote {
    environment: Arc<dyn Environment>,
    link: Link,
    commands: Drive,
    /// Renewals of leases have a stream of their own, so they never wait behind other commands.
    renewals: Drive,
    lost: Arc<watch::Sender<u64>>,
    requests: RequestIds,
    pushes: Pushes,
}

impl Remote {
    /// The server at `HOST:PORT`, for a holder of leases of length `lease`: a dead connection is detected well before they end. Needs a
    /// tokio runtime. It connects when it is first needed.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that is no address.
    pub fn new(authority: &str, lease: Duration, environment: Arc<dyn Environment>) -> Result<Self, Error> {
        Self::answered_within(ANSWER_TIMEOUT, authority, lease, environment)
    }

    /// The same for a server that has `answer_timeout` to answer.
    fn answered_within(
        answer_timeout: Duration,
        authority: &str,
        lease: Duration,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, Error> {
        let authority = crate::url::server(authority)?;
        let link = Link::new(authority, lease, answer_timeout)?;
        let lost = Arc::new(watch::Sender::new(0));
        Ok(Self {
            commands: Drive::new(link.clone(), Arc::clone(&lost)),
            renewals: Drive::new(link.clone(), Arc::clone(&lost)),
            link,
            lost,
            requests: RequestIds::new(Arc::clone(&environment)),
            pushes: Pushes::new(Arc::clone(&environment)),
            environment,
        })
    }

    /// Renews a lease.
    async fn renew(&self, request: Box<v1::DriveRequest>, lease_ms: u64) -> Result<v1::Reply, JournalError> {
        let timeout = Duration::from_millis(lease_ms / RENEWALS_PER_LEASE).max(RENEWAL_TIMEOUT_MIN);
        self.link.within(timeout, self.renewals.ask(request)).await
    }

    /// Which connection is used now.
    #[cfg(test)]
    pub(crate) fn connection(&self) -> u64 {
        self.link.number()
    }

    /// The status of a run; none where there is no such run. With `only`, effects and obligations contain only that one. A server of an
    /// earlier build returns all of them.
    async fn view(
        &self,
        run: &RunId,
        only: Option<Only>,
    ) -> Result<Option<v1::GetRunResponse>, JournalError> {
        let run = run.clone();
        let request = v1::GetRunRequest::from(RunQuestion { run, only });
        let get = |channel| async move { runs(channel).get_run(request).await };
        match self.link.ask(get).await {
            Ok(view) => Ok(Some(view)),
            Err(JournalError::Rejected(Rejection::NotFound { .. })) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The outcome of a command. The clock of requests learns from a refusal: every command with a request id goes through here.
    async fn learning<T>(
        &self,
        asked: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        asked.await.inspect_err(|failure| self.requests.learn(failure))
    }

    async fn ask_erasure(&self, erasure: StreamErasure) -> Result<Seq, JournalError> {
        let request = tape_proto::fitting(v1::EraseEntriesRequest::from(erasure)).map_err(failed)?;
        let erase = |channel| async move { streams(channel).erase_entries(request).await };
        Ok(Seq(self.link.ask(erase).await?.seq))
    }

    async fn read_page(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut pages = self.entries_up_to(run, after, Until::End, u64::from(limit));
        let mut entries = Vec::new();
        while entries.len() < wanted
            && let Some(page) = pages.next().await
        {
            entries.extend(page?);
        }
        Ok(entries)
    }

    /// Entries of a run, at most `limit`; zero for no such bound.
    fn entries_up_to(&self, run: &RunId, after: Seq, until: Until, limit: u64) -> Pages {
        let follow = until == Until::Forever;
        let request = v1::ReadRunRequest {
            run: Some(run.clone().into()),
            after_seq: after.0,
            limit,
            follow,
        };
        let read = |channel| async move { runs(channel).read_run(request).await };
        let silence = if follow { Silence::NoNews } else { Silence::Hangs };
        let page = |page: v1::ReadRunResponse| page.entries.into_iter().map(stored).collect();
        messages(&self.link, silence, read)
            .map(move |message| page(message?))
            .take_while(|page| std::future::ready(!is_not_there(page)))
            .boxed()
    }
}

/// Whether the page is a rejection because the run does not exist: such a run has no entries.
const fn is_not_there(page: &Result<Vec<StoredEntry>, JournalError>) -> bool {
    matches!(page, Err(JournalError::Rejected(Rejection::NotFound { .. })))
}

fn runs(channel: Channel) -> RunServiceClient<Channel> {
    RunServiceClient::new(channel).max_decoding_message_size(message_bytes_max())
}

fn streams(channel: Channel) -> StreamServiceClient<Channel> {
    StreamServiceClient::new(channel).max_decoding_message_size(message_bytes_max())
}

const fn message_bytes_max() -> usize {
    tape_proto::MESSAGE_BYTES_MAX
}

#[async_trait]
impl Journal for Remote {
    fn environment(&self) -> Arc<dyn Environment> {
        Arc::clone(&self.environment)
    }

    fn request_id(&self) -> RequestId {
        self.requests.next()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        self.learning(self.ask_run(run, command)).await
    }

    async fn session(
        &self,
        session: &SessionId,
        command: Command<SessionCommand>,
    ) -> Result<Reply, JournalError> {
        self.learning(self.ask_session(session, command)).await
    }

    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, JournalError> {
        self.session(session, sessions::rewinding(to)).await
    }

    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, JournalError> {
        self.read_session(session, events_max).await
    }

    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, JournalError> {
        self.read_events(session, from, events_max).await
    }

    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, JournalError> {
        let change = ValueChange {
            tenant: tenant.clone(),
            name: name.clone(),
            command,
        };
        self.learning(self.ask_value(change)).await
    }

    async fn value_state(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, JournalError> {
        self.read_value(tenant, name).await
    }

    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, JournalError>> {
        self.watch_value(tenant, name, after)
    }

    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, JournalError> {
        let Some(view) = self.view(run, None).await? else {
            return Ok(None);
        };
        let digest = <[u8; 32]>::try_from(view.head_digest.as_ref())
            .map_err(|_| JournalError::Damaged("the server's digest of a run's head is not one".into()))?;
        Ok(Some((Seq(view.head_seq), Digest(digest))))
    }

    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, JournalError> {
        let view = self.view(run, None).await?;
        Ok(view.map(Driver::try_from).transpose().map_err(failed)?)
    }

    fn entries(&self, run: &RunId, after: Seq, until: Until) -> Pages {
        self.entries_up_to(run, after, until, 0)
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        self.read_page(run, after, ENTRIES.of(limit)).await
    }

    /// Work that becomes due `within` a time is pushed when it is due.
    async fn due(
        &self,
        queue: Queue,
        _within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        self.read_due(queue, from, limit).await
    }

    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError> {
        self.read_pending(queue, from, limit).await
    }

    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        self.pushes.changed(&self.link, queue)
    }

    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError> {
        self.read_effect(run, effect).await
    }

    async fn due_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError> {
        self.read_obligation(run, obligation).await
    }

    async fn merge(&self, session: &SessionId) -> Result<(), JournalError> {
        let session = Some(session.clone().into());
        let request = v1::MergeSessionRequest { session };
        let merge = |channel| async move { WorkServiceClient::new(channel).merge_session(request).await };
        self.link.ask(merge).await?;
        Ok(())
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), JournalError> {
        let stream = Some(stream.clone().into());
        let request = v1::FinishErasuresRequest { stream };
        let finish = |channel| async move { WorkServiceClient::new(channel).finish_erasures(request).await };
        self.link.ask(finish).await?;
        Ok(())
    }

    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, JournalError>> {
        feed::tail(self.link.clone(), Arc::clone(&self.environment), tail)
    }

    async fn runs(&self, query: &RunQuery, from: Option<&str>, limit: u32) -> Result<RunPage, JournalError> {
        self.list_runs(query, from, RUNS.of(limit)).await
    }

    async fn count_runs(&self, query: &RunQuery, from: Option<&str>) -> Result<RunCounts, JournalError> {
        self.runs_counted(query, from).await
    }

    async fn open_gates(
        &self,
        query: &GateQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<GatePage, JournalError> {
        self.list_gates(query, from, GATES.of(limit)).await
    }

    async fn sessions(
        &self,
        query: &SessionQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<SessionPage, JournalError> {
        self.list_sessions(query, from, SESSIONS.of(limit)).await
    }

    async fn values(
        &self,
        query: &ValueQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<ValuePage, JournalError> {
        self.list_values(query, from, VALUES.of(limit)).await
    }

    async fn key_owner(
        &self,
        tenant: &Tenant,
        connector: &ConnectorName,
        key: &BusinessKey,
    ) -> Result<Option<KeyOwnership>, JournalError> {
        self.business_key(tenant, connector, key).await
    }

    async fn queues(&self, tenant: Option<&Tenant>) -> Result<Vec<QueueSummary>, JournalError> {
        self.list_queues(tenant).await
    }

    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, JournalError> {
        let stream = stream.clone();
        self.learning(self.ask_erasure(StreamErasure { stream, command }))
            .await
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
        let query = RetirementQuery {
            tenant,
            older_than_ms: u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX),
            reason,
            principal: principal.cloned(),
            dry_run,
            page_size: RETIRED.max,
            page_token: from.map(str::to_owned),
        };
        let request = v1::RetireRunsRequest::from(query);
        let retire = |channel| async move { RetentionServiceClient::new(channel).retire_runs(request).await };
        let page = self.link.ask_upkeep(retire).await?;
        let left = page.left.into_iter().map(TryInto::try_into);
        Ok(RetiredPage {
            runs: page.runs,
            entries: page.entries,
            left: left.collect::<Result<_, _>>().map_err(failed)?,
            next: next_page(from, page.next_page_token)?,
        })
    }

    async fn reclaim(&self) -> Result<bool, JournalError> {
        let request = v1::ReclaimSpaceRequest {};
        let reclaim =
            |channel| async move { RetentionServiceClient::new(channel).reclaim_space(request).await };
        Ok(self.link.ask_upkeep(reclaim).await?.more)
    }

    async fn streams(&self, from: Option<&str>) -> Result<StreamPage, JournalError> {
        let request = v1::ListStreamsRequest {
            tenants: Some(Tenants(None).into()),
            page_size: 0,
            page_token: from.unwrap_or_default().to_owned(),
        };
        let list = |channel| async move { streams(channel).list_streams(request).await };
        let page = self.link.ask(list).await?;
        let mut found = StreamPage {
            unreadable: page.unreadable,
            next: next_page(from, page.next_page_token)?,
            ..StreamPage::default()
        };
        for stream in page.streams {
            match StreamId::try_from(stream) {
                Ok(stream) => found.streams.push(stream),
                Err(problem) => found
                    .unreadable
                    .push(format!("a stream of a newer build: {problem}")),
            }
        }
        Ok(found)
    }

    async fn stream_end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, JournalError> {
        let stream = Some(stream.clone().into());
        let request = v1::GetStreamEndRequest { stream };
        let end = |channel| async move { streams(channel).get_stream_end(request).await };
        let mut messages = Messages::open(&self.link, end).await?;
        let Some(first) = messages.next(Silence::Hangs).await? else {
            return Ok(None);
        };
        let digest = <[u8; 32]>::try_from(first.digest.as_ref())
            .map_err(|_| JournalError::Damaged("the server's digest of a stream's end is not one".into()))?;
        let mut snapshot = bytes::BytesMut::from(first.snapshot);
        while let Some(part) = messages.next(Silence::Hangs).await? {
            snapshot.extend_from_slice(&part.snapshot);
        }
        Ok(Some(StreamEnd {
            seq: Seq(first.seq),
            digest: Digest(digest),
            snapshot: first.snapshot_seq.map(|seq| (Seq(seq), snapshot.freeze())),
        }))
    }

    fn stream_entries(&self, stream: &StreamId) -> Pages {
        let request = v1::ReadStreamRequest {
            stream: Some(stream.clone().into()),
            after_seq: 0,
        };
        let read = |channel| async move { streams(channel).read_stream(request).await };
        let page = |page: v1::ReadStreamResponse| page.entries.into_iter().map(stored).collect();
        messages(&self.link, Silence::Hangs, read)
            .map(move |message| page(message?))
            .boxed()
    }

    async fn check_index(&self, from: Option<&str>, correct: bool) -> Result<IndexPage, JournalError> {
        let request = v1::CheckIndexRequest {
            page_size: 0,
            page_token: from.unwrap_or_default().to_owned(),
            correct,
        };
        let check = |channel| async move { streams(channel).check_index(request).await };
        let mut messages = Messages::open(&self.link, check).await?;
        let mut found = IndexPage::default();
        while let Some(message) = messages.next(Silence::Works).await? {
            let findings = message.findings.into_iter().map(|finding| IndexFinding {
                stream: finding.stream_name,
                kind: finding.kind,
                problem: finding.problem,
                corrected: finding.corrected,
            });
            found.findings.extend(findings);
            found.looked_at += message.looked_at;
            found.next = next_page(from, message.next_page_token)?;
        }
        Ok(found)
    }

    fn relays(&self) -> &dyn Relays {
        self
    }

    fn lost_connections(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }
}

fn stored(entry: v1::Entry) -> Result<StoredEntry, JournalError> {
    entry.try_into().map_err(failed)
}

#[cfg(test)]
mod tests;
