//! A journal behind a server.

mod drive;
mod failure;
mod feed;
mod link;
mod requests;
mod sessions;
mod values;
mod work;

use super::{
    Backend, Failure, FeedPage, IndexFinding, IndexPage, OlderEvents, RetiredPage, Retirement, RunPage,
    RunQuery, SessionEvents, SessionView, StreamEnd, StreamPage, Tail, Transition, Until, Versioned,
};
use async_trait::async_trait;
use drive::Drive;
use futures::stream::{self, BoxStream, StreamExt as _};
use link::Link;
use requests::RequestIds;
use std::sync::Arc;
use std::time::Duration;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, DriverCommand, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::erasure::Erasure;
use tape_core::id::{Principal, RequestId, RunId, Seq, SessionId, StreamId, Tenant, ValueName};
use tape_core::limits::RETIRED_PER_PAGE_MAX;
use tape_core::payload::Digest;
use tape_core::reply::{Rejection, Reply};
use tape_core::run::Driver;
use tape_proto::convert::{
    Only, RetirementQuery, RunListQuery, RunQuestion, StreamErasure, ValueChange, execute_request,
};
use tape_proto::failure::Failure as Wire;
use tape_proto::v1;
use tape_proto::v1::entries_client::EntriesClient;
use tape_proto::v1::retention_client::RetentionClient;
use tape_proto::v1::runs_client::RunsClient;
use tokio::sync::watch;
use tonic::Streaming;
use tonic::transport::Channel;

/// A renewal that is not answered within this part of its lease is asked for over a new connection.
const RENEWALS_PER_LEASE: u64 = 3;
/// The shortest wait for the answer to a renewal.
const RENEWAL_PATIENCE_MIN: Duration = Duration::from_millis(250);

/// A server, connected to when it is first needed, and again whenever the connection is lost.
#[derive(Debug)]
pub(crate) struct Remote {
    link: Link,
    commands: Drive,
    /// Renewals of leases have a stream of their own: they wait behind no other command, however many there are and however large.
    renewals: Drive,
    lost: Arc<watch::Sender<u64>>,
    requests: RequestIds,
}

impl Remote {
    /// The server at `authority`, for a client whose leases have a length.
    pub(crate) fn new(authority: &str, lease: Duration) -> Result<Self, Failure> {
        let link = Link::new(authority, lease)?;
        let lost = Arc::new(watch::Sender::new(0));
        Ok(Self {
            commands: Drive::new(link.clone(), Arc::clone(&lost)),
            renewals: Drive::new(link.clone(), Arc::clone(&lost)),
            link,
            lost,
            requests: RequestIds::default(),
        })
    }

    fn runs(&self) -> RunsClient<Channel> {
        runs(self.link.channel())
    }

    /// Renews a lease.
    async fn renew(
        &self,
        request: v1::ExecuteRequest,
        lease_ms: u64,
    ) -> Result<v1::ExecuteResponse, Failure> {
        let patience = Duration::from_millis(lease_ms / RENEWALS_PER_LEASE).max(RENEWAL_PATIENCE_MIN);
        self.within(patience, self.renewals.ask(request)).await
    }

    /// What is answered within `patience`. A connection over which there is no answer in time is given up: it may lead nowhere any more.
    pub(crate) async fn within<T>(
        &self,
        patience: Duration,
        asked: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let number = self.link.number();
        let answer = tokio::time::timeout(patience, asked).await;
        answer.unwrap_or_else(|_| {
            self.link.give_up(number);
            Err(Failure::Retryable("there was no answer in time".into()))
        })
    }

    /// Which connection is used now.
    #[cfg(test)]
    pub(crate) fn connection(&self) -> u64 {
        self.link.number()
    }

