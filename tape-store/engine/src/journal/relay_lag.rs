//! How far a part of a relay is behind.

use crate::Engine;
use bytes::Bytes;
use std::collections::VecDeque;
use tape_api::relays::{LAG_ENTRIES_MAX, Lag};
use tape_core::codec::decode;
use tape_core::id::{RelayId, Tenant};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::relay::Place;
use tape_core::time::Timestamp;
use tape_store::contract::{Cursor, FeedEntry, Shard, TailPage};
use tape_store::error::StoreError;

/// How many entries are read at first. Each page may have twice as many as the one before, so that large entries are noticed soon.
const FIRST_PAGE: u32 = 64;
/// After how many bytes of entries no more is read: the entries come with their payloads.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where to look on in a shard.
struct Behind {
    shard: Shard,
    cursor: Cursor,
    is_looked_at: bool,
}

/// What may be read yet.
struct Budget {
    entries: u64,
    bytes: usize,
    page: u32,
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0
    }

    /// The size of the next page, of so many shards that want one.
    fn page(&mut self, shards: usize) -> u32 {
        let share = (self.entries / shards as u64).clamp(1, u64::from(self.page));
        self.page = self.page.saturating_mul(2).min(PAGE_ENTRIES_MAX);
        u32::try_from(share).unwrap_or(PAGE_ENTRIES_MAX)
    }

    fn spend(&mut self, page: &TailPage) {
        let entries = page.entries.len() + page.damaged.len();
        self.entries = self.entries.saturating_sub(entries as u64);
        let bytes = page.entries.iter().map(|feed| feed.entry.size());
        self.bytes = self.bytes.saturating_sub(bytes.sum());
    }
}

impl Engine {
    /// What a place has not passed, of what a bounded look finds. Each shard is looked at, so that the oldest entry is among what is found.
    pub(super) async fn lag(
        &self,
        relay: &RelayId,
        place: &Place,
        now: Timestamp,
    ) -> Result<Lag, StoreError> {
        let behind = |(shard, cursor): (&u16, &Bytes)| Behind {
            shard: Shard(*shard),
            cursor: Cursor(cursor.clone()),
            is_looked_at: false,
        };
        let mut shards: VecDeque<Behind> = place.cursors.iter().map(behind).collect();
        let (mut lag, mut budget) = (
            Lag::default(),
            Budget {
                entries: LAG_ENTRIES_MAX,
                bytes: BYTES_MAX,
                page: FIRST_PAGE,
            },
        );
        while let Some(Behind {
            shard,
            cursor,
            is_looked_at,
        }) = shards.pop_front()
        {
            let is_over = budget.is_spent() && is_looked_at;
            // Where no more is looked at, one entry says that there is more.
            let limit = if budget.is_spent() {
                1
            } else {
                budget.page(shards.len() + 1)
            };
            let page = self.store().tail(shard, &cursor, limit).await?;
            if page.is_end() {
                continue;
            }
            if is_over {
                lag.is_more = true;
                break;
            }
            budget.spend(&page);
            count(&mut lag, relay.tenant.as_ref(), &page.entries);
            shards.push_back(Behind {
                shard,
                cursor: page.cursor,
                is_looked_at: true,
            });
        }
        lag.millis = lag.oldest.map_or(0, |oldest| now.millis_since(oldest));
        Ok(lag)
    }
}

fn count(lag: &mut Lag, tenant: Option<&Tenant>, entries: &[FeedEntry]) {
    let of_tenant = |feed: &&FeedEntry| tenant.is_none_or(|tenant| tenant == feed.stream.tenant());
    let mut counted = entries.iter().filter(of_tenant).peekable();
    // The first of a page is its oldest; one that cannot be read says nothing of its time.
    let first = counted.peek().and_then(|feed| decode(&feed.entry).ok());
    lag.oldest = first.map(|entry| entry.at).into_iter().chain(lag.oldest).min();
    lag.entries += counted.count() as u64;
}
