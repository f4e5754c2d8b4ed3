//! What is on record of relays.

use super::Engine;
use crate::stream_service::EngineError;
use std::sync::Arc;
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{RelayStream, StreamId};
use tape_core::relay_record::RelayRecord;
use tape_core::reply::Reply;

impl Engine {
    /// Records something of a relay in a tenant.
    ///
    /// # Errors
    /// [`EngineError`] says what became of the command.
    pub async fn record(
        &self,
        stream: &RelayStream,
        command: Command<RelayCommand>,
    ) -> Result<Reply, EngineError> {
        command.request.check_ordered()?;
        command.body.check_tenant(&stream.tenant)?;
        let stream = StreamId::Relay(stream.clone());
        self.learn(self.0.relays.command(&stream, command).await)
    }

    /// What is on record of a relay in a tenant as it is now; none where nothing ever was.
    ///
    /// # Errors
    /// [`EngineError`] where it cannot be read.
    pub async fn relay_record(&self, stream: &RelayStream) -> Result<Option<Arc<RelayRecord>>, EngineError> {
        self.0.relays.state(&StreamId::Relay(stream.clone())).await
    }
}