    /// Where a run stands, of effects and obligations only one if it is named; none where there is no such run. A server of an earlier
    /// build answers with all of them.
    async fn view(&self, run: &RunId, only: Option<Only>) -> Result<Option<v1::GetRunResponse>, Failure> {
        let run = run.clone();
        let request = v1::GetRunRequest::from(RunQuestion { run, only });
        match self.runs().get(request).await.map_err(Failure::from) {
            Ok(view) => Ok(Some(view.into_inner())),
            Err(Failure::Rejected(Rejection::NotFound { .. })) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The outcome of a command. The clock of requests learns from a refusal: every command with a request id goes through here.
    async fn learning<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        asked.await.inspect_err(|failure| self.requests.learn(failure))
    }

    async fn ask_run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, Failure> {
        let drives = matches!(command.body, RunCommand::Begin(_) | RunCommand::Drive(..));
        let renews = match &command.body {
            RunCommand::Drive(_, DriverCommand::RenewLease { lease_ms }) => Some(*lease_ms),
            _ => None,
        };
        let request = tape_proto::fitting(execute_request(run.clone(), command)).map_err(Wire::from)?;
        let response = match renews {
            Some(lease_ms) => self.renew(request, lease_ms).await?,
            None if drives => self.commands.ask(request).await?,
            None => self.runs().execute(request).await?.into_inner(),
        };
        Ok(response.try_into().map_err(Wire::from)?)
    }

    async fn ask_erasure(&self, erasure: StreamErasure) -> Result<Seq, Failure> {
        let request = tape_proto::fitting(v1::EraseRequest::from(erasure)).map_err(Wire::from)?;
        let erased = self.entries_service().erase(request).await?;
        Ok(Seq(erased.into_inner().seq))
    }

    fn entries_service(&self) -> EntriesClient<Channel> {
        EntriesClient::new(self.link.channel()).max_decoding_message_size(message_bytes_max())
    }

    /// Entries of a run, at most `limit`; zero for no such bound.
    fn entries_up_to(
        &self,
        run: &RunId,
        after: Seq,
        until: Until,
        limit: u64,
    ) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>> {
        let follow = until == Until::Dropped;
        let request = v1::ReadRequest {
            run: Some(run.clone().into()),
            after_seq: after.0,
            limit,
            follow,
        };
        let mut runs = self.runs();
        let opening = async move { Ok(runs.read(request).await?.into_inner()) };
        let page = |page: v1::ReadResponse| page.entries.into_iter().map(stored).collect();
        messages(opening).map(move |message| page(message?)).boxed()
    }
}

fn runs(channel: Channel) -> RunsClient<Channel> {
    RunsClient::new(channel).max_decoding_message_size(message_bytes_max())
}

const fn message_bytes_max() -> usize {
    tape_proto::MESSAGE_BYTES_MAX
}

#[async_trait]
impl Backend for Remote {
    fn request_id(&self) -> RequestId {
        self.requests.next()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, Failure> {
        self.learning(self.ask_run(run, command)).await
    }

    async fn session(&self, session: &SessionId, command: Command<SessionCommand>) -> Result<Reply, Failure> {
        self.learning(self.ask_session(session, command)).await
    }

    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, Failure> {
        self.session(session, sessions::rewinding(to)).await
    }

    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, Failure> {
        self.read_session(session, events_max).await
    }

    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, Failure> {
        self.read_events(session, from, events_max).await
    }

    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, Failure> {
        let change = ValueChange {
            tenant: tenant.clone(),
            name: name.clone(),
            command,
        };
        self.learning(self.ask_value(change)).await
    }

    async fn value_state(&self, tenant: &Tenant, name: &ValueName) -> Result<Option<Versioned>, Failure> {
        self.read_value(tenant, name).await
    }

    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, Failure>> {
        self.watch_value(tenant, name, after)
    }

    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, Failure> {
        let Some(view) = self.view(run, None).await? else {
            return Ok(None);
        };
        let digest = <[u8; 32]>::try_from(view.head_digest.as_ref())
            .map_err(|_| Failure::Fatal("the server's digest of a run's head is not one".into()))?;
        Ok(Some((Seq(view.head_seq), Digest(digest))))
    }

    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, Failure> {
        let view = self.view(run, None).await?;
        Ok(view.map(Driver::try_from).transpose().map_err(Wire::from)?)
    }

    fn entries(
        &self,
        run: &RunId,
        after: Seq,
        until: Until,
    ) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>> {
        self.entries_up_to(run, after, until, 0)
    }

    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, Failure>> {
        feed::tail(self.link.clone(), tail)
    }

    async fn runs(&self, query: &RunQuery, page: Option<String>, limit: u32) -> Result<RunPage, Failure> {
        let RunQuery {
            tenant,
            app,
            status,
            label,
        } = query.clone();
        let query = RunListQuery {
            tenant,
            app,
            status,
            label,
            begun_from: None,
            begun_before: None,
            page_size: Some(limit),
            page_token: page,
        };
        let page = self
            .runs()
            .list(v1::ListRunsRequest::from(query))
            .await?
            .into_inner();
        let runs = page
            .runs
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()
            .map_err(Wire::from)?;
        Ok(RunPage {
            runs,
            next: (!page.next_page_token.is_empty()).then_some(page.next_page_token),
        })
    }

    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, Failure> {
        let stream = stream.clone();
        self.learning(self.ask_erasure(StreamErasure { stream, command }))
            .await
    }

    async fn retire(
        &self,
        retirement: &Retirement,
        principal: Option<&Principal>,
        page: Option<String>,
    ) -> Result<RetiredPage, Failure> {
        let Retirement {
            tenant,
            older_than,
            reason,
            dry_run,
        } = retirement.clone();
        let query = RetirementQuery {
            tenant,
            older_than_ms: u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX),
            reason,
            principal: principal.cloned(),
            dry_run,
            page_size: RETIRED_PER_PAGE_MAX,
            page_token: page,
        };
        let mut retention = RetentionClient::new(self.link.channel());
        let page = retention
            .retire(v1::RetireRunsRequest::from(query))
            .await?
            .into_inner();
        let left = page.left.into_iter().map(TryInto::try_into);
        Ok(RetiredPage {
            runs: page.runs,
            entries: page.entries,
            left: left.collect::<Result<_, _>>().map_err(Wire::from)?,
            next: (!page.next_page_token.is_empty()).then_some(page.next_page_token),
        })
    }

