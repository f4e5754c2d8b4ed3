//! Retention: runs that ended long ago are retired.

use super::Context;
use crate::failure::{of_argument, of_journal, of_store};
use tape_api::argument::{RETIRED, check_reason};
use tape_engine::Retirement;
use tape_proto::convert::RetirementQuery;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::retention_service_server::RetentionService;
use tape_store::contract::PageToken;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RetentionService for Context {
    async fn retire_runs(
        &self,
        request: Request<v1::RetireRunsRequest>,
    ) -> Result<Response<v1::RetireRunsResponse>, Status> {
        self.answer(self.retire_page(request.into_inner())).await
    }

    async fn retire_run(
        &self,
        request: Request<v1::RetireRunRequest>,
    ) -> Result<Response<v1::RetireRunResponse>, Status> {
        self.command(request.into_inner()).await
    }

    async fn reclaim_space(
        &self,
        _: Request<v1::ReclaimSpaceRequest>,
    ) -> Result<Response<v1::ReclaimSpaceResponse>, Status> {
        self.answer(self.reclaim_piece()).await
    }
}

impl Context {
    async fn retire_page(&self, request: v1::RetireRunsRequest) -> Result<v1::RetireRunsResponse, Failure> {
        let query = RetirementQuery::try_from(request)?;
        check_reason(&query.reason).map_err(of_argument)?;
        let now = self.engine().now().await.map_err(|error| of_store(&error))?;
        let retirement = Retirement {
            tenant: query.tenant,
            ended_before: now.minus_millis(query.older_than_ms),
            principal: query.principal,
            reason: query.reason,
            dry_run: query.dry_run,
        };
        let from = query.page_token.map(PageToken);
        let page = self
            .engine()
            .retire_page(&retirement, from.as_ref(), RETIRED.of(query.page_size))
            .await
            .map_err(of_journal)?;
        let left = page.failed.into_iter();
        Ok(v1::RetireRunsResponse {
            runs: page.runs,
            entries: page.entries,
            left: left
                .map(|(run, error)| (run, of_journal(error).to_string()).into())
                .collect(),
            next_page_token: page.next.map(|token| token.0).unwrap_or_default(),
        })
    }

    async fn reclaim_piece(&self) -> Result<v1::ReclaimSpaceResponse, Failure> {
        let more = self.engine().reclaim().await;
        let more = more.map_err(|error| of_store(&error))?;
        Ok(v1::ReclaimSpaceResponse { more })
    }
}
