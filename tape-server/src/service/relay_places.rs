//! Where relays are: who carries their parts, and what a person does about them.

use super::lists::fewer;
use super::read::named;
use super::{Context, PAGE_BYTES_MAX};
use crate::failure::of_query;
use std::time::Duration;
use tape_api::Relays;
use tape_api::argument::PLACES;
use tape_api::relays::{
    ClaimAnswer, Control, Controlled, Lag, MoveAnswer, PartStatus, PlacePage, PlaceQuery,
};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart};
use tape_core::relay::{Held, NotMoved};
use tape_core::time::Timestamp;
use tape_proto::convert::{InvalidField, RelayMove, RelayReset, RelayTarget, Tenants};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::advance_relay_part_response as moved;
use tape_proto::v1::claim_relay_part_response as claimed;
use tape_proto::v1::list_relay_parts_request::Which;
use tape_proto::v1::list_relay_parts_response as listed;
use tape_proto::v1::list_relay_parts_response::part::Behind;

impl Context {
    fn relay_door(&self) -> &dyn Relays {
        self.engine()
    }

    pub(super) async fn claim_part(
        &self,
        wire: v1::ClaimRelayPartRequest,
    ) -> Result<v1::ClaimRelayPartResponse, Failure> {
        let part: RelayPart = named("part", wire.part)?;
        let holder: Holder = wire.holder.parse().map_err(|error: tape_core::id::InvalidName| {
            InvalidField::new("holder", error.problem.to_string())
        })?;
        let lease = Duration::from_millis(wire.lease_ms);
        let claim = self.relay_door().claim(&part, &holder, lease).await;
        let answer = match claim.map_err(of_query)? {
            ClaimAnswer::Claimed { epoch, place } => claimed::Answer::Claimed(claimed::Claimed {
                epoch: epoch.0,
                place: Some((*place).into()),
            }),
            ClaimAnswer::Held(Held::By { holder, until }) => claimed::Answer::Held(claimed::Held {
                holder: holder.into(),
                until_us: until.as_micros(),
                left_ms: self
                    .engine()
                    .known_time()
                    .map_or(0, |now| until.millis_since(now)),
            }),
            ClaimAnswer::Held(Held::Disabled(disabled)) => claimed::Answer::Disabled(disabled.into()),
            ClaimAnswer::Held(Held::Unsure) => claimed::Answer::Unsure(claimed::Unsure {}),
        };
        Ok(v1::ClaimRelayPartResponse { answer: Some(answer) })
    }

    pub(super) async fn advance_part(
        &self,
        wire: v1::AdvanceRelayPartRequest,
    ) -> Result<v1::AdvanceRelayPartResponse, Failure> {
        let RelayMove {
            part,
            epoch,
            lease_ms,
            progress,
        } = wire.try_into()?;
        let lease = Duration::from_millis(lease_ms);
        let answer = self.relay_door().advance(&part, epoch, progress, lease).await;
        let answer = match answer.map_err(of_query)? {
            MoveAnswer::Moved => moved::Answer::Moved(moved::Moved {}),
            MoveAnswer::NotMoved(NotMoved::Fenced { given, current }) => {
                moved::Answer::Fenced(moved::Fenced {
                    given: given.0,
                    current: current.0,
                })
            }
            MoveAnswer::NotMoved(refused @ NotMoved::TooMuch { what, .. }) => {
                return Err(InvalidField::new(what, refused.to_string()).into());
            }
        };
        Ok(v1::AdvanceRelayPartResponse { answer: Some(answer) })
    }

    pub(super) async fn release_part(
        &self,
        wire: v1::ReleaseRelayPartRequest,
    ) -> Result<v1::ReleaseRelayPartResponse, Failure> {
        let part: RelayPart = named("part", wire.part)?;
        let released = self.relay_door().release(&part, Epoch(wire.epoch)).await;
        released.map_err(of_query)?;
        Ok(v1::ReleaseRelayPartResponse {})
    }

