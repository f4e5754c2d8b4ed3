//! Values behind a server.

use super::{Remote, message_bytes_max, messages};
use crate::backend::{Failure, Transition, Versioned};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tape_core::id::{Seq, Tenant, ValueName};
use tape_core::reply::{Rejection, Reply, ReplyResult};
use tape_core::time::Timestamp;
use tape_proto::convert::{ValueChange, ValueRequest};
use tape_proto::failure::Failure as Wire;
use tape_proto::v1;
use tape_proto::v1::values_client::ValuesClient;
use tonic::transport::Channel;

impl Remote {
    fn values(&self) -> ValuesClient<Channel> {
        ValuesClient::new(self.link.channel()).max_decoding_message_size(message_bytes_max())
    }

    pub(super) async fn ask_value(&self, change: ValueChange) -> Result<Reply, Failure> {
        let changed = match change.into() {
            ValueRequest::Put(request) => {
                let request = tape_proto::fitting(request).map_err(Wire::from)?;
                self.values().put(request).await?
            }
            ValueRequest::Delete(request) => self.values().delete(request).await?,
        };
        // Where the change stands in the value's own journal is not told; its version is.
        let version = changed.into_inner().version;
        Ok(Reply {
            seq: Seq::ZERO,
            result: ReplyResult::Version { version },
        })
    }

    pub(super) async fn read_value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, Failure> {
        let request = v1::GetValueRequest {
            value_id: Some((tenant.clone(), name.clone()).into()),
        };
        let state = match self.values().get(request).await.map_err(Failure::from) {
            Ok(state) => state.into_inner(),
            Err(Failure::Rejected(Rejection::NotFound { .. })) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let value = state
            .value
            .map(TryInto::try_into)
            .transpose()
            .map_err(Wire::from)?;
        Ok((state.version > 0).then_some(Versioned {
            version: state.version,
            value,
        }))
    }

    pub(super) fn watch_value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
        after: u64,
    ) -> BoxStream<'static, Result<Transition, Failure>> {
        let value_id = Some((tenant.clone(), name.clone()).into());
        let request = v1::WatchValueRequest {
            value_id,
            after_version: after,
        };
        let mut values = self.values();
        let opening = async move { Ok(values.watch(request).await?.into_inner()) };
        messages(opening).map(|change| transition(change?)).boxed()
    }
}

fn transition(change: v1::WatchValueResponse) -> Result<Transition, Failure> {
    Ok(Transition {
        version: change.version,
        value: change
            .value
            .map(TryInto::try_into)
            .transpose()
            .map_err(Wire::from)?,
        previous: change
            .previous
            .map(TryInto::try_into)
            .transpose()
            .map_err(Wire::from)?,
        at: Timestamp::from_micros(change.at_us),
    })
}
