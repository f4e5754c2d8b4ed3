//! Values: their commands and their present state.

use super::read::named;
use super::{Context, Messages, watch};
use crate::failure::of_journal;
use tape_core::id::{Tenant, ValueName};
use tape_core::reply::{Reply, ReplyResult};
use tape_proto::convert::{InvalidField, ValueChange};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::value_service_server::ValueService;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl ValueService for Context {
    type WatchValueStream = Messages<v1::WatchValueResponse>;

    async fn put_value(
        &self,
        request: Request<v1::PutValueRequest>,
    ) -> Result<Response<v1::PutValueResponse>, Status> {
        let version = self.change_value(request.into_inner());
        self.answer(async {
            Ok(v1::PutValueResponse {
                version: version.await?,
            })
        })
        .await
    }

    async fn delete_value(
        &self,
        request: Request<v1::DeleteValueRequest>,
    ) -> Result<Response<v1::DeleteValueResponse>, Status> {
        let version = self.change_value(request.into_inner());
        self.answer(async {
            Ok(v1::DeleteValueResponse {
                version: version.await?,
            })
        })
        .await
    }

    async fn get_value(
        &self,
        request: Request<v1::GetValueRequest>,
    ) -> Result<Response<v1::GetValueResponse>, Status> {
        self.answer(self.value_now(request.into_inner())).await
    }

    async fn list_values(
        &self,
        request: Request<v1::ListValuesRequest>,
    ) -> Result<Response<v1::ListValuesResponse>, Status> {
        self.answer(self.value_page(request.into_inner())).await
    }

    async fn watch_value(
        &self,
        request: Request<v1::WatchValueRequest>,
    ) -> Result<Response<Self::WatchValueStream>, Status> {
        let request = request.into_inner();
        let (tenant, name) = named("value_id", request.value_id).map_err(Failure::from)?;
        self.stream(|context, sink| watch::serve(context, tenant, name, request.after_version, sink))
    }
}

impl Context {
    async fn change_value<W>(&self, wire: W) -> Result<u64, Failure>
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
        Ok(version(&reply))
    }

    async fn value_now(&self, wire: v1::GetValueRequest) -> Result<v1::GetValueResponse, Failure> {
        let (tenant, name): (Tenant, ValueName) = named("value_id", wire.value_id)?;
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

const fn version(reply: &Reply) -> u64 {
    match reply.result {
        ReplyResult::Version { version } => version,
        // Each entry of a value is a version.
        _ => reply.seq.0,
    }
}