    pub(super) async fn part_page(
        &self,
        wire: v1::ListRelayPartsRequest,
    ) -> Result<v1::ListRelayPartsResponse, Failure> {
        let query = query(wire.which)?;
        let mut limit = PLACES.of(wire.page_size);
        // Places are read until a page of them fits a message: each may have the cursors of a thousand shards.
        loop {
            let page = self.relay_door().places(&query, Some(&wire.page_token), limit);
            let page = page.await.map_err(of_query)?;
            let found = page.parts.len() + page.unreadable.len();
            let message = message(page);
            let bytes = prost::Message::encoded_len(&message);
            if bytes <= PAGE_BYTES_MAX || limit <= 1 {
                return Ok(message);
            }
            limit = fewer(found, bytes);
        }
    }

    pub(super) async fn control_relay(
        &self,
        relay: Option<v1::RelayId>,
        control: Control,
    ) -> Result<Controlled, Failure> {
        let relay: RelayId = named("relay", relay)?;
        self.relay_door()
            .control(&relay, &control)
            .await
            .map_err(of_query)
    }

    pub(super) async fn forget(
        &self,
        wire: v1::ForgetRelayRequest,
    ) -> Result<v1::ForgetRelayResponse, Failure> {
        let v1::ForgetRelayRequest { relay, record } = wire;
        let parts = match (&relay, record.as_str()) {
            (_, "") => self.control_relay(relay, Control::Forget).await?.parts,
            (None, record) => {
                let forgotten = self.relay_door().forget_record(record).await;
                u64::from(forgotten.map_err(of_query)?)
            }
            (Some(_), _) => {
                let problem = "is named beside a relay: name one of the two";
                return Err(InvalidField::new("record", problem.to_owned()).into());
            }
        };
        Ok(v1::ForgetRelayResponse { parts })
    }

    pub(super) async fn put_relay(&self, wire: v1::ResetRelayRequest) -> Result<Controlled, Failure> {
        let RelayReset { relay, to } = wire.try_into()?;
        let control = match to {
            RelayTarget::Beginning => Control::ToBeginning,
            RelayTarget::End => Control::ToEnd,
            RelayTarget::Cursors(cursors) => Control::To(cursors),
        };
        self.relay_door()
            .control(&relay, &control)
            .await
            .map_err(of_query)
    }
}

fn query(which: Option<Which>) -> Result<PlaceQuery, InvalidField> {
    match which.ok_or_else(|| InvalidField::missing("which"))? {
        Which::Tenants(tenants) => {
            let Tenants(tenant) = named("tenants", Some(tenants))?;
            Ok(tenant.map_or(PlaceQuery::All, PlaceQuery::Tenant))
        }
        Which::Relay(relay) => Ok(PlaceQuery::Relay(named("relay", Some(relay))?)),
    }
}

fn message(page: PlacePage) -> v1::ListRelayPartsResponse {
    v1::ListRelayPartsResponse {
        parts: page.parts.into_iter().map(part).collect(),
        unreadable: unreadable(page.unreadable),
        next_page_token: page.next.unwrap_or_default(),
    }
}

/// The records that cannot be read.
pub(super) fn unreadable(records: Vec<(String, String)>) -> Vec<v1::UnreadableRelayPart> {
    let records = records.into_iter();
    records
        .map(|(name, problem)| v1::UnreadableRelayPart { name, problem })
        .collect()
}

fn part(status: PartStatus) -> listed::Part {
    let behind = match status.lag {
        Ok(Lag {
            entries,
            is_more,
            oldest,
            millis,
        }) => Behind::Lag(listed::Lag {
            entries,
            more: is_more,
            oldest_us: oldest.map(Timestamp::as_micros),
            oldest_ms: millis,
        }),
        Err(problem) => Behind::LagProblem(problem),
    };
    listed::Part {
        part: Some(status.part.into()),
        place: Some(status.place.into()),
        left_ms: status.left_ms,
        behind: Some(behind),
    }
}
