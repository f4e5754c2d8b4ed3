//! Relays of a journal in this process.

use super::failure::of_store;
use crate::Engine;
use crate::engine::places::{PREFIX, read_record};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tape_api::argument::{self, PLACES, check_disable, relay_lease_ms};
use tape_api::relays::{ClaimAnswer, Control, Controlled, MoveAnswer, PartStatus, PlacePage, PlaceQuery};
use tape_api::{JournalError, Relays};
use tape_core::causes::Causes;
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream};
use tape_core::relay::{NotMoved, Progress};
use tape_core::reply::Reply;

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
        let shards = self.store().capabilities().shards;
        if part.part >= shards {
            let problem = format!(
                "is {}, and the feed of this journal has {shards} shards",
                part.part
            );
            return Err(JournalError::Invalid(format!("part: {problem}")));
        }
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
                    let lag = self.lag(&part.relay, &place, now).await;
                    let lag = lag.map_err(|problem| Causes(&problem).to_string());
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

    async fn control(&self, relay: &RelayId, control: &Control) -> Result<Controlled, JournalError> {
        self.control_relay(relay, control).await
    }

    async fn forget_record(&self, name: &str) -> Result<bool, JournalError> {
        self.forget_unreadable(name).await
    }
}

impl Engine {
    pub(super) fn check_shards(&self, cursors: &BTreeMap<u16, Bytes>) -> Result<(), JournalError> {
        let shards = self.store().capabilities().shards;
        match cursors.keys().find(|shard| **shard >= shards) {
            Some(foreign) => Err(JournalError::Invalid(format!(
                "cursors: there is no shard {foreign} in this journal of {shards}"
            ))),
            None => Ok(()),
        }
    }
}

/// What the names of the records begin with that a query chooses.
pub(super) fn prefix(query: &PlaceQuery) -> String {
    match query {
        PlaceQuery::All => PREFIX.to_owned(),
        PlaceQuery::Tenant(tenant) => format!("{PREFIX}{}", RelayId::prefix(tenant)),
        PlaceQuery::Relay(relay) => format!("{PREFIX}{relay}/"),
    }
}
