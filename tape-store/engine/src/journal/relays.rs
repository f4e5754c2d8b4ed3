//! Relays of a journal in this process.

use super::failure::of_store;
use crate::Engine;
use crate::engine::places::{PREFIX, read_record};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tape_api::argument::{self, PLACES, check_disable, check_reason, relay_lease_ms};
use tape_api::relays::{
    ClaimAnswer, Control, LAG_ENTRIES_MAX, Lag, MoveAnswer, PartStatus, PlacePage, PlaceQuery,
};
use tape_api::{JournalError, Relays};
use tape_core::causes::Causes;
use tape_core::codec::decode;
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream, Tenant};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::relay::{NotMoved, Place, Progress};
use tape_core::reply::Reply;
use tape_core::time::Timestamp;
use tape_store::contract::{Cursor, FeedEntry, Shard};

#[async_trait]
impl Relays for Engine {
    async fn record(
        &self,
        stream: &RelayStream,
        command: Command<RelayCommand>,
    ) -> Result<Reply, JournalError> {
        Ok(Self::record(self, stream, command).await?)
    }

    async fn claim(
        &self,
        part: &RelayPart,
        holder: &Holder,
        lease: Duration,
    ) -> Result<ClaimAnswer, JournalError> {
        let lease_ms = relay_lease_ms(lease)?;
        let claim = self.change_place(part, |place, now| {
            let claim = place.claim(holder, lease_ms, now)?;
            Ok((claim.epoch, place.clone()))
        });
        Ok(match claim.await? {
            Ok((epoch, place)) => ClaimAnswer::Claimed {
                epoch,
                place: Box::new(place),
            },
            Err(held) => ClaimAnswer::Held(held),
        })
    }

    async fn advance(
        &self,
        part: &RelayPart,
        epoch: Epoch,
        progress: Progress,
        lease: Duration,
    ) -> Result<MoveAnswer, JournalError> {
        let lease_ms = relay_lease_ms(lease)?;
        self.check_shards(&progress.cursors)?;
        progress.disable.as_deref().map(check_disable).transpose()?;
        let moved = self.change_place(part, |place, now| {
            place.advance(epoch, progress.clone(), lease_ms, now)
        });
        Ok(match moved.await? {
            Ok(()) => MoveAnswer::Moved,
            Err(refused @ NotMoved::TooMuch { .. }) => {
                return Err(JournalError::Invalid(refused.to_string()));
            }
            Err(refused) => MoveAnswer::NotMoved(refused),
        })
    }

    async fn release(&self, part: &RelayPart, epoch: Epoch) -> Result<(), JournalError> {
        // Whether it was this process's to give back makes no difference to the caller.
        let _ = self.change_place(part, |place, _| place.release(epoch)).await?;
        Ok(())
    }

    async fn places(
        &self,
        query: &PlaceQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PlacePage, JournalError> {
        let prefix = prefix(query);
        let limit = PLACES.of(limit);
        let from = argument::token(from);
        if from.is_some_and(|from| !from.starts_with(&prefix)) {
            return Err(JournalError::Invalid(
                "page_token: it was not made for this list".to_owned(),
            ));
        }
        let records = self.store().cursors().records(&prefix, from, limit).await;
        let records = records.map_err(of_store)?;
        let is_last = records.len() < limit as usize;
        let mut page = PlacePage {
            next: records.last().filter(|_| !is_last).map(|(name, _)| name.clone()),
            ..PlacePage::default()
        };
        let now = self.now().await.map_err(of_store)?;
        for (name, record) in records {
            match read_record(&name, &record) {
                Ok((part, place)) => {
                    let lag = self.lag(&part.relay, &place, now).await?;
                    let left_ms = place.holder.as_ref().map_or(0, |_| place.until.millis_since(now));
                    page.parts.push(PartStatus {
                        part,
                        place,
                        left_ms,
                        lag,
                    });
                }
                Err(damage) => page.unreadable.push((name, Causes(&damage).to_string())),
            }
        }
        Ok(page)
    }

    async fn control(&self, relay: &RelayId, control: &Control) -> Result<u64, JournalError> {
        match control {
            Control::Disable { reason } => check_reason(reason)?,
            Control::To(cursors) => self.check_cursors(relay, cursors).await?,
            _ => {}
        }
        let (mut from, mut parts) = (None, 0);
        loop {
            let page = self.parts(relay, from.as_deref()).await?;
            for (part, place) in &page.parts {
                self.control_part(part, place, control).await?;
                parts += 1;
            }
            if page.next.is_none() {
                return Ok(parts);
            }
            from = page.next;
        }
    }
}

/// Parts of one relay.
struct Parts {
    parts: Vec<(RelayPart, Place)>,
    /// Where the next page begins; none at the end.
    next: Option<String>,
}

impl Engine {
    async fn parts(&self, relay: &RelayId, from: Option<&str>) -> Result<Parts, JournalError> {
        let prefix = prefix(&PlaceQuery::Relay(relay.clone()));
        let records = self
            .store()
            .cursors()
            .records(&prefix, from, PAGE_ENTRIES_MAX)
            .await;
        let records = records.map_err(of_store)?;
        let is_last = records.len() < PAGE_ENTRIES_MAX as usize;
        let parts = records.iter().map(|(name, record)| read_record(name, record));
        Ok(Parts {
            parts: parts.collect::<Result<_, _>>()?,
            next: records.last().filter(|_| !is_last).map(|(name, _)| name.clone()),
        })
    }

