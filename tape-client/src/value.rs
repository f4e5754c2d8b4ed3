//! Values: named, versioned, watchable.

use crate::client::Tape;
use crate::error::Error;
use crate::retry::until_answered;
use futures::stream::{BoxStream, StreamExt as _};
use tape_api::query::{Transition, Versioned};
use tape_core::command::ValueCommand;
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Payload;
use tape_core::reply::ReplyResult;

/// A value that a tenant's agents share. Each change raises its version by one, deletion too.
#[derive(Clone, Debug)]
pub struct Value {
    tape: Tape,
    tenant: Tenant,
    name: ValueName,
}

impl Value {
    pub(crate) const fn new(tape: Tape, tenant: Tenant, name: ValueName) -> Self {
        Self { tape, tenant, name }
    }

    /// The value as it is now; none where it was never set. A deleted value has a version, and no payload.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn get(&self) -> Result<Option<Versioned>, Error> {
        let journal = &self.tape.journal;
        until_answered(self.tape.tries(), || {
            journal.value_state(&self.tenant, &self.name)
        })
        .await
    }

    /// Sets it, whatever its current version. Returns its version.
    ///
    /// # Errors
    /// As any call that writes.
    pub async fn put(&self, value: Payload) -> Result<u64, Error> {
        self.command(ValueCommand::Put {
            value,
            expected: None,
        })
        .await
    }

    /// Sets it if it has the version `expected`: that which [`Value::get`] tells, also of a deleted value, and zero where it was never set.
    /// Returns its new version.
    ///
    /// # Errors
    /// [`Error::Rejected`] with [`VersionConflict`](tape_core::reply::Rejection::VersionConflict) where it has another.
    pub async fn compare_and_set(&self, expected: u64, value: Payload) -> Result<u64, Error> {
        self.command(ValueCommand::Put {
            value,
            expected: Some(expected),
        })
        .await
    }

    /// Deletes it, in any case or only at a version. Returns the version of its tombstone.
    ///
    /// # Errors
    /// [`Error::Rejected`] where it has another version, or there is none.
    pub async fn delete(&self, expected: Option<u64>) -> Result<u64, Error> {
        self.command(ValueCommand::Delete { expected }).await
    }

    /// Each change after the version `after`, once and in order, including future ones.
    pub fn watch(&self, after: u64) -> BoxStream<'static, Result<Transition, Error>> {
        let changes = self.tape.journal.watch(&self.tenant, &self.name, after);
        changes.map(|change| change.map_err(Error::from)).boxed()
    }

    async fn command(&self, body: ValueCommand) -> Result<u64, Error> {
        let command = self.tape.stamp(body);
        let send = |command| self.tape.journal.value(&self.tenant, &self.name, command);
        let reply = self.tape.execute(command, send).await?;
        match reply.result {
            ReplyResult::Version { version } => Ok(version),
            other => Err(Error::unexpected("the change of a value", &other)),
        }
    }
}
