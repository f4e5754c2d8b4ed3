//! Due work, and the commands of workers.

use super::read::named;
use super::{Context, Messages, due};
use crate::failure::of_journal;
use tape_core::id::{SessionId, StreamId};
use tape_proto::convert::DueWatch;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::work_service_server::WorkService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl WorkService for Context {
    type WatchDueStream = Messages<v1::WatchDueResponse>;

    async fn watch_due(
        &self,
        request: Request<v1::WatchDueRequest>,
    ) -> Result<Response<Self::WatchDueStream>, Status> {
        let watch = DueWatch::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| due::watch(context, watch, sink))
    }

    async fn list_due(
        &self,
        request: Request<v1::ListDueRequest>,
    ) -> Result<Response<v1::ListDueResponse>, Status> {
        self.answer(self.due_page(request.into_inner())).await
    }

    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        self.answer(self.queues(request.into_inner())).await
    }

    async fn merge_session(
        &self,
        request: Request<v1::MergeSessionRequest>,
    ) -> Result<Response<v1::MergeSessionResponse>, Status> {
        self.answer(self.merge(request.into_inner())).await
    }

    async fn finish_erasures(
        &self,
        request: Request<v1::FinishErasuresRequest>,
    ) -> Result<Response<v1::FinishErasuresResponse>, Status> {
        self.answer(self.finish(request.into_inner())).await
    }

    async fn claim_effect(
        &self,
        request: Request<v1::ClaimEffectRequest>,
    ) -> Result<Response<v1::ClaimEffectResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn renew_effect_claim(
        &self,
        request: Request<v1::RenewEffectClaimRequest>,
    ) -> Result<Response<v1::RenewEffectClaimResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn finish_effect(
        &self,
        request: Request<v1::FinishEffectRequest>,
    ) -> Result<Response<v1::FinishEffectResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn lapse_effect(
        &self,
        request: Request<v1::LapseEffectRequest>,
    ) -> Result<Response<v1::LapseEffectResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn claim_observation(
        &self,
        request: Request<v1::ClaimObservationRequest>,
    ) -> Result<Response<v1::ClaimObservationResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn record_observation(
        &self,
        request: Request<v1::RecordObservationRequest>,
    ) -> Result<Response<v1::RecordObservationResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn claim_obligation(
        &self,
        request: Request<v1::ClaimObligationRequest>,
    ) -> Result<Response<v1::ClaimObligationResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn renew_obligation_claim(
        &self,
        request: Request<v1::RenewObligationClaimRequest>,
    ) -> Result<Response<v1::RenewObligationClaimResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn finish_obligation(
        &self,
        request: Request<v1::FinishObligationRequest>,
    ) -> Result<Response<v1::FinishObligationResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn expire_gate(
        &self,
        request: Request<v1::ExpireGateRequest>,
    ) -> Result<Response<v1::ExpireGateResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn fire_timer(
        &self,
        request: Request<v1::FireTimerRequest>,
    ) -> Result<Response<v1::FireTimerResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn release_vanished_driver(
        &self,
        request: Request<v1::ReleaseVanishedDriverRequest>,
    ) -> Result<Response<v1::ReleaseVanishedDriverResponse>, Status> {
        self.command(request.into_inner()).await
    }
}

impl Context {
    async fn merge(&self, wire: v1::MergeSessionRequest) -> Result<v1::MergeSessionResponse, Failure> {
        let session: SessionId = named("session", wire.session)?;
        self.engine().merge_session(&session).await.map_err(of_journal)?;
        Ok(v1::MergeSessionResponse {})
    }

    async fn finish(&self, wire: v1::FinishErasuresRequest) -> Result<v1::FinishErasuresResponse, Failure> {
        let stream: StreamId = named("stream", wire.stream)?;
        self.engine().finish_erasures(&stream).await.map_err(of_journal)?;
        Ok(v1::FinishErasuresResponse {})
    }
}
