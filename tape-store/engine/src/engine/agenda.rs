//! Due work of all shards, in pages.

use super::Parts;
use serde::{Deserialize, Serialize};
use tape_api::query::DueFilter;
use tape_core::agenda::{Item, Queue};
use tape_core::id::{App, StreamId, Tenant, ValueName};
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

/// What a token says: where the list continues, and of which list it is.
#[derive(Serialize, Deserialize)]
struct Token {
    queue: Queue,
    tenant: Option<Tenant>,
    app: Option<App>,
    /// The shards that have more, in their order.
    places: Vec<Place>,
}

/// Where a shard continues.
#[derive(Serialize, Deserialize)]
struct Place {
    shard: u16,
    due: i64,
    /// The last hint of the page before, which is one that the caller has. Where there is none, the shard continues with whatever is due
    /// then: the hint that was looked at last may be of another tenant, and a token names nothing of others.
    after: Option<Named>,
}

/// The rest of a hint whose queue and time are known.
#[derive(Serialize, Deserialize)]
struct Named {
    stream: String,
    item: String,
}

impl Place {
    fn of(shard: Shard, from: &Start) -> Self {
        let named = |hint: &Hint| Named {
            stream: hint.stream.to_string(),
            item: hint.item.to_string(),
        };
        Self {
            shard: shard.0,
            due: from.due().as_micros(),
            after: match from {
                Start::After(last) => Some(named(last)),
                Start::Time(_) => None,
            },
        }
    }

    fn read(&self, queue: Queue) -> Option<Start> {
        let due = Timestamp::from_micros(self.due);
        let Some(named) = &self.after else {
            return Some(Start::Time(due));
        };
        Some(Start::After(Hint {
            queue,
            stream: named.stream.parse().ok()?,
            item: named.item.parse().ok()?,
            due,
        }))
    }
}

/// Where the hints of a shard are read from.
pub(super) enum Start {
    /// Those that are due then or later.
    Time(Timestamp),
    /// Those after a hint.
    After(Hint),
}

impl Start {
    pub(super) const BEGINNING: Self = Self::Time(Timestamp::MIN);

    const fn due(&self) -> Timestamp {
        match self {
            Self::Time(due) => *due,
            Self::After(hint) => hint.due,
        }
    }

    /// A hint after which the store continues. Before a time it is one that nobody has: some hint of the microsecond before.
    fn hint(&self, queue: Queue) -> Option<Hint> {
        match self {
            Self::Time(due) => Some(Hint {
                queue,
                stream: StreamId::Value {
                    tenant: Tenant::new("none").expect("it is a name"),
                    name: ValueName::new("none").expect("it is a name"),
                },
                item: Item::Run,
                due: Timestamp::from_micros(due.as_micros().checked_sub(1)?),
            }),
            Self::After(hint) => Some(hint.clone()),
        }
    }
}

/// Hints of a shard that fit a filter.
pub(super) struct Fitting {
    pub(super) hints: Vec<Hint>,
    /// Where the rest of them is; none at the end of the shard.
    pub(super) next: Option<Start>,
}

/// Where each shard continues that has more.
fn read(
    token: &PageToken,
    queue: Queue,
    filter: &DueFilter,
    shards: u16,
) -> Result<Vec<(Shard, Start)>, StoreError> {
    let places = || {
        let said: Token = serde_json::from_str(&token.0).ok()?;
        let is_of_list = (said.queue, &said.tenant, &said.app) == (queue, &filter.tenant, &filter.app);
        // Each shard once, in their order: so they are written. A token without any is of no page.
        let ordered = said.places.is_sorted_by(|one, next| one.shard < next.shard);
        let known = said.places.last().is_some_and(|last| last.shard < shards);
        if !(is_of_list && ordered && known && write(&said) == *token) {
            return None;
        }
        let place = |place: &Place| Some((Shard(place.shard), place.read(queue)?));
        said.places.iter().map(place).collect()
    };
    places().ok_or_else(|| StoreError::Invalid {
        what: "page token",
        problem: "it was not made for this list".to_owned(),
    })
}

fn write(token: &Token) -> PageToken {
    PageToken(serde_json::to_string(token).expect("names and numbers are JSON"))
}

impl Parts {
    pub(super) async fn due_page(
        &self,
        queue: Queue,
        filter: &DueFilter,
        until: Timestamp,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let shards = self.store.capabilities().shards;
        let begin = match from {
            None => (0..shards)
                .map(|shard| (Shard(shard), Start::BEGINNING))
                .collect(),
            Some(token) => read(token, queue, filter, shards)?,
        };
        let (mut hints, mut places) = (Vec::new(), Vec::new());
        for (shard, from) in begin {
            let found = self
                .due_of((queue, shard), until, filter, from, (limit, PAGE_ENTRIES_MAX))
                .await?;
            places.extend(found.next.map(|next| Place::of(shard, &next)));
            hints.extend(found.hints);
        }
        let (tenant, app) = (filter.tenant.clone(), filter.app.clone());
        let token = Token {
            queue,
            tenant,
            app,
            places,
        };
        let next = (!token.places.is_empty()).then(|| write(&token));
        Ok(DuePage { hints, next })
    }

    /// Hints of a shard that fit, in the order of their times: at most `room`, out of `looked_at_max` that are looked at. It looks at more
    /// only where all of these are due in one microsecond.
    pub(super) async fn due_of(
        &self,
        (queue, shard): (Queue, Shard),
        until: Timestamp,
        filter: &DueFilter,
        from: Start,
        (room, looked_at_max): (u32, u32),
    ) -> Result<Fitting, StoreError> {
        let (begin, room) = (from.due(), room as usize);
        let (mut hints, mut looked_at, mut after) = (Vec::new(), 0, from.hint(queue));
        loop {
            let at_once = match filter {
                DueFilter {
                    tenant: None,
                    app: None,
                } => u32::try_from(room - hints.len()).unwrap_or(u32::MAX),
                _ => looked_at_max,
            };
            let at_once = at_once.clamp(1, PAGE_ENTRIES_MAX);
            let page = self
                .store
                .due(queue, shard, until, after.as_ref(), at_once)
                .await?;
            let is_end = page.len() < at_once as usize;
            after = page.last().cloned().or(after);
            looked_at += page.len();
            let fits = |hint: &Hint| hint.due >= begin && filter.fits(&hint.stream);
            let mut found = page.into_iter().filter(fits);
            hints.extend(found.by_ref().take(room - hints.len()));
            let has_more = found.next().is_some() || !is_end;
            if hints.len() >= room && has_more {
                let next = hints.last().cloned().map(Start::After);
                return Ok(Fitting { hints, next });
            }
            if is_end {
                return Ok(Fitting { hints, next: None });
            }
            let to = after.as_ref().map_or(begin, |last| last.due);
            if looked_at >= looked_at_max as usize && to > begin {
                // Not all of that microsecond were looked at: it is looked at again.
                hints.retain(|hint| hint.due < to);
                let next = Some(Start::Time(to));
                return Ok(Fitting { hints, next });
            }
        }
    }
}
