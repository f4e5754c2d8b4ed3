//! The places of relays.

use super::field::{InvalidField, name, optional_name, required};
use super::name::small;
use super::stream::Tenants;
use crate::v1;
use crate::v1::reset_relay_request::{Beginning, Cursors, End, To};
use bytes::Bytes;
use std::collections::BTreeMap;
use tape_core::id::{Epoch, RelayId, RelayPart};
use tape_core::relay::{Disabled, Place, Progress};
use tape_core::time::Timestamp;

impl TryFrom<v1::RelayId> for RelayId {
    type Error = InvalidField;
    fn try_from(wire: v1::RelayId) -> Result<Self, InvalidField> {
        let Tenants(tenant) = required("tenants", wire.tenants)?;
        Ok(Self {
            tenant,
            name: name("name", &wire.name)?,
        })
    }
}

impl From<RelayId> for v1::RelayId {
    fn from(relay: RelayId) -> Self {
        Self {
            tenants: Some(Tenants(relay.tenant).into()),
            name: relay.name.into(),
        }
    }
}

impl TryFrom<v1::RelayPartId> for RelayPart {
    type Error = InvalidField;
    fn try_from(wire: v1::RelayPartId) -> Result<Self, InvalidField> {
        Ok(Self {
            relay: required("relay", wire.relay)?,
            part: small("part", wire.part)?,
        })
    }
}

impl From<RelayPart> for v1::RelayPartId {
    fn from(part: RelayPart) -> Self {
        Self {
            relay: Some(part.relay.into()),
            part: part.part.into(),
        }
    }
}

/// Cursors of the feed by shard, each shard once.
fn cursors(field: &str, wire: Vec<v1::ShardCursor>) -> Result<BTreeMap<u16, Bytes>, InvalidField> {
    let mut cursors = BTreeMap::new();
    for (i, wire) in wire.into_iter().enumerate() {
        let field = format!("{field}[{i}].shard");
        let shard = small(&field, wire.shard)?;
        if cursors.insert(shard, wire.cursor).is_some() {
            return Err(InvalidField::new(field, format!("is {shard} a second time")));
        }
    }
    Ok(cursors)
}

/// Cursors of the feed for the wire, in the order of their shards.
pub fn shard_cursors(cursors: impl IntoIterator<Item = (u16, Bytes)>) -> Vec<v1::ShardCursor> {
    let cursor = |(shard, cursor): (u16, Bytes)| v1::ShardCursor {
        shard: shard.into(),
        cursor,
    };
    cursors.into_iter().map(cursor).collect()
}

impl TryFrom<v1::RelayPlace> for Place {
    type Error = InvalidField;
    fn try_from(wire: v1::RelayPlace) -> Result<Self, InvalidField> {
        Ok(Self {
            epoch: Epoch(wire.epoch),
            holder: optional_name("holder", wire.holder.as_ref())?,
            until: Timestamp::from_micros(wire.until_us),
            cursors: cursors("cursors", wire.cursors)?,
            reached: wire.reached_us.map(Timestamp::from_micros),
            moved: wire.moved_us.map(Timestamp::from_micros),
            delivered: wire.delivered,
            refused: wire.refused,
            failing: wire.failing_us.map(Timestamp::from_micros),
            disabled: wire.disabled.map(Into::into),
            state: wire.state,
        })
    }
}

impl From<Place> for v1::RelayPlace {
    fn from(place: Place) -> Self {
        Self {
            epoch: place.epoch.0,
            holder: place.holder.map(Into::into),
            until_us: place.until.as_micros(),
            cursors: shard_cursors(place.cursors),
            reached_us: place.reached.map(Timestamp::as_micros),
            moved_us: place.moved.map(Timestamp::as_micros),
            delivered: place.delivered,
            refused: place.refused,
            failing_us: place.failing.map(Timestamp::as_micros),
            disabled: place.disabled.map(Into::into),
            state: place.state,
        }
    }
}

impl From<v1::RelayStop> for Disabled {
    fn from(wire: v1::RelayStop) -> Self {
        Self {
            since: Timestamp::from_micros(wire.since_us),
            reason: wire.reason,
        }
    }
}

impl From<Disabled> for v1::RelayStop {
    fn from(disabled: Disabled) -> Self {
        Self {
            since_us: disabled.since.as_micros(),
            reason: disabled.reason,
        }
    }
}

/// A move of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayMove {
    /// The part.
    pub part: RelayPart,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// How long the lease lasts.
    pub lease_ms: u64,
    /// How far the part has come.
    pub progress: Progress,
}

impl TryFrom<v1::AdvanceRelayPartRequest> for RelayMove {
    type Error = InvalidField;
    fn try_from(wire: v1::AdvanceRelayPartRequest) -> Result<Self, InvalidField> {
        Ok(Self {
            part: required("part", wire.part)?,
            epoch: Epoch(wire.epoch),
            lease_ms: wire.lease_ms,
            progress: Progress {
                cursors: cursors("cursors", wire.cursors)?,
                reached: wire.reached_us.map(Timestamp::from_micros),
                delivered: wire.delivered,
                refused: wire.refused,
                is_failing: wire.failing,
                disable: wire.disable,
                state: wire.state,
            },
        })
    }
}

impl From<RelayMove> for v1::AdvanceRelayPartRequest {
    fn from(of: RelayMove) -> Self {
        let progress = of.progress;
        Self {
            part: Some(of.part.into()),
            epoch: of.epoch.0,
            lease_ms: of.lease_ms,
            cursors: shard_cursors(progress.cursors),
            reached_us: progress.reached.map(Timestamp::as_micros),
            delivered: progress.delivered,
            refused: progress.refused,
            failing: progress.is_failing,
            disable: progress.disable,
            state: progress.state,
        }
    }
}

/// Where a relay is to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayTarget {
    /// The beginning of the feed.
    Beginning,
    /// Its end.
    End,
    /// Other places of some shards.
    Cursors(BTreeMap<u16, Bytes>),
}

/// A relay that is to be put at another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayReset {
    /// The relay.
    pub relay: RelayId,
    /// Where to.
    pub to: RelayTarget,
}

impl TryFrom<v1::ResetRelayRequest> for RelayReset {
    type Error = InvalidField;
    fn try_from(wire: v1::ResetRelayRequest) -> Result<Self, InvalidField> {
        let relay = required("relay", wire.relay)?;
        let to = match wire.to.ok_or_else(|| InvalidField::missing("to"))? {
            To::FeedBeginning(Beginning {}) => RelayTarget::Beginning,
            To::FeedEnd(End {}) => RelayTarget::End,
            To::Cursors(Cursors { shards }) => RelayTarget::Cursors(cursors("cursors.shards", shards)?),
        };
        Ok(Self { relay, to })
    }
}

impl From<RelayReset> for v1::ResetRelayRequest {
    fn from(reset: RelayReset) -> Self {
        let to = match reset.to {
            RelayTarget::Beginning => To::FeedBeginning(Beginning {}),
            RelayTarget::End => To::FeedEnd(End {}),
            RelayTarget::Cursors(cursors) => To::Cursors(Cursors {
                shards: shard_cursors(cursors),
            }),
        };
        Self {
            relay: Some(reset.relay.into()),
            to: Some(to),
        }
    }
}
