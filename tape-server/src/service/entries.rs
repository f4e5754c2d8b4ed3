//! What is done to entries of any stream as such.

use super::Context;
use crate::failure::of_store;
use tape_core::id::{Seq, StreamId};
use tape_core::reply::Rejection;
use tape_proto::convert::InvalidField;
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::entries_server::Entries;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Entries for Context {
    async fn erase(&self, request: Request<v1::EraseRequest>) -> Result<Response<v1::EraseResponse>, Status> {
        self.answer(self.erase_one(request.into_inner())).await
    }
}

impl Context {
    async fn erase_one(&self, wire: v1::EraseRequest) -> Result<v1::EraseResponse, Failure> {
        let stream: StreamId = wire.stream.parse().map_err(|error: tape_core::id::InvalidName| {
            InvalidField::new("stream", error.problem.to_string())
        })?;
        let before = wire
            .seq
            .checked_sub(1)
            .ok_or_else(|| InvalidField::new("seq", "is 0, entries count from 1"))?;
        let found = self
            .store()
            .read(&stream, Seq(before), 1)
            .await
            .map_err(|error| of_store(&error))?;
        if found.first().is_none_or(|entry| entry.seq.0 != wire.seq) {
            return Err(Rejection::NotFound { what: "entry" }.into());
        }
        self.store()
            .erase(&stream, Seq(wire.seq))
            .await
            .map_err(|error| of_store(&error))?;
        Ok(v1::EraseResponse {})
    }
}
