//! A journal in this process: the engine over a store.

mod feed;
mod sessions;

use super::{
    Backend, Failure, FeedPage, IndexFinding, IndexPage, OlderEvents, RetiredPage, Retirement, RunPage,
    RunQuery, SessionEvents, SessionView, StreamEnd, StreamPage, Tail, Transition, Until, Versioned,
};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt as _};
use std::sync::Arc;
use tape_core::codec::{StoredEntry, decode};
use tape_core::command::{Command, Rewind, RunCommand, SessionCommand, ValueCommand};
use tape_core::entry::{Entry, EntryBody};
use tape_core::erasure::Erasure;
use tape_core::id::{Principal, RequestId, RunId, Seq, SessionId, StreamId, Tenant, ValueName};
use tape_core::limits::{INDEX_PAGE_MAX, PAGE_ENTRIES_MAX, RETIRED_PER_PAGE_MAX};
use tape_core::payload::Digest;
use tape_core::reply::Reply;
use tape_core::run::Driver;
use tape_store::contract::{JournalStore, PageToken, RunFilter};
use tape_store::engine::Engine;
use tape_store::error::StoreError;
use tape_store::journal::{JournalError, page_to_end};

/// The engine, as a backend.
#[derive(Clone, Debug)]
pub(crate) struct Embedded(Engine);

impl Embedded {
    /// Opens the store that `url` names.
    pub(crate) async fn open(url: &str) -> Result<Self, Failure> {
        let store = tape_store::open::open(url).await?;
        Ok(Self(Engine::start(store)))
    }

    pub(crate) const fn over(engine: Engine) -> Self {
        Self(engine)
    }
}

#[async_trait]
impl Backend for Embedded {
    fn request_id(&self) -> RequestId {
        self.0.request_id()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, Failure> {
        Ok(self.0.run(run, command).await?)
    }

    async fn session(&self, session: &SessionId, command: Command<SessionCommand>) -> Result<Reply, Failure> {
        Ok(self.0.session(session, command).await?)
    }

    async fn rewind(&self, session: &SessionId, to: Command<Rewind>) -> Result<Reply, Failure> {
        Ok(self.0.rewind_session(session, to).await?)
    }

    async fn session_view(
        &self,
        session: &SessionId,
        events_max: u32,
    ) -> Result<Option<SessionView>, Failure> {
        sessions::view(&self.0, session, events_max).await
    }

    async fn session_events(
        &self,
        session: &SessionId,
        from: OlderEvents,
        events_max: u32,
    ) -> Result<SessionEvents, Failure> {
        sessions::events(&self.0, session, from.0.parse()?, events_max).await
    }

    async fn value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        command: Command<ValueCommand>,
    ) -> Result<Reply, Failure> {
        Ok(self.0.value(tenant, name, command).await?)
    }

    async fn value_state(&self, tenant: &Tenant, name: &ValueName) -> Result<Option<Versioned>, Failure> {
        let state = self.0.value_state(tenant, name).await?;
        Ok(state.map(|value| Versioned {
            version: value.version(),
            value: value.current(),
        }))
    }

