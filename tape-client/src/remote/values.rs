//! Values behind a server.

use super::answer::{Silence, messages};
use super::failure::failed;
use super::{Remote, message_bytes_max};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tape_api::JournalError;
use tape_api::query::{Transition, Versioned};
use tape_core::id::{Seq, Tenant, ValueName};
use tape_core::reply::{Rejection, Reply, ReplyResult};
use tape_core::time::Timestamp;
use tape_proto::convert::{ValueChange, ValueRequest};
use tape_proto::v1;
use tape_proto::v1::value_service_client::ValueServiceClient;
use tonic::transport::Channel;

fn values(channel: Channel) -> ValueServiceClient<Channel> {
    ValueServiceClient::new(channel).max_decoding_message_size(message_bytes_max())
}

impl Remote {
    pub(super) async fn ask_value(&self, change: ValueChange) -> Result<Reply, JournalError> {
        let version = match change.into() {
            ValueRequest::Put(request) => {
                let request = tape_proto::fitting(request).map_err(failed)?;
                let put = |channel| async move { values(channel).put_value(request).await };
                self.link.ask(put).await?.version
            }
            ValueRequest::Delete(request) => {
                let delete = |channel| async move { values(channel).delete_value(request).await };
                self.link.ask(delete).await?.version
            }
        };
        // The answer has the version of the change, not its entry.
        Ok(Reply {
            seq: Seq::ZERO,
            result: ReplyResult::Version { version },
        })
    }

    pub(super) async fn read_value(
        &self,
        tenant: &Tenant,
        name: &ValueName,
    ) -> Result<Option<Versioned>, JournalError> {
        let request = v1::GetValueRequest {
            value_id: Some((tenant.clone(), name.clone()).into()),
        };
        let get = |channel| async move { values(channel).get_value(request).await };
        let state = match self.link.ask(get).await {
            Ok(state) => state,
            Err(JournalError::Rejected(Rejection::NotFound { .. })) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let value = state.value.map(TryInto::try_into).transpose().map_err(failed)?;
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
    ) -> BoxStream<'static, Result<Transition, JournalError>> {
        let value_id = Some((tenant.clone(), name.clone()).into());
        let request = v1::WatchValueRequest {
            value_id,
            after_version: after,
        };
        let watch = |channel| async move { values(channel).watch_value(request).await };
        messages(&self.link, Silence::NoNews, watch)
            .map(|change| transition(change?))
            .boxed()
    }
}

fn transition(change: v1::WatchValueResponse) -> Result<Transition, JournalError> {
    Ok(Transition {
        version: change.version,
        value: change.value.map(TryInto::try_into).transpose().map_err(failed)?,
        erased: change.erased,
        previous: change
            .previous
            .map(TryInto::try_into)
            .transpose()
            .map_err(failed)?,
        at: Timestamp::from_micros(change.at_us),
    })
}
