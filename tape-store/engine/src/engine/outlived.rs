//! Work of workers that vanished while the clock was wrong.
//!
//! By the rules, a lease or claim that ends later than any could is over. But its hint lies as far ahead as the clock was, so a search for
//! work due now does not find it. So a few of the hints far ahead are checked once a minute. That costs the same however many there are:
//! most belong to runs that wait for long.

use super::Parts;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tape_api::query::DueFilter;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{StreamId, Tenant, ValueName};
use tape_core::time::{Now, Timestamp};
use tape_store::contract::{Hint, Shard};
use tape_store::error::StoreError;
use tokio::time::Instant;

/// How often such hints of a queue are checked, and how many of each shard.
const PERIOD: Duration = Duration::from_secs(60);
const HINTS_MAX: u32 = 64;

/// How far each queue was checked, and what was found and not returned yet.
#[derive(Default)]
pub(super) struct Outlived {
    passes: Mutex<HashMap<Queue, Pass>>,
    left: Mutex<HashMap<Queue, Vec<Hint>>>,
}

struct Pass {
    looked: Instant,
    after: HashMap<u16, Hint>,
}

impl Outlived {
    /// The places to continue from, where the period is over.
    fn begin(&self, queue: Queue) -> Option<HashMap<u16, Hint>> {
        let mut rounds = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match rounds.get_mut(&queue) {
            Some(round) if now - round.looked < PERIOD => None,
            Some(round) => {
                round.looked = now;
                Some(std::mem::take(&mut round.after))
            }
            None => {
                let after = HashMap::new();
                rounds.insert(queue, Pass { looked: now, after });
                Some(HashMap::new())
            }
        }
    }

    fn end(&self, queue: Queue, after: HashMap<u16, Hint>) {
        let mut rounds = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(round) = rounds.get_mut(&queue) {
            round.after = after;
        }
    }

    /// Of what was found before and now, the work that fits. The rest stays for other readers; beyond `max`, a later pass finds it again.
    fn share(&self, queue: Queue, found: Vec<Hint>, filter: &DueFilter, max: usize) -> Vec<Hint> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.entry(queue).or_default();
        let is_same = |one: &Hint, other: &Hint| (&one.stream, &one.item) == (&other.stream, &other.item);
        left.retain(|old| !found.iter().any(|new| is_same(old, new)));
        left.extend(found);
        let (fitting, mut rest): (Vec<Hint>, Vec<Hint>) = std::mem::take(left)
            .into_iter()
            .partition(|hint| filter.fits(&hint.stream));
        rest.truncate(max);
        *left = rest;
        fitting
    }
}

/// A place on the agenda before all hints that are due later than `due`. The stream of the place need not exist.
fn before(queue: Queue, due: Timestamp) -> Hint {
    Hint {
        queue,
        stream: StreamId::Value {
            tenant: Tenant::new("-").expect("it is a name"),
            name: ValueName::new("-").expect("it is a name"),
        },
        item: Item::Run,
        due,
    }
}

impl Parts {
    /// Work of a queue whose right is over, whatever its hint says. Often empty although there is such work: it is searched once a minute,
    /// a part at a time.
    pub(super) async fn outlived(&self, queue: Queue, filter: &DueFilter) -> Result<Vec<Hint>, StoreError> {
        let now = self.clock.read();
        if queue == Queue::Timers || !now.is_sure() {
            return Ok(Vec::new());
        }
        let found = match self.outlived.begin(queue) {
            Some(places) => self.look_far_ahead(queue, places, now).await?,
            None => Vec::new(),
        };
        let max = HINTS_MAX as usize * usize::from(self.store.capabilities().shards);
        Ok(self.outlived.share(queue, found, filter, max))
    }

    async fn look_far_ahead(
        &self,
        queue: Queue,
        mut places: HashMap<u16, Hint>,
        now: Now,
    ) -> Result<Vec<Hint>, StoreError> {
        let (mut due, mut after) = (Vec::new(), HashMap::new());
        for shard in 0..self.store.capabilities().shards {
            let place = places
                .remove(&shard)
                .filter(|place| place.due > now.ends_max())
                .unwrap_or_else(|| before(queue, now.ends_max()));
            let hints = self
                .store
                .due(queue, Shard(shard), Timestamp::MAX, Some(&place), HINTS_MAX)
                .await?;
            if hints.len() == HINTS_MAX as usize {
                after.extend(hints.last().map(|last| (shard, last.clone())));
            }
            for hint in hints.into_iter().filter(|hint| hint.stream.as_run().is_some()) {
                // A run that cannot be read is reported as damaged when it is next used.
                let run = self.runs.state(&hint.stream).await.ok().flatten();
                if run.is_some_and(|run| run.is_outlived(&hint.item, now)) {
                    let due_now = now.earliest();
                    due.push(Hint { due: due_now, ..hint });
                }
            }
        }
        self.outlived.end(queue, after);
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::{Outlived, before};
    use tape_api::query::DueFilter;
    use tape_core::agenda::Queue;
    use tape_core::id::Tenant;
    use tape_core::time::Timestamp;
    use tape_store::contract::Hint;

    fn of(tenant: &str) -> DueFilter {
        DueFilter {
            tenant: Some(Tenant::new(tenant).unwrap()),
            app: None,
        }
    }

    #[test]
    fn what_one_reader_leaves_is_for_the_others() {
        let outlived = Outlived::default();
        let hint = |name: &str| Hint {
            stream: format!("{name}/value/v").parse().unwrap(),
            ..before(Queue::Outbox, Timestamp::from_micros(1))
        };
        let share = |found: Vec<Hint>, filter: &DueFilter| outlived.share(Queue::Outbox, found, filter, 2);
        assert_eq!(
            share(vec![hint("a"), hint("b"), hint("c")], &of("a")),
            [hint("a")]
        );
        assert_eq!(share(Vec::new(), &of("a")), []);
        assert_eq!(
            share(vec![hint("b")], &of("b")),
            [hint("b")],
            "it is returned once"
        );
        assert_eq!(share(Vec::new(), &DueFilter::default()), [hint("c")]);
        let many = ["a", "b", "c"].map(hint).to_vec();
        assert_eq!(share(many, &of("x")), []);
        assert_eq!(share(Vec::new(), &DueFilter::default()).len(), 2, "few are kept");
    }
}
