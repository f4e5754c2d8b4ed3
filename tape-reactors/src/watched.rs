//! Outages of the journal: the log reports one once, and then rarely, however many reactors use the journal.

use crate::outages::Outages;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tape_api::due::{DueEffect, DueObligation, DuePage, PendingPage};
use tape_api::{Journal, JournalError, Layer};
use tape_core::agenda::Queue;
use tape_core::causes::Causes;
use tape_core::codec::StoredEntry;
use tape_core::command::{Command, RunCommand};
use tape_core::entry::obligation::ObligationId;
use tape_core::id::{EffectId, RunId, Seq, SessionId, StreamId};
use tape_core::outage::Outage;
use tape_core::reply::Reply;
use tokio::time::Instant;
use tracing::{info, warn};

/// How often the log repeats a lasting outage of the journal.
const AGAIN: Duration = Duration::from_secs(60);

/// A watched journal. The log gets a line when it becomes unreachable, one a minute while it stays so or for another reason, and one when
/// it is back. A journal that can be read but not written counts as unreachable until a write succeeds. The log also gets a line each five
/// minutes for each app and connector that is not configured here. Reactors that share a watched journal share these lines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watched(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Arc<dyn Journal>,
    seen: Mutex<Seen>,
    unconfigured: Outages<String>,
}

/// The observed state of the journal.
#[derive(Debug)]
struct Seen {
    outage: Outage,
    /// Whether only writes have failed since the outage began: then a successful read does not end it.
    reads_all_along: bool,
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Read,
    Write,
}

impl From<Arc<dyn Journal>> for Watched {
    fn from(journal: Arc<dyn Journal>) -> Self {
        let seen = Mutex::new(Seen {
            outage: Outage::new(AGAIN),
            reads_all_along: true,
        });
        let unconfigured = Outages::new("work", "is left to other processes");
        Self(Arc::new(Inner {
            journal,
            seen,
            unconfigured,
        }))
    }
}

impl Watched {
    /// The apps and connectors whose work is left to other processes.
    pub(crate) fn unconfigured(&self) -> &Outages<String> {
        &self.0.unconfigured
    }

    fn note<T>(&self, does: Does, answer: Result<T, JournalError>) -> Result<T, JournalError> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now().into_std();
        match &answer {
            Err(JournalError::Unavailable(cause)) => {
                seen.lost(now, does, &Causes(cause.as_ref()).to_string())
            }
            _ => seen.back(now, does),
        }
        answer
    }
}

impl Seen {
    fn lost(&mut self, now: std::time::Instant, does: Does, error: &str) {
        self.reads_all_along &= does == Does::Write;
        if let Some(spell) = self.outage.lost(now, error) {
            warn!(error, %spell, "the journal is out of reach; trying again");
        }
    }

    fn back(&mut self, now: std::time::Instant, does: Does) {
        if does == Does::Read && self.reads_all_along {
            return;
        }
        self.reads_all_along = true;
        if let Some(spell) = self.outage.back(now) {
            info!(%spell, "the journal is back");
        }
    }
}

#[async_trait]
impl Layer for Watched {
    fn inner(&self) -> &dyn Journal {
        self.0.journal.as_ref()
    }

    async fn due(
        &self,
        queue: Queue,
        within: Duration,
        from: Option<&str>,
        limit: u32,
    ) -> Result<DuePage, JournalError> {
        self.note(Does::Read, self.inner().due(queue, within, from, limit).await)
    }

    async fn pending(
        &self,
        queue: Queue,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PendingPage, JournalError> {
        self.note(Does::Read, self.inner().pending(queue, from, limit).await)
    }

    async fn run(&self, run: &RunId, command: Command<RunCommand>) -> Result<Reply, JournalError> {
        self.note(Does::Write, self.inner().run(run, command).await)
    }

    async fn read(&self, run: &RunId, after: Seq, limit: u32) -> Result<Vec<StoredEntry>, JournalError> {
        self.note(Does::Read, self.inner().read(run, after, limit).await)
    }

    async fn due_effect(&self, run: &RunId, effect: &EffectId) -> Result<Option<DueEffect>, JournalError> {
        self.note(Does::Read, self.inner().due_effect(run, effect).await)
    }

    async fn due_obligation(
        &self,
        run: &RunId,
        obligation: &ObligationId,
    ) -> Result<Option<DueObligation>, JournalError> {
        self.note(Does::Read, self.inner().due_obligation(run, obligation).await)
    }

    async fn merge(&self, session: &SessionId) -> Result<(), JournalError> {
        self.note(Does::Write, self.inner().merge(session).await)
    }

    async fn finish_erasures(&self, stream: &StreamId) -> Result<(), JournalError> {
        self.note(Does::Write, self.inner().finish_erasures(stream).await)
    }
}
