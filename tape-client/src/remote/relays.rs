//! Relays behind a server.

use super::failure::failed;
use super::lists::{required, token};
use super::pages::next_page;
use super::{Remote, message_bytes_max};
use async_trait::async_trait;
use std::time::Duration;
use tape_api::argument::relay_lease_ms;
use tape_api::relays::{
    ClaimAnswer, Control, Controlled, Lag, MoveAnswer, PartStatus, PlacePage, PlaceQuery,
};
use tape_api::{JournalError, Relays};
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream, Seq};
use tape_core::relay::{Held, NotMoved, Progress};
use tape_core::reply::{Reply, ReplyResult};
use tape_core::time::Timestamp;
use tape_proto::convert::{
    InvalidField, RelayMove, RelayReport, RelayRequest, RelayReset, RelayTarget, Tenants,
};
use tape_proto::v1;
use tape_proto::v1::advance_relay_part_response::{Answer as Moved, Fenced};
use tape_proto::v1::claim_relay_part_response as claimed;
use tape_proto::v1::list_relay_parts_request::Which;
use tape_proto::v1::list_relay_parts_response as listed;
use tape_proto::v1::list_relay_parts_response::part::Behind;
use tape_proto::v1::relay_service_client::RelayServiceClient;
use tonic::transport::Channel;

fn relays(channel: Channel) -> RelayServiceClient<Channel> {
    RelayServiceClient::new(channel).max_decoding_message_size(message_bytes_max())
}

#[async_trait]
impl Relays for Remote {
    async fn claim(
        &self,
        part: &RelayPart,
        holder: &Holder,
        lease: Duration,
    ) -> Result<ClaimAnswer, JournalError> {
        let request = v1::ClaimRelayPartRequest {
            part: Some(part.clone().into()),
            holder: holder.clone().into(),
            lease_ms: relay_lease_ms(lease)?,
        };
        let claim = |channel| async move { relays(channel).claim_relay_part(request).await };
        claimed(self.link.ask(claim).await?)
    }

    async fn advance(
        &self,
        part: &RelayPart,
        epoch: Epoch,
        progress: Progress,
        lease: Duration,
    ) -> Result<MoveAnswer, JournalError> {
        let request = v1::AdvanceRelayPartRequest::from(RelayMove {
            part: part.clone(),
            epoch,
            lease_ms: relay_lease_ms(lease)?,
            progress,
        });
        let request = tape_proto::fitting(request).map_err(failed)?;
        let advance = |channel| async move { relays(channel).advance_relay_part(request).await };
        let answer = self.link.ask(advance).await?.answer;
        Ok(
            match answer.ok_or_else(|| failed(InvalidField::missing("answer")))? {
                Moved::Moved(_) => MoveAnswer::Moved,
                Moved::Fenced(Fenced { given, current }) => MoveAnswer::NotMoved(NotMoved::Fenced {
                    given: Epoch(given),
                    current: Epoch(current),
                }),
            },
        )
    }

    async fn release(&self, part: &RelayPart, epoch: Epoch) -> Result<(), JournalError> {
        let request = v1::ReleaseRelayPartRequest {
            part: Some(part.clone().into()),
            epoch: epoch.0,
        };
        let release = |channel| async move { relays(channel).release_relay_part(request).await };
        self.link.ask(release).await.map(drop)
    }

    async fn places(
        &self,
        query: &PlaceQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PlacePage, JournalError> {
        let request = v1::ListRelayPartsRequest {
            which: Some(which(query)),
            page_size: limit,
            page_token: token(from),
        };
        let list = |channel| async move { relays(channel).list_relay_parts(request).await };
        let page = self.link.ask(list).await?;
        let unreadable = page.unreadable.into_iter().map(unreadable_part);
        Ok(PlacePage {
            parts: page.parts.into_iter().map(part).collect::<Result<_, _>>()?,
            unreadable: unreadable.collect(),
            next: next_page(from, page.next_page_token)?,
        })
    }

    async fn control(&self, relay: &RelayId, control: &Control) -> Result<Controlled, JournalError> {
        match control {
            Control::Disable { reason } => self.disable(relay, reason.clone()).await,
            Control::Enable => self.enable(relay).await,
            Control::ToBeginning => self.put(relay, RelayTarget::Beginning).await,
            Control::ToEnd => self.put(relay, RelayTarget::End).await,
            Control::To(cursors) => self.put(relay, RelayTarget::Cursors(cursors.clone())).await,
            Control::Forget => self.forget(relay).await,
        }
    }

    async fn forget_record(&self, name: &str) -> Result<bool, JournalError> {
        let request = v1::ForgetRelayRequest {
            relay: None,
            record: name.to_owned(),
        };
        let request = tape_proto::fitting(request).map_err(failed)?;
        let forget = |channel| async move { relays(channel).forget_relay(request).await };
        Ok(self.link.ask(forget).await?.parts > 0)
    }

    async fn record(
        &self,
        stream: &RelayStream,
        command: Command<RelayCommand>,
    ) -> Result<Reply, JournalError> {
        let relay = stream.clone();
        self.learning(self.ask_record(RelayReport { relay, command }))
            .await
    }
}

impl Remote {
    async fn disable(&self, relay: &RelayId, reason: String) -> Result<Controlled, JournalError> {
        let relay = Some(relay.clone().into());
        let request = v1::DisableRelayRequest { relay, reason };
        let request = tape_proto::fitting(request).map_err(failed)?;
        let disable = |channel| async move { relays(channel).disable_relay(request).await };
        let answer = self.link.ask(disable).await?;
        Ok(controlled(answer.parts, answer.unreadable))
    }

