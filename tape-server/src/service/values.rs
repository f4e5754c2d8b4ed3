//! Values: their commands and their present state.

use super::{Context, Messages, watch};
use crate::failure::of_journal;
use tape_core::id::{Tenant, ValueName};
use tape_core::reply::{Reply, ReplyResult};
use tape_proto::convert::{InvalidField, ValueChange};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::values_server::Values;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Values for Context {
    type WatchStream = Messages<v1::WatchValueResponse>;

    async fn put(&self, request: Request<v1::PutValueRequest>) -> Result<Response<v1::ValueReply>, Status> {
        self.answer(self.change_value(request.into_inner())).await
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteValueRequest>,
    ) -> Result<Response<v1::ValueReply>, Status> {
        self.answer(self.change_value(request.into_inner())).await
    }

    async fn get(
        &self,
        request: Request<v1::GetValueRequest>,
    ) -> Result<Response<v1::GetValueResponse>, Status> {
        self.answer(self.value_now(request.into_inner())).await
    }

    async fn watch(
        &self,
        request: Request<v1::WatchValueRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let (tenant, name) = value_id(request.value_id)?;
        self.stream(|context, sink| watch::serve(context, tenant, name, request.after_version, sink))
    }
}

impl Context {
    async fn change_value<W>(&self, wire: W) -> Result<v1::ValueReply, Failure>
    where
        W: TryInto<ValueChange, Error = InvalidField>,
    {
        let ValueChange {
            tenant,
            name,
            command,
        } = wire.try_into()?;
        let reply = self
            .engine()
            .value(&tenant, &name, command)
            .await
            .map_err(of_journal)?;
        Ok(v1::ValueReply {
            version: version(&reply),
        })
    }

    async fn value_now(&self, wire: v1::GetValueRequest) -> Result<v1::GetValueResponse, Failure> {
        let (tenant, name) = value_id(wire.value_id)?;
        let state = self
            .engine()
            .value_state(&tenant, &name)
            .await
            .map_err(of_journal)?;
        let now = state.map(|value| (value.version(), value.current()));
        let (version, value) = now.unwrap_or_default();
        Ok(v1::GetValueResponse {
            version,
            value: value.map(Into::into),
        })
    }
}

fn value_id(wire: Option<v1::ValueId>) -> Result<(Tenant, ValueName), Failure> {
    let id = wire.ok_or_else(|| InvalidField::missing("value_id"))?;
    Ok(id
        .try_into()
        .map_err(|error: InvalidField| error.within("value_id"))?)
}

const fn version(reply: &Reply) -> u64 {
    match reply.result {
        ReplyResult::Version { version } => version,
        // Each entry of a value is a version.
        _ => reply.seq.0,
    }
}
