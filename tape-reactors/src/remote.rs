//! The journal behind a server.

use crate::access::{Access, AccessError, DuePage, DueWork, EffectAt, ObligationAt};
use crate::backoff::Backoff;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tape_client::{Error, WorkError, Workbench};
use tape_core::agenda::Queue;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::reply::Reply;
use tape_store::contract::PageToken;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

/// Most hints that the server pushes at a time; work beyond them is found by looking.
const PUSHED_MAX: u32 = 256;

/// A server as a reactor sees it. It pushes work as that becomes due: between two sweeps, an idle reactor asks it for nothing.
#[derive(Debug)]
pub struct RemoteAccess {
    server: Workbench,
    following: Mutex<Following>,
}

#[derive(Debug, Default)]
struct Following {
    wakes: HashMap<Queue, watch::Receiver<u64>>,
    /// Aborted when this is dropped.
    tasks: JoinSet<()>,
}

impl RemoteAccess {
    /// The server at `HOST:PORT`. Wants a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] where that is no address.
    pub fn new(authority: &str) -> Result<Self, Error> {
        Ok(Self {
            server: Workbench::new(authority)?,
            following: Mutex::default(),
        })
    }

    fn wake(&self, queue: Queue) -> watch::Receiver<u64> {
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wake) = following.wakes.get(&queue) {
            return wake.clone();
        }
        let (waking, wake) = watch::channel(0);
        following.tasks.spawn(follow(self.server.clone(), queue, waking));
        following.wakes.insert(queue, wake.clone());
        wake
    }
}

/// Wakes whoever waits for a queue whenever the server pushes something, or is there again.
async fn follow(server: Workbench, queue: Queue, waking: watch::Sender<u64>) {
    let fresh = || Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut backoff = fresh();
    loop {
        let mut pushed = server.pushed(queue, PUSHED_MAX);
        while let Some(page) = pushed.next().await {
            match page {
                Ok(_) => backoff = fresh(),
                Err(error) => debug!(%queue, %error, "the server pushes nothing for now"),
            }
            waking.send_modify(|wakes| *wakes = wakes.wrapping_add(1));
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

#[async_trait]
impl Access for RemoteAccess {
    async fn due(
        &self,
        queue: Queue,
        _within: Duration,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, AccessError> {
        // What is due only later is pushed then.
        let from = from.map(|token| token.0.as_str());
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let page = self.server.due(queue, from, limit).await?;
        let now = |hint: tape_client::DueHint| DueWork {
            stream: hint.stream,
            item: hint.item,
            due_in: Duration::ZERO,
        };
        Ok(DuePage {
            work: page.hints.into_iter().map(now).collect(),
            next: page.next.map(PageToken),
        })
    }

    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        let mut wake = self.wake(queue);
        wake.mark_unchanged();
        Box::pin(async move {
            // The task that wakes ends with the process.
            let _ = wake.changed().await;
        })
    }

    fn request_id(&self) -> RequestId {
        self.server.request_id()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, AccessError> {
        Ok(self.server.run(run, command).await?)
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, AccessError> {
        Ok(self.server.entries(run, after, limit).await?)
    }

    async fn effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<EffectAt>, AccessError> {
        let found = self.server.effect(run, effect).await?;
        Ok(found.map(|(connector, begun)| EffectAt { connector, begun }))
    }

    async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<ObligationAt>, AccessError> {
        let found = self.server.obligation(run, obligation).await?;
        Ok(found.map(|inverse| ObligationAt {
            connector: inverse.connector,
            source: inverse.source,
            begun: inverse.begun,
        }))
    }

    async fn merge(&self, session: &SessionId) -> Result<(), AccessError> {
        Ok(self.server.merge(session).await?)
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), AccessError> {
        Ok(self.server.finish_erasures(stream).await?)
    }
}

impl From<WorkError> for AccessError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Rejected(rejection) => Self::Rejected(rejection),
            error => Self::Unavailable(Box::new(error)),
        }
    }
}