    async fn enable(&self, relay: &RelayId) -> Result<Controlled, JournalError> {
        let relay = Some(relay.clone().into());
        let request = v1::EnableRelayRequest { relay };
        let enable = |channel| async move { relays(channel).enable_relay(request).await };
        let answer = self.link.ask(enable).await?;
        Ok(controlled(answer.parts, answer.unreadable))
    }

    async fn put(&self, relay: &RelayId, to: RelayTarget) -> Result<Controlled, JournalError> {
        let relay = relay.clone();
        let request = v1::ResetRelayRequest::from(RelayReset { relay, to });
        let request = tape_proto::fitting(request).map_err(failed)?;
        let reset = |channel| async move { relays(channel).reset_relay(request).await };
        let answer = self.link.ask(reset).await?;
        Ok(controlled(answer.parts, answer.unreadable))
    }

    async fn forget(&self, relay: &RelayId) -> Result<Controlled, JournalError> {
        let relay = Some(relay.clone().into());
        let record = String::new();
        let request = v1::ForgetRelayRequest { relay, record };
        let forget = |channel| async move { relays(channel).forget_relay(request).await };
        let answer = self.link.ask(forget).await?;
        Ok(controlled(answer.parts, Vec::new()))
    }

    async fn ask_record(&self, report: RelayReport) -> Result<Reply, JournalError> {
        let seq = match report.into() {
            RelayRequest::Refusal(request) => {
                let request = tape_proto::fitting(request).map_err(failed)?;
                let record = |channel| async move { relays(channel).record_refusal(request).await };
                self.link.ask(record).await?.seq
            }
            RelayRequest::Redelivery(request) => {
                let record = |channel| async move { relays(channel).record_redelivery(request).await };
                self.link.ask(record).await?.seq
            }
            RelayRequest::Receipt(request) => {
                let record = |channel| async move { relays(channel).record_receipt(request).await };
                self.link.ask(record).await?.seq
            }
        };
        Ok(Reply {
            seq: Seq(seq),
            result: ReplyResult::Recorded,
        })
    }
}

fn which(query: &PlaceQuery) -> Which {
    match query.clone() {
        PlaceQuery::All => Which::Tenants(Tenants(None).into()),
        PlaceQuery::Tenant(tenant) => Which::Tenants(Tenants(Some(tenant)).into()),
        PlaceQuery::Relay(relay) => Which::Relay(relay.into()),
    }
}

fn claimed(response: v1::ClaimRelayPartResponse) -> Result<ClaimAnswer, JournalError> {
    use claimed::Answer;
    let answer = response.answer.ok_or_else(|| InvalidField::missing("answer"));
    Ok(match answer.map_err(failed)? {
        Answer::Claimed(claimed) => ClaimAnswer::Claimed {
            epoch: Epoch(claimed.epoch),
            place: Box::new(required("place", claimed.place)?),
        },
        Answer::Held(held) => ClaimAnswer::Held(Held::By {
            holder: held.holder.parse().map_err(JournalError::damaged)?,
            until: Timestamp::from_micros(held.until_us),
        }),
        Answer::Disabled(stop) => ClaimAnswer::Held(Held::Disabled(stop.into())),
        Answer::Unsure(_) => ClaimAnswer::Held(Held::Unsure),
    })
}

fn controlled(parts: u64, unreadable: Vec<v1::UnreadableRelayPart>) -> Controlled {
    Controlled {
        parts,
        unreadable: unreadable.into_iter().map(unreadable_part).collect(),
    }
}

fn unreadable_part(wire: v1::UnreadableRelayPart) -> (String, String) {
    (wire.name, wire.problem)
}

fn part(wire: listed::Part) -> Result<PartStatus, JournalError> {
    Ok(PartStatus {
        part: required("part", wire.part)?,
        place: required("place", wire.place)?,
        left_ms: wire.left_ms,
        lag: match wire
            .behind
            .ok_or_else(|| failed(InvalidField::missing("behind")))?
        {
            Behind::Lag(lag) => Ok(Lag {
                entries: lag.entries,
                is_more: lag.more,
                oldest: lag.oldest_us.map(Timestamp::from_micros),
                millis: lag.oldest_ms,
            }),
            Behind::LagProblem(problem) => Err(problem),
        },
    })
}