    fn watch(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, Failure>> {
        let stream = StreamId::Value {
            tenant: tenant.clone(),
            name: name.clone(),
        };
        let pages = pages(self.0.store().clone(), stream, Seq::ZERO, Reading::Following);
        let mut previous = None;
        let entries = pages.flat_map(move |page| {
            let entries = page.and_then(|page| {
                page.iter()
                    .map(|stored| Ok(decode(stored)?))
                    .collect::<Result<Vec<_>, _>>()
            });
            stream::iter(match entries {
                Ok(entries) => {
                    let changes = entries.into_iter().filter_map(transition);
                    let after = |change: Transition| {
                        let before = std::mem::replace(&mut previous, change.value.clone());
                        Ok(Transition {
                            previous: before,
                            ..change
                        })
                    };
                    changes.map(after).collect()
                }
                Err(failure) => vec![Err(failure)],
            })
        });
        let newer = move |change: &Result<Transition, Failure>| {
            std::future::ready(change.as_ref().is_ok_and(|change| change.version > after) || change.is_err())
        };
        entries.filter(newer).boxed()
    }

    async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, Failure> {
        let head = self.0.store().head(&StreamId::Run(run.clone())).await?;
        Ok(head.map(|head| (head.seq, head.digest)))
    }

    async fn driver(&self, run: &RunId) -> Result<Option<Driver>, Failure> {
        let Some(state) = self.0.run_state(run).await? else {
            return Ok(None);
        };
        Ok(Some(state.driver(self.0.read_clock().await?)))
    }

    fn entries(
        &self,
        run: &RunId,
        after: Seq,
        until: Until,
    ) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>> {
        let reading = match until {
            Until::End => Reading::ToEnd,
            Until::Dropped => Reading::Following,
        };
        pages(self.0.store().clone(), StreamId::Run(run.clone()), after, reading)
    }

    fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, Failure>> {
        feed::tail(self.0.store().clone(), tail.clone())
    }

    async fn runs(&self, query: &RunQuery, page: Option<String>, limit: u32) -> Result<RunPage, Failure> {
        let RunQuery {
            tenant,
            app,
            status,
            label,
        } = query.clone();
        let filter = RunFilter {
            app,
            status,
            label,
            ..RunFilter::all(tenant)
        };
        let page = self
            .0
            .store()
            .runs(&filter, page.map(PageToken).as_ref(), limit)
            .await?;
        Ok(RunPage {
            runs: page.runs,
            next: page.next.map(|token| token.0),
        })
    }

    async fn erase(&self, stream: &StreamId, command: Command<Erasure>) -> Result<Seq, Failure> {
        Ok(self.0.erase(stream, command).await?.seq)
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
        let older_than_ms = u64::try_from(older_than.as_millis()).unwrap_or(u64::MAX);
        let retirement = tape_store::engine::Retirement {
            tenant,
            ended_before: self.0.now().await?.minus_millis(older_than_ms),
            principal: principal.cloned(),
            reason,
            dry_run,
        };
        let page = page.map(PageToken);
        let page = self
            .0
            .retire_page(&retirement, page.as_ref(), RETIRED_PER_PAGE_MAX)
            .await?;
        let left = page.failed.into_iter();
        Ok(RetiredPage {
            runs: page.runs,
            entries: page.entries,
            left: left.map(|(run, error)| (run, error.to_string())).collect(),
            next: page.next.map(|token| token.0),
        })
    }

    async fn reclaim(&self) -> Result<bool, Failure> {
        Ok(self.0.reclaim().await?)
    }

    async fn streams(&self, page: Option<String>) -> Result<StreamPage, Failure> {
        let page = self
            .0
            .streams(page.map(PageToken).as_ref(), INDEX_PAGE_MAX)
            .await?;
        Ok(StreamPage {
            streams: page.streams,
            unreadable: page.unreadable,
            next: page.next.map(|token| token.0),
        })
    }

    async fn end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, Failure> {
        let head = self.0.store().head(stream).await?;
        Ok(head.map(|head| StreamEnd {
            seq: head.seq,
            digest: head.digest,
            snapshot: head.snapshot.map(|snapshot| (snapshot.seq, snapshot.bytes)),
        }))
    }

    fn stream_entries(&self, stream: &StreamId) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>> {
        pages(
            self.0.store().clone(),
            stream.clone(),
            Seq::ZERO,
            Reading::AsStored,
        )
    }

    async fn check_index(&self, page: Option<String>, correct: bool) -> Result<IndexPage, Failure> {
        let from = page.map(PageToken);
        let page = self.0.check_index(from.as_ref(), INDEX_PAGE_MAX, correct).await?;
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

/// A stream's entries in pages.
/// How entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// To the end that the head says there is.
    ToEnd,
    /// Whatever entries there are, for who compares them with the head.
    AsStored,
    /// For ever.
    Following,
}

pub(super) fn pages(
    store: Arc<dyn JournalStore>,
    stream: StreamId,
    after: Seq,
    reading: Reading,
) -> BoxStream<'static, Result<Vec<StoredEntry>, Failure>> {
    let next = move |at: Option<Seq>| {
        let (store, stream) = (store.clone(), stream.clone());
        async move {
            let at = at?;
            match page(store.as_ref(), &stream, at, reading).await {
                // An error ends the pages: the reader goes on from what it has.
                Err(failure) => Some((Err(failure), None)),
                Ok(page) => page
                    .last()
                    .map(|entry| entry.seq)
                    .map(|last| (Ok(page), Some(last))),
            }
        }
    };
    stream::unfold(Some(after), next).boxed()
}

async fn page(
    store: &dyn JournalStore,
    stream: &StreamId,
    after: Seq,
    reading: Reading,
) -> Result<Vec<StoredEntry>, Failure> {
    if reading == Reading::ToEnd {
        return Ok(page_to_end(store, stream, after, PAGE_ENTRIES_MAX).await?);
    }
    loop {
        // Asked for before looking, so that what comes in between is not missed.
        let changed = store.changed();
        let page = store.read(stream, after, PAGE_ENTRIES_MAX).await?;
        if !page.is_empty() || reading == Reading::AsStored {
            return Ok(page);
        }
        changed.await;
    }
}

/// The transition that an entry is, without the value before: that stands in the entry before alone.
fn transition(entry: Entry) -> Option<Transition> {
    let (version, value) = match entry.body {
        EntryBody::ValuePut(put) => (put.version, Some(put.value)),
        EntryBody::ValueDeleted(deleted) => (deleted.version, None),
        _ => return None,
    };
    Some(Transition {
        version,
        value,
        previous: None,
        at: entry.at,
    })
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Rejected(rejection) => Self::Rejected(rejection),
            JournalError::Store(error) => error.into(),
            JournalError::Contended { .. } | JournalError::OutcomeUnknown { .. } => {
                Self::Retryable(error.into())
            }
            _ => Self::Fatal(error.into()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Retryable(error.into()),
            _ => Self::Fatal(error.into()),
        }
    }
}

impl From<tape_core::codec::DecodeError> for Failure {
    fn from(error: tape_core::codec::DecodeError) -> Self {
        Self::Fatal(error.into())
    }
}
