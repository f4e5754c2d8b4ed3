//! Relays of a journal in this process.

use super::failure::of_store;
use crate::Engine;
use crate::engine::places::{PREFIX, read_record};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tape_api::argument::{self, PLACES, check_reason};
use tape_api::relays::{
    ClaimAnswer, Control, LAG_ENTRIES_MAX, Lag, MoveAnswer, PartStatus, PlacePage, PlaceQuery,
};
use tape_api::{JournalError, Relays};
use tape_core::causes::Causes;
use tape_core::codec::decode;
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream, Tenant};
use tape_core::limits::PAGE_ENTRIES_MAX;
use tape_core::relay::{Place, Progress};
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
        let lease_ms = millis(lease);
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
        let shards = self.store().capabilities().shards;
        if let Some(foreign) = progress.cursors.keys().find(|shard| **shard >= shards) {
            let problem = format!("there is no shard {foreign} in this journal of {shards}");
            return Err(JournalError::Invalid(format!("cursors: {problem}")));
        }
        let lease_ms = millis(lease);
        let moved = self.change_place(part, |place, now| {
            place.advance(epoch, progress.clone(), lease_ms, now)
        });
        Ok(match moved.await? {
            Ok(()) => MoveAnswer::Moved,
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
                    page.parts.push(PartStatus { part, place, lag });
                }
                Err(damage) => page.unreadable.push((name, Causes(&damage).to_string())),
            }
        }
        Ok(page)
    }

    async fn control(&self, relay: &RelayId, control: &Control) -> Result<u64, JournalError> {
        if let Control::Disable { reason } = control {
            check_reason(reason)?;
        }
        let (prefix, mut after, mut parts) = (prefix(&PlaceQuery::Relay(relay.clone())), None, 0);
        loop {
            let records = self.store().cursors();
            let records = records.records(&prefix, after.as_deref(), PAGE_ENTRIES_MAX).await;
            let records = records.map_err(of_store)?;
            for (name, record) in &records {
                let (part, place) = read_record(name, record)?;
                self.control_part(&part, &place, control).await?;
                parts += 1;
            }
            match records.last() {
                Some((name, _)) if records.len() >= PAGE_ENTRIES_MAX as usize => after = Some(name.clone()),
                _ => return Ok(parts),
            }
        }
    }
}

impl Engine {
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
            Control::To(cursors) => self.given(place, cursors).await?,
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

    /// The cursors of a part with those that are given for its shards, each of which the store has read.
    async fn given(
        &self,
        place: &Place,
        given: &BTreeMap<u16, Bytes>,
    ) -> Result<BTreeMap<u16, Bytes>, JournalError> {
        let mut cursors = place.cursors.clone();
        for (shard, cursor) in given
            .iter()
            .filter(|(shard, _)| place.cursors.contains_key(shard))
        {
            let cursor = Cursor(cursor.clone());
            let page = self.store().tail(Shard(*shard), &cursor, 1).await;
            page.map_err(of_store)?;
            cursors.insert(*shard, cursor.0);
        }
        Ok(cursors)
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
