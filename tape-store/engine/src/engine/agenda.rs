//! Due work of all shards, in pages.

use super::Parts;
use serde::{Deserialize, Serialize};
use tape_core::agenda::Queue;
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::time::Timestamp;
use tape_store::contract::{Hint, PageToken, Shard};
use tape_store::error::StoreError;

/// A page of due work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuePage {
    /// Hints, in the order of their times within each shard.
    pub hints: Vec<Hint>,
    /// Where the next page begins; none at the end.
    pub next: Option<PageToken>,
}

/// Where a shard continues: after the last hint of the previous page.
#[derive(Serialize, Deserialize)]
struct Place {
    shard: u16,
    due: i64,
    stream: String,
    item: String,
}

impl Place {
    fn after(shard: Shard, last: &Hint) -> Self {
        Self {
            shard: shard.0,
            due: last.due.as_micros(),
            stream: last.stream.to_string(),
            item: last.item.to_string(),
        }
    }

    fn hint(&self, queue: Queue) -> Option<Hint> {
        Some(Hint {
            queue,
            stream: self.stream.parse().ok()?,
            item: self.item.parse().ok()?,
            due: Timestamp::from_micros(self.due),
        })
    }
}

/// The shards that have more, each with the hint to continue after.
fn read(token: &PageToken, queue: Queue, shards: u16) -> Result<Vec<(Shard, Option<Hint>)>, StoreError> {
    let places: Option<Vec<Place>> = serde_json::from_str(&token.0).ok();
    // Each shard once, in their order: so they are written. A token without any is of no page.
    let ordered = |places: &Vec<Place>| places.is_sorted_by(|one, next| one.shard < next.shard);
    let known = |places: &Vec<Place>| places.last().is_some_and(|last| last.shard < shards);
    let places = places.filter(|places| ordered(places) && known(places));
    let place = |place: Place| Some((Shard(place.shard), Some(place.hint(queue)?)));
    let places = places.and_then(|places| places.into_iter().map(place).collect());
    places.ok_or_else(|| StoreError::Invalid {
        what: "page token",
        problem: "it was not made here".to_owned(),
    })
}

impl Parts {
    pub(super) async fn due_page(
        &self,
        queue: Queue,
        until: Timestamp,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let shards = self.store.capabilities().shards;
        let begin = match from {
            None => (0..shards).map(|shard| (Shard(shard), None)).collect(),
            Some(token) => read(token, queue, shards)?,
        };
        let (mut hints, mut places) = (Vec::new(), Vec::new());
        for (shard, after) in begin {
            let page = self.store.due(queue, shard, until, after.as_ref(), limit).await?;
            let full = page.len() == limit as usize;
            places.extend(page.last().filter(|_| full).map(|last| Place::after(shard, last)));
            hints.extend(page);
        }
        let token = || PageToken(serde_json::to_string(&places).expect("names and numbers are JSON"));
        let next = (!places.is_empty()).then(token);
        Ok(DuePage { hints, next })
    }
}
