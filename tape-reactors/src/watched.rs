//! A journal that is away: the log says so once, and then rarely, however many reactors ask it.

use crate::access::{Access, AccessError, DuePage, EffectAt, ObligationAt};
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_core::causes::Causes;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, RequestId, RunId, Seq, SessionId, StreamId};
use tape_core::outage::Outage;
use tape_core::reply::Reply;
use tape_store::contract::PageToken;
use tokio::time::Instant;
use tracing::{info, warn};

/// While the journal is away, the log says so this often.
const AGAIN: Duration = Duration::from_secs(60);

/// A journal that is watched: the log has a line when it goes out of reach, one a minute while it stays so or for another reason, and
/// one when it is back. Reactors that share one share these lines.
pub struct Watched {
    access: Arc<dyn Access>,
    outage: Mutex<Outage>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    /// The journal, watched; one that is watched already is taken as it is.
    #[must_use]
    pub fn over(access: Arc<dyn Access>) -> Arc<dyn Access> {
        if access.is_watched() {
            return access;
        }
        let outage = Mutex::new(Outage::new(AGAIN));
        Arc::new(Self { access, outage })
    }

    fn note<T>(&self, answer: Result<T, AccessError>) -> Result<T, AccessError> {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now().into_std();
        if let Err(AccessError::Unavailable(cause)) = &answer {
            let error = Causes(cause.as_ref()).to_string();
            if let Some(spell) = outage.lost(now, &error) {
                warn!(error, %spell, "the journal is out of reach; trying again");
            }
        } else if let Some(spell) = outage.back(now) {
            info!(%spell, "the journal is back");
        }
        answer
    }
}

#[async_trait]
impl Access for Watched {
    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, AccessError> {
        self.note(self.access.due(queue, within, from, limit).await)
    }

    fn changed(&self, queue: Queue) -> BoxFuture<'static, ()> {
        self.access.changed(queue)
    }

    fn request_id(&self) -> RequestId {
        self.access.request_id()
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, AccessError> {
        self.note(self.access.run(run, command).await)
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, AccessError> {
        self.note(self.access.read(run, after, limit).await)
    }

    async fn effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<EffectAt>, AccessError> {
        self.note(self.access.effect(run, effect).await)
    }

    async fn obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<ObligationAt>, AccessError> {
        self.note(self.access.obligation(run, obligation).await)
    }

    async fn merge(&self, session: &SessionId) -> Result<(), AccessError> {
        self.note(self.access.merge(session).await)
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), AccessError> {
        self.note(self.access.finish_erasures(stream).await)
    }

    fn is_watched(&self) -> bool {
        true
    }
}