    async fn reclaim(&self) -> Result<bool, Failure> {
        let mut retention = RetentionClient::new(self.link.channel());
        let reclaimed = retention.reclaim(v1::ReclaimRequest {}).await?;
        Ok(reclaimed.into_inner().more)
    }

    async fn streams(&self, page: Option<String>) -> Result<StreamPage, Failure> {
        let request = v1::StreamsRequest {
            page_size: 0,
            page_token: page.unwrap_or_default(),
        };
        let page = self.entries_service().streams(request).await?.into_inner();
        let mut found = StreamPage {
            unreadable: page.unreadable,
            next: (!page.next_page_token.is_empty()).then_some(page.next_page_token),
            ..StreamPage::default()
        };
        for name in page.streams {
            match name.parse() {
                Ok(stream) => found.streams.push(stream),
                Err(_) => found.unreadable.push(name),
            }
        }
        Ok(found)
    }

    async fn end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, Failure> {
        let request = v1::EndRequest {
            stream: stream.to_string(),
        };
        let mut messages = self.entries_service().end(request).await?.into_inner();
        let Some(first) = messages.message().await? else {
            return Ok(None);
        };
        let digest = <[u8; 32]>::try_from(first.digest.as_ref())
            .map_err(|_| Failure::Fatal("the server's digest of a stream's end is not one".into()))?;
        let mut snapshot = bytes::BytesMut::from(first.snapshot);
        while let Some(part) = messages.message().await? {
            snapshot.extend_from_slice(&part.snapshot);
        }
        Ok(Some(StreamEnd {
            seq: Seq(first.seq),
            digest: Digest(digest),
            snapshot: first.snapshot_seq.map(|seq| (Seq(seq), snapshot.freeze())),
        }))
    }

    fn stream_entries(&self, stream: &StreamId) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>> {
        let request = v1::ReadStreamRequest {
            stream: stream.to_string(),
            after_seq: 0,
        };
        let mut entries = self.entries_service();
        let opening = async move { Ok(entries.read(request).await?.into_inner()) };
        let page = |page: v1::ReadResponse| page.entries.into_iter().map(stored).collect();
        messages(opening).map(move |message| page(message?)).boxed()
    }

    async fn check_index(&self, page: Option<String>, correct: bool) -> Result<IndexPage, Failure> {
        let request = v1::CheckIndexRequest {
            page_size: 0,
            page_token: page.unwrap_or_default(),
            correct,
        };
        let mut messages = self.entries_service().check_index(request).await?.into_inner();
        let mut found = IndexPage::default();
        while let Some(message) = messages.message().await? {
            let findings = message.findings.into_iter().map(|finding| IndexFinding {
                stream: finding.stream,
                kind: finding.kind,
                problem: finding.problem,
                corrected: finding.corrected,
            });
            found.findings.extend(findings);
            found.looked_at += message.looked_at;
            found.next = (!message.next_page_token.is_empty()).then_some(message.next_page_token);
        }
        Ok(found)
    }

    fn lost_connections(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }
}

impl Remote {
    /// Gets rid of payloads of a stream that were erased.
    pub(crate) async fn finish_erasures(&self, stream: &StreamId) -> Result<(), Failure> {
        let stream = stream.to_string();
        let request = v1::FinishErasuresRequest { stream };
        self.entries_service().finish_erasures(request).await?;
        Ok(())
    }
}

/// The messages of a stream that is being opened. An error is the last of them.
fn messages<M: Send + 'static>(
    opening: impl Future<Output = Result<Streaming<M>, Failure>> + Send + 'static,
) -> BoxStream<'static, Result<M, Failure>> {
    let opened = stream::once(opening).flat_map(|opened| match opened {
        Ok(messages) => messages.map(|message| message.map_err(Failure::from)).boxed(),
        Err(failure) => stream::once(std::future::ready(Err(failure))).boxed(),
    });
    opened.boxed()
}

fn stored(entry: v1::Entry) -> Result<StoredEntry, Failure> {
    Ok(entry.try_into().map_err(Wire::from)?)
}
