//! What a person does to a relay.

use super::failure::of_store;
use super::relays::prefix;
use crate::Engine;
use crate::engine::places::read_record;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use tape_api::JournalError;
use tape_api::argument::{PLACES, check_reason};
use tape_api::relays::{Control, Controlled, PlaceQuery, UNREADABLE_MAX};
use tape_core::causes::Causes;
use tape_core::id::{RelayId, RelayPart};
use tape_core::relay::Place;
use tape_store::contract::{Cursor, Shard};

/// A record by its name, and what it says.
type Found = (String, Result<(RelayPart, Place), JournalError>);

/// Records of one relay.
struct Records {
    /// Their names, and what they say.
    records: Vec<Found>,
    /// Where the next page begins; none at the end.
    next: Option<String>,
}

/// Where a reset puts shards.
enum Target {
    /// Where all shards are put: those that a part has begun, and those that it carries.
    All {
        cursors: BTreeMap<u16, Bytes>,
        /// Whether one part carries them all.
        is_together: bool,
    },
    /// Some shards, which were begun.
    Some(BTreeMap<u16, Bytes>),
}

impl Target {
    /// The cursors of a part of this number from then on.
    fn cursors(&self, part: u16, place: &Place) -> BTreeMap<u16, Bytes> {
        let mut cursors = place.cursors.clone();
        match self {
            Self::All {
                cursors: all,
                is_together,
            } => {
                let is_its = |shard: u16| *is_together || shard == part || cursors.contains_key(&shard);
                let its = all.iter().filter(|(shard, _)| is_its(**shard));
                its.map(|(shard, cursor)| (*shard, cursor.clone())).collect()
            }
            Self::Some(given) => {
                for (shard, cursor) in &mut cursors {
                    if let Some(given) = given.get(shard) {
                        cursor.clone_from(given);
                    }
                }
                cursors
            }
        }
    }
}

/// What is done to each part.
enum Change<'a> {
    Disable(&'a str),
    Enable,
    Put(Target),
}

impl Engine {
    pub(super) async fn control_relay(
        &self,
        relay: &RelayId,
        control: &Control,
    ) -> Result<Controlled, JournalError> {
        let change = match control {
            Control::Forget => return self.forget_relay(relay).await,
            Control::Enable => Change::Enable,
            Control::Disable { reason } => {
                check_reason(reason)?;
                Change::Disable(reason)
            }
            Control::ToBeginning => Change::Put(self.all_shards(relay, BTreeMap::new()).await?),
            Control::ToEnd => {
                let ends = self.ends().await?;
                Change::Put(self.all_shards(relay, ends).await?)
            }
            Control::To(cursors) => {
                self.check_cursors(relay, cursors).await?;
                Change::Put(Target::Some(cursors.clone()))
            }
        };
        let (mut from, mut done) = (None, Controlled::default());
        loop {
            let page = self.relay_records(relay, from.as_deref()).await?;
            for (name, record) in page.records {
                let changed = match record {
                    Ok((part, _)) => self.change_part(&part, &change).await,
                    Err(damage) => Err(damage),
                };
                match changed {
                    Ok(()) => done.parts += 1,
                    Err(damage @ JournalError::Damaged(_)) => {
                        if done.unreadable.len() < UNREADABLE_MAX {
                            done.unreadable.push((name, Causes(&damage).to_string()));
                        }
                    }
                    Err(other) => return Err(other),
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(done),
            }
        }
    }

    /// Applies a change to the present place of a part, whatever it was when the parts were listed.
    async fn change_part(&self, part: &RelayPart, change: &Change<'_>) -> Result<(), JournalError> {
        let changed = self.change_place(part, |place, now| {
            match change {
                Change::Disable(reason) => place.disable((*reason).to_owned(), now),
                Change::Enable => place.enable(),
                Change::Put(target) => place.reset(target.cursors(part.part, place)),
            }
            Ok::<(), Infallible>(())
        });
        changed.await.map(drop)
    }

    /// Removes all records of a relay, whatever they say.
    async fn forget_relay(&self, relay: &RelayId) -> Result<Controlled, JournalError> {
        let (mut from, mut done) = (None, Controlled::default());
        loop {
            let page = self.relay_records(relay, from.as_deref()).await?;
            for (name, _) in page.records {
                done.parts += u64::from(self.forget_record(&name).await?);
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(done),
            }
        }
    }

    async fn relay_records(&self, relay: &RelayId, from: Option<&str>) -> Result<Records, JournalError> {
        let prefix = prefix(&PlaceQuery::Relay(relay.clone()));
        let records = self.store().cursors().records(&prefix, from, PLACES.max).await;
        let records = records.map_err(of_store)?;
        let is_last = records.len() < PLACES.max as usize;
        let next = records.last().filter(|_| !is_last).map(|(name, _)| name.clone());
        let read = records.into_iter().map(|(name, record)| {
            let read = read_record(&name, &record);
            (name, read)
        });
        Ok(Records {
            records: read.collect(),
            next,
        })
    }

    /// All shards of the feed as the target for a relay: at the given cursors, or at the beginning.
    ///
    /// A relay whose one process carries all shards has the part 0 alone, and that has begun more shards than the first, or none yet. Any
    /// other has a part for each shard, which are claimed at once.
    async fn all_shards(&self, relay: &RelayId, given: BTreeMap<u16, Bytes>) -> Result<Target, JournalError> {
        let shards = self.store().capabilities().shards;
        let at = |shard| (shard, given.get(&shard).cloned().unwrap_or_default());
        let first = self.relay_records(relay, None).await?;
        let is_together = match &first.records[..] {
            [(_, Ok((part, place)))] => {
                let is_only_first = place.cursors.keys().eq(&[0]);
                part.part == 0 && !is_only_first
            }
            _ => false,
        };
        Ok(Target::All {
            cursors: (0..shards).map(at).collect(),
            is_together,
        })
    }

    /// The ends of all shards.
    async fn ends(&self) -> Result<BTreeMap<u16, Bytes>, JournalError> {
        let mut ends = BTreeMap::new();
        for shard in 0..self.store().capabilities().shards {
            let end = self.store().tail_end(Shard(shard)).await.map_err(of_store)?;
            ends.insert(shard, end.0);
        }
        Ok(ends)
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
            let page = self.relay_records(relay, from.as_deref()).await?;
            let readable = page.records.iter().filter_map(|(_, record)| record.as_ref().ok());
            for shard in readable.flat_map(|(_, place)| place.cursors.keys()) {
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
}
