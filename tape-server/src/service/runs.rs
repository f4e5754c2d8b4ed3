//! Runs: commands and reads.

use super::{Context, Messages, read};
use crate::failure::{of_journal, of_store};
use tape_api::argument::RUNS;
use tape_core::decider::Decider as _;
use tape_core::id::StreamId;
use tape_core::reply::{Missing, Rejection};
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::convert::{ExecuteCommand, RunListQuery, RunQuestion};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::runs_server::Runs;
use tape_store::contract::{PageToken, RunFilter};
use tonic::{Request, Response, Status, Streaming};

/// Runs that are read from the store at once, whatever size the caller sets: each may have 256 KiB of labels.
const RUNS_AT_ONCE: u32 = 512;
/// Bytes of runs in one page: less than a message may have, overhead included.
const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 4 * 3;

#[tonic::async_trait]
impl Runs for Context {
    type DriveStream = Messages<v1::DriveResponse>;
    type ReadStream = Messages<v1::ReadResponse>;

    async fn drive(
        &self,
        _: Request<Streaming<v1::DriveRequest>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        // `RunsService` serves the stream before the call reaches this.
        Err(Status::unimplemented("the stream is served message by message"))
    }

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<v1::ExecuteResponse>, Status> {
        self.answer(self.execute_one(request.into_inner())).await
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = read::Request::try_from(request.into_inner()).map_err(Failure::from)?;
        self.stream(|context, sink| read::serve(context, request, sink))
    }

    async fn get(&self, request: Request<v1::GetRunRequest>) -> Result<Response<v1::GetRunResponse>, Status> {
        self.answer(self.view(request.into_inner())).await
    }

    async fn list(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        self.answer(self.list_page(request.into_inner())).await
    }
}

impl Context {
    async fn execute_one(&self, request: v1::ExecuteRequest) -> Result<v1::ExecuteResponse, Failure> {
        let ExecuteCommand { run, command } = request.try_into()?;
        self.engine()
            .run(&run, command)
            .await
            .map(Into::into)
            .map_err(of_journal)
    }

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

    async fn list_page(&self, request: v1::ListRunsRequest) -> Result<v1::ListRunsResponse, Failure> {
        let query = RunListQuery::try_from(request)?;
        let limit = RUNS.of(query.page_size.unwrap_or_default());
        let token = query.page_token.map(PageToken);
        let filter = RunFilter {
            tenant: query.tenant,
            app: query.app,
            status: query.status,
            label: query.label,
            begun_from: query.begun_from,
            begun_before: query.begun_before,
        };
        let (runs, next) = self.runs_within(&filter, token.as_ref(), limit).await?;
        Ok(v1::ListRunsResponse {
            runs,
            next_page_token: next.map(|token| token.0).unwrap_or_default(),
        })
    }

    /// A page of at most `limit` runs that fits a message: labels are read until it does.
    async fn runs_within(
        &self,
        filter: &RunFilter,
        from: Option<&PageToken>,
        limit: u32,
    ) -> Result<(Vec<v1::RunSummary>, Option<PageToken>), Failure> {
        let mut limit = limit.min(RUNS_AT_ONCE);
        loop {
            let page = self.store().runs(filter, from, limit).await;
            let page = page.map_err(|error| of_store(&error))?;
            let runs: Vec<v1::RunSummary> = page.runs.into_iter().map(Into::into).collect();
            let bytes: usize = runs.iter().map(prost::Message::encoded_len).sum();
            if bytes <= PAGE_BYTES_MAX || limit <= 1 {
                return Ok((runs, page.next));
            }
            limit = fewer(runs.len(), bytes);
        }
    }
}

/// How many runs to read instead of a page that is too large.
fn fewer(runs: usize, bytes: usize) -> u32 {
    let fit = (runs * PAGE_BYTES_MAX / bytes).min(runs / 2).max(1);
    u32::try_from(fit).unwrap_or(1)
}
