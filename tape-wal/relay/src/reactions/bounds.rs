//! How many runs a reaction may have and begin.

use super::clock::Clock;
use super::definition::{Definition, Rate};
use crate::sink::SinkError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_api::query::RunQuery;
use tape_api::{Journal, JournalError};
use tape_core::causes::Causes;
use tape_core::id::{ReactionName, RunId, Tenant};
use tape_core::reaction;
use tape_core::status::RunStatus;
use tokio::time::Instant;

/// The shortest and the longest time until a reaction that is at a bound looks again.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a run counts whose beginning has no answer, unless the journal has it. No request is under way for so long.
const DOUBT: Duration = Duration::from_secs(120);

/// The bounds of one reaction, and the runs that count though the journal may not have them yet.
#[derive(Debug)]
pub(super) struct Bounds {
    journal: Arc<dyn Journal>,
    clock: Arc<Clock>,
    tenant: Tenant,
    reaction: ReactionName,
    concurrency: Option<u32>,
    rate: Option<Rate>,
    /// Runs whose beginning was sent and not answered. They may be begun at any time, and are in no count until then.
    in_doubt: Mutex<BTreeMap<RunId, Instant>>,
}

/// How many runs may be begun in one call of the sink.
///
/// The runs are counted once in a call, before any is begun. One process at a time carries a reaction, and drops the call when it loses it:
/// so until the call ends, no other process begins runs of the reaction, and their number can only shrink.
#[derive(Debug, Default)]
pub(super) struct Room(tokio::sync::Mutex<Option<u64>>);

impl Bounds {
    pub(super) fn new(
        (journal, clock): (Arc<dyn Journal>, Arc<Clock>),
        (tenant, reaction): (Tenant, ReactionName),
        definition: &Definition,
    ) -> Self {
        Self {
            journal,
            clock,
            tenant,
            reaction,
            concurrency: definition.concurrency,
            rate: definition.rate,
            in_doubt: Mutex::default(),
        }
    }

    /// Takes room for a run that is about to be begun, and that the journal did not have.
    ///
    /// # Errors
    /// [`SinkError::Waits`] where there is none now, [`SinkError::Unavailable`] where the journal does not tell.
    pub(super) async fn take(&self, room: &Room, run: &RunId) -> Result<(), SinkError> {
        if self.concurrency.is_none() && self.rate.is_none() {
            return Ok(());
        }
        let mut room = room.0.lock().await;
        let left = match *room {
            Some(left) => left,
            None => {
                let counted = self.count().await;
                *room.insert(counted.map_err(|error| SinkError::unavailable(Causes(&error)))?)
            }
        };
        // A run in doubt has its room already.
        if self.doubt(run) {
            return Ok(());
        }
        let Some(rest) = left.checked_sub(1) else {
            self.in_doubt().remove(run);
            return Err(self.at_the_bound());
        };
        *room = Some(rest);
        Ok(())
    }

    /// The journal has answered what became of a run.
    pub(super) fn answered(&self, run: &RunId) {
        self.in_doubt().remove(run);
    }

    /// Notes that a run may be begun from now on; whether it was so before.
    fn doubt(&self, run: &RunId) -> bool {
        self.in_doubt().insert(run.clone(), Instant::now()).is_some()
    }

    async fn count(&self) -> Result<u64, JournalError> {
        let doubtful = self.still_in_doubt().await?;
        let mut room = u64::MAX;
        if let Some(bound) = self.concurrency {
            let unfinished = RunStatus::ALL.into_iter().filter(|status| !status.is_final());
            let query = RunQuery {
                statuses: unfinished.collect(),
                ..self.query()
            };
            room = room.min(self.rest(&query, bound, doubtful).await?);
        }
        if let Some(Rate { count, per_ms }) = self.rate {
            let since = self.clock.now().minus_millis(per_ms);
            let query = RunQuery {
                begun_from: Some(since),
                ..self.query()
            };
            room = room.min(self.rest(&query, count, doubtful).await?);
        }
        Ok(room)
    }

    /// What runs that fit a query leave of a bound. Counts no further than the bound.
    async fn rest(&self, query: &RunQuery, bound: u32, doubtful: u64) -> Result<u64, JournalError> {
        let (bound, mut found, mut from) = (u64::from(bound), doubtful, None);
        loop {
            let page = self.journal.count_runs(query, from.as_deref()).await?;
            found = found.saturating_add(page.by_status.values().sum());
            from = page.next;
            if from.is_none() || found >= bound {
                return Ok(bound.saturating_sub(found));
            }
        }
    }

    /// How many runs are in doubt that the journal does not have.
    async fn still_in_doubt(&self) -> Result<u64, JournalError> {
        let doubted: Vec<RunId> = {
            let mut all = self.in_doubt();
            all.retain(|_, since| since.elapsed() < DOUBT);
            all.keys().cloned().collect()
        };
        let mut begun = BTreeSet::new();
        for run in doubted {
            if self.journal.head(&run).await?.is_some() {
                begun.insert(run);
            }
        }
        let mut all = self.in_doubt();
        all.retain(|run, _| !begun.contains(run));
        Ok(all.len() as u64)
    }

    fn query(&self) -> RunQuery {
        RunQuery {
            label: Some((reaction::key(), self.reaction.to_string())),
            ..RunQuery::all(self.tenant.clone())
        }
    }

    fn at_the_bound(&self) -> SinkError {
        let mut bounds = Vec::new();
        bounds.extend(self.concurrency.map(|most| format!("{most} unfinished runs")));
        bounds.extend(
            self.rate
                .map(|rate| format!("{} runs in {} ms", rate.count, rate.per_ms)),
        );
        let each = self
            .rate
            .map(|rate| Duration::from_millis(rate.per_ms / u64::from(rate.count.max(1))));
        let (least, most) = LOOK_AGAIN;
        SinkError::Waits {
            reason: format!("the reaction is at its bound of {}", bounds.join(" or ")),
            retry_after: each.unwrap_or(least).clamp(least, most),
        }
    }

    fn in_doubt(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Instant>> {
        self.in_doubt
            .lock()
            .expect("nothing panics while it holds the runs in doubt")
    }
}