    fn check_shards(&self, cursors: &BTreeMap<u16, Bytes>) -> Result<(), JournalError> {
        let shards = self.store().capabilities().shards;
        match cursors.keys().find(|shard| **shard >= shards) {
            Some(foreign) => Err(JournalError::Invalid(format!(
                "cursors: there is no shard {foreign} in this journal of {shards}"
            ))),
            None => Ok(()),
        }
    }

    /// Checks the cursors for a relay before any of its parts is changed: the store has to read each, and the relay has to have begun its shard.
    async fn check_cursors(
        &self,
        relay: &RelayId,
        cursors: &BTreeMap<u16, Bytes>,
    ) -> Result<(), JournalError> {
        if cursors.is_empty() {
            return Err(JournalError::Invalid("cursors: is empty".to_owned()));
        }
        self.check_shards(cursors)?;
        for (shard, cursor) in cursors {
            let page = self.store().tail(Shard(*shard), &Cursor(cursor.clone()), 1).await;
            page.map_err(of_store)?;
        }
        let (mut from, mut not_begun): (_, BTreeSet<_>) = (None, cursors.keys().collect());
        loop {
            let page = self.parts(relay, from.as_deref()).await?;
            let begun = page.parts.iter().flat_map(|(_, place)| place.cursors.keys());
            for shard in begun {
                not_begun.remove(shard);
            }
            match (page.next, not_begun.first()) {
                (Some(next), _) => from = Some(next),
                (None, Some(shard)) => {
                    let problem = format!("{relay} has not begun shard {shard}");
                    return Err(JournalError::Invalid(format!("cursors: {problem}")));
                }
                (None, None) => return Ok(()),
            }
        }
    }

    async fn control_part(
        &self,
        part: &RelayPart,
        place: &Place,
        control: &Control,
    ) -> Result<(), JournalError> {
        let cursors = match control {
            Control::Forget => return self.forget_place(part).await.map(drop),
            Control::Disable { .. } | Control::Enable => BTreeMap::new(),
            Control::ToBeginning => place.cursors.keys().map(|shard| (*shard, Bytes::new())).collect(),
            Control::ToEnd => self.ends(place.cursors.keys()).await?,
            Control::To(cursors) => moved(place, cursors),
        };
        let changed = self.change_place(part, |place, now| {
            match control {
                Control::Disable { reason } => place.disable(reason.clone(), now),
                Control::Enable => place.enable(),
                _ => place.reset(cursors.clone()),
            }
            Ok::<(), std::convert::Infallible>(())
        });
        changed.await.map(drop)
    }

    async fn ends(&self, shards: impl Iterator<Item = &u16>) -> Result<BTreeMap<u16, Bytes>, JournalError> {
        let mut ends = BTreeMap::new();
        for shard in shards {
            let end = self.store().tail_end(Shard(*shard)).await.map_err(of_store)?;
            ends.insert(*shard, end.0);
        }
        Ok(ends)
    }

    /// What a place has not passed. Reads at most as many entries as are counted.
    async fn lag(&self, relay: &RelayId, place: &Place, now: Timestamp) -> Result<Lag, JournalError> {
        let mut lag = Lag::default();
        for (shard, cursor) in &place.cursors {
            let mut cursor = Cursor(cursor.clone());
            while !lag.is_more {
                let page = self.store().tail(Shard(*shard), &cursor, PAGE_ENTRIES_MAX).await;
                let page = page.map_err(of_store)?;
                if page.is_end() {
                    break;
                }
                count(&mut lag, relay.tenant.as_ref(), &page.entries);
                cursor = page.cursor;
            }
        }
        lag.millis = lag.oldest.map_or(0, |oldest| now.millis_since(oldest));
        Ok(lag)
    }
}

/// The cursors of a part, with those that are given for its shards.
fn moved(place: &Place, given: &BTreeMap<u16, Bytes>) -> BTreeMap<u16, Bytes> {
    let cursors = place.cursors.iter();
    let cursor = |shard, own: &Bytes| given.get(shard).unwrap_or(own).clone();
    cursors.map(|(shard, own)| (*shard, cursor(shard, own))).collect()
}

fn count(lag: &mut Lag, tenant: Option<&Tenant>, entries: &[FeedEntry]) {
    let of_tenant = |feed: &&FeedEntry| tenant.is_none_or(|tenant| tenant == feed.stream.tenant());
    for feed in entries.iter().filter(of_tenant) {
        if lag.entries == LAG_ENTRIES_MAX {
            lag.is_more = true;
            return;
        }
        lag.entries += 1;
        // The first of a shard is its oldest; one that cannot be read says nothing of its time.
        if lag.oldest.is_none() || lag.entries == 1 {
            let at = decode(&feed.entry).map(|entry| entry.at).ok();
            lag.oldest = at.into_iter().chain(lag.oldest).min();
        }
    }
}

/// What the names of the records begin with that a query chooses.
fn prefix(query: &PlaceQuery) -> String {
    match query {
        PlaceQuery::All => PREFIX.to_owned(),
        PlaceQuery::Tenant(tenant) => format!("{PREFIX}{}", RelayId::prefix(tenant)),
        PlaceQuery::Relay(relay) => format!("{PREFIX}{relay}/"),
    }
}
