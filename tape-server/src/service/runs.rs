//! Runs: driving them, reading them, and what people decide about them.

use super::{Context, Messages, read};
use crate::failure::{of_journal, of_store};
use tape_core::decider::Decider as _;
use tape_core::id::StreamId;
use tape_core::reply::{Missing, Rejection};
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::convert::RunQuestion;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::run_service_server::RunService;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl RunService for Context {
    type DriveStream = Messages<v1::DriveResponse>;
    type ReadRunStream = Messages<v1::ReadRunResponse>;

    async fn drive(
        &self,
        _: Request<Streaming<v1::DriveRequest>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        // `Runs` serves the stream, message by message, before the call reaches this.
        Err(Failure::UnknownMethod(super::DRIVE.to_owned()).into())
    }

    async fn drive_once(
        &self,
        request: Request<v1::DriveOnceRequest>,
    ) -> Result<Response<v1::DriveOnceResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn read_run(
        &self,
        request: Request<v1::ReadRunRequest>,
    ) -> Result<Response<Self::ReadRunStream>, Status> {
        let request = read::Request::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| read::serve(context, request, sink))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::GetRunResponse>, Status> {
        self.answer(self.view(request.into_inner())).await
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        self.answer(self.run_page(request.into_inner())).await
    }

    async fn count_runs(
        &self,
        request: Request<v1::CountRunsRequest>,
    ) -> Result<Response<v1::CountRunsResponse>, Status> {
        self.answer(self.run_counts(request.into_inner())).await
    }

    async fn list_gates(
        &self,
        request: Request<v1::ListGatesRequest>,
    ) -> Result<Response<v1::ListGatesResponse>, Status> {
        self.answer(self.gate_page(request.into_inner())).await
    }

    async fn get_business_key(
        &self,
        request: Request<v1::GetBusinessKeyRequest>,
    ) -> Result<Response<v1::GetBusinessKeyResponse>, Status> {
        self.answer(self.key_owner(request.into_inner())).await
    }

    async fn signal_run(
        &self,
        request: Request<v1::SignalRunRequest>,
    ) -> Result<Response<v1::SignalRunResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn cancel_run(
        &self,
        request: Request<v1::CancelRunRequest>,
    ) -> Result<Response<v1::CancelRunResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn retry_run(
        &self,
        request: Request<v1::RetryRunRequest>,
    ) -> Result<Response<v1::RetryRunResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn settle_effect(
        &self,
        request: Request<v1::SettleEffectRequest>,
    ) -> Result<Response<v1::SettleEffectResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn settle_obligation(
        &self,
        request: Request<v1::SettleObligationRequest>,
    ) -> Result<Response<v1::SettleObligationResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn release_claim(
        &self,
        request: Request<v1::ReleaseClaimRequest>,
    ) -> Result<Response<v1::ReleaseClaimResponse>, Status> {
        self.command(request.into_inner()).await
    }
}

impl Context {
    async fn view(&self, request: v1::GetRunRequest) -> Result<v1::GetRunResponse, Failure> {
        let RunQuestion { run, only } = request.try_into()?;
        let state = self.engine().run_state(&run).await.map_err(of_journal)?;
        let state = state.ok_or(Rejection::not_found(Missing::Run))?;
        // This reads the digest of the state's own last entry: the run may have moved on since.
        let before = tape_core::id::Seq(state.seq().0.saturating_sub(1));
        let last = self
            .store()
            .read(&StreamId::Run(run), before, 1)
            .await
            .map_err(|error| of_store(&error))?;
        let digest = last.first().map(|entry| entry.digest).unwrap_or_default();
        let now = self
            .engine()
            .read_clock()
            .await
            .map_err(|error| of_store(&error))?;
        let only = only.as_ref();
        Ok(v1::GetRunResponse::of(
            &state,
            digest,
            now,
            only,
            MESSAGE_BYTES_MAX,
        ))
    }
}
