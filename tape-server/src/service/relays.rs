//! Relays: what they report, and where they are.

use super::Context;
use super::relay_places::unreadable as as_wire;
use crate::failure::of_journal;
use tape_api::relays::{Control, Controlled};
use tape_proto::convert::{InvalidField, RelayReport};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::relay_service_server::RelayService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RelayService for Context {
    async fn record_refusal(
        &self,
        request: Request<v1::RecordRefusalRequest>,
    ) -> Result<Response<v1::RecordRefusalResponse>, Status> {
        let seq = self.record(request.into_inner());
        self.answer(async { Ok(v1::RecordRefusalResponse { seq: seq.await? }) })
            .await
    }

    async fn record_redelivery(
        &self,
        request: Request<v1::RecordRedeliveryRequest>,
    ) -> Result<Response<v1::RecordRedeliveryResponse>, Status> {
        let seq = self.record(request.into_inner());
        self.answer(async { Ok(v1::RecordRedeliveryResponse { seq: seq.await? }) })
            .await
    }

    async fn record_receipt(
        &self,
        request: Request<v1::RecordReceiptRequest>,
    ) -> Result<Response<v1::RecordReceiptResponse>, Status> {
        let seq = self.record(request.into_inner());
        self.answer(async { Ok(v1::RecordReceiptResponse { seq: seq.await? }) })
            .await
    }

    async fn claim_relay_part(
        &self,
        request: Request<v1::ClaimRelayPartRequest>,
    ) -> Result<Response<v1::ClaimRelayPartResponse>, Status> {
        self.answer(self.claim_part(request.into_inner())).await
    }

    async fn advance_relay_part(
        &self,
        request: Request<v1::AdvanceRelayPartRequest>,
    ) -> Result<Response<v1::AdvanceRelayPartResponse>, Status> {
        self.answer(self.advance_part(request.into_inner())).await
    }

    async fn release_relay_part(
        &self,
        request: Request<v1::ReleaseRelayPartRequest>,
    ) -> Result<Response<v1::ReleaseRelayPartResponse>, Status> {
        self.answer(self.release_part(request.into_inner())).await
    }

    async fn list_relay_parts(
        &self,
        request: Request<v1::ListRelayPartsRequest>,
    ) -> Result<Response<v1::ListRelayPartsResponse>, Status> {
        self.answer(self.part_page(request.into_inner())).await
    }

    async fn disable_relay(
        &self,
        request: Request<v1::DisableRelayRequest>,
    ) -> Result<Response<v1::DisableRelayResponse>, Status> {
        let v1::DisableRelayRequest { relay, reason } = request.into_inner();
        let done = self.control_relay(relay, Control::Disable { reason });
        self.answer(async {
            let Controlled { parts, unreadable } = done.await?;
            Ok(v1::DisableRelayResponse {
                parts,
                unreadable: as_wire(unreadable),
            })
        })
        .await
    }

    async fn enable_relay(
        &self,
        request: Request<v1::EnableRelayRequest>,
    ) -> Result<Response<v1::EnableRelayResponse>, Status> {
        let done = self.control_relay(request.into_inner().relay, Control::Enable);
        self.answer(async {
            let Controlled { parts, unreadable } = done.await?;
            Ok(v1::EnableRelayResponse {
                parts,
                unreadable: as_wire(unreadable),
            })
        })
        .await
    }

    async fn reset_relay(
        &self,
        request: Request<v1::ResetRelayRequest>,
    ) -> Result<Response<v1::ResetRelayResponse>, Status> {
        let done = self.put_relay(request.into_inner());
        self.answer(async {
            let Controlled { parts, unreadable } = done.await?;
            Ok(v1::ResetRelayResponse {
                parts,
                unreadable: as_wire(unreadable),
            })
        })
        .await
    }

    async fn forget_relay(
        &self,
        request: Request<v1::ForgetRelayRequest>,
    ) -> Result<Response<v1::ForgetRelayResponse>, Status> {
        self.answer(self.forget(request.into_inner())).await
    }
}

impl Context {
    /// Records a report; returns the entry that says it.
    async fn record<W>(&self, wire: W) -> Result<u64, Failure>
    where
        W: TryInto<RelayReport, Error = InvalidField>,
    {
        let RelayReport { relay, command } = wire.try_into()?;
        let reply = self.engine().record(&relay, command).await;
        Ok(reply.map_err(of_journal)?.seq.0)
    }
}
