//! Relays, for the tools of operators: where they are, and what their subscribers confirmed.

use crate::client::Tape;
use crate::error::Error;
use crate::retry::until_answered;
use tape_api::argument::check_reason;
use tape_api::relays::{Control, Controlled, PlacePage, PlaceQuery};
use tape_core::command::RelayCommand;
use tape_core::entry::relay::RecordedErasure;
use tape_core::id::{RelayId, RelayStream, Seq, SubscriberName};

impl Tape {
    /// Lists the parts of relays, in the order of their names, a page of at most `limit` at a time: 16 for zero, 64 at most.
    ///
    /// # Errors
    /// As [`Tape::runs`]. A part whose place cannot be read is in the page as such.
    pub async fn relay_places(
        &self,
        query: &PlaceQuery,
        page: Option<String>,
        limit: u32,
    ) -> Result<PlacePage, Error> {
        until_answered(self.tries(), || {
            self.journal.relays().places(query, page.as_deref(), limit)
        })
        .await
    }

    /// Stops a relay, lets it go on, puts it elsewhere or forgets it. Returns to how many parts that was done, and which could not be
    /// read.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no reason or it is too long, or where a cursor is none of this journal; [`Error::Unavailable`] where
    /// the journal is out of reach.
    pub async fn control_relay(&self, relay: &RelayId, control: &Control) -> Result<Controlled, Error> {
        if let Control::Disable { reason } = control {
            // Here it has a name of its own in the error.
            check_reason(reason).map_err(|wrong| Error::invalid(wrong.what, wrong.problem))?;
        }
        until_answered(self.tries(), || self.journal.relays().control(relay, control)).await
    }

    /// Removes the record of a part of a relay that cannot be read. Returns whether there was one.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is no record of a relay, or can be read; [`Error::Unavailable`] where the journal is out of reach.
    pub async fn forget_relay_record(&self, name: &str) -> Result<bool, Error> {
        until_answered(self.tries(), || self.journal.relays().forget_record(name)).await
    }

    /// Records that a subscriber of a relay erased what was erased here. Returns the entry that says so: the first, where that is on record
    /// already.
    ///
    /// # Errors
    /// [`Error::Rejected`] where the erasure is of another tenant than the stream, or of the stream of a relay.
    pub async fn record_receipt(
        &self,
        relay: &RelayStream,
        subscriber: SubscriberName,
        erasure: RecordedErasure,
    ) -> Result<Seq, Error> {
        let command = self.stamp(RelayCommand::Receipt { subscriber, erasure });
        let send = |command| self.journal.relays().record(relay, command);
        Ok(self.execute(command, send).await?.seq)
    }
}
