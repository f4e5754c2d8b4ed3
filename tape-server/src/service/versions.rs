//! Which versions this server knows, and who it takes a caller for.

use super::Context;
use tape_proto::convert::Program;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::server_service_server::ServerService;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// The name of this program in negotiations.
const PROGRAM: &str = "tape-server";

#[tonic::async_trait]
impl ServerService for Context {
    async fn negotiate(
        &self,
        request: Request<v1::NegotiateRequest>,
    ) -> Result<Response<v1::NegotiateResponse>, Status> {
        let client = Program::try_from(request.into_inner()).map_err(Failure::from)?;
        let server = Program::of_this_build(PROGRAM);
        server.accepts(&client).inspect_err(|mismatch| {
            if let Some(before) = self.0.mismatches.note(Instant::now()) {
                // The caller chose a part of it. A field that is a text is escaped in the log, and cannot look like another line.
                let mismatch = mismatch.to_string();
                tracing::warn!(mismatch, before, "a client is refused");
            }
        })?;
        Ok(Response::new(server.into()))
    }

    async fn who_am_i(&self, _: Request<v1::WhoAmIRequest>) -> Result<Response<v1::WhoAmIResponse>, Status> {
        // No caller is authenticated: all may see everything.
        Ok(Response::new(v1::WhoAmIResponse {
            authenticated: false,
            principal: None,
            all_tenants: true,
        }))
    }
}
