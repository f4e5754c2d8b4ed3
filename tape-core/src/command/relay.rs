//! Commands of the streams of relays.

use super::CommandBody;
use crate::entry::relay::{RecordedErasure, SentEntry};
use crate::id::{Seq, StreamId, SubscriberName, Tenant};
use crate::reply::{Field, Rejection};
use serde::Serialize;

/// What can be asked of the stream of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RelayCommand {
    /// Records that the sink refused an entry for good. While that refusal stands among the last
    /// [`REFUSALS_MAX`](crate::limits::REFUSALS_MAX) and the entry was not sent again since, the same refusal returns the first one.
    Refuse {
        /// The entry.
        entry: SentEntry,
        /// How often it was sent, from 1.
        attempts: u32,
        /// Why, at most [`TEXT_BYTES_MAX`](crate::limits::TEXT_BYTES_MAX) bytes. It is erasable.
        reason: String,
    },
    /// Records that an entry that was refused was sent again, and that the sink took it.
    Redelivered {
        /// The entry of this stream that records the refusal.
        refusal: Seq,
    },
    /// Records that a subscriber erased what was erased here. While that receipt stands among the last
    /// [`RECEIPTS_MAX`](crate::limits::RECEIPTS_MAX), the same receipt returns the first one.
    Receipt {
        /// The subscriber.
        subscriber: SubscriberName,
        /// What it erased.
        erasure: RecordedErasure,
    },
}

impl RelayCommand {
    /// The stream whose entry the command is about, where it is about one of another stream.
    #[must_use]
    pub const fn about(&self) -> Option<&StreamId> {
        match self {
            Self::Refuse { entry, .. } => Some(&entry.stream),
            Self::Receipt { erasure, .. } => Some(&erasure.stream),
            Self::Redelivered { .. } => None,
        }
    }

    /// Checks that the command is for the stream of a relay in `tenant`: nothing of one tenant is on record in another.
    ///
    /// # Errors
    /// [`Rejection::Invalid`] where it is about an entry of another tenant.
    pub fn check_tenant(&self, tenant: &Tenant) -> Result<(), Rejection> {
        match self.about() {
            Some(stream) if stream.tenant() != tenant => Err(Rejection::Invalid {
                field: Field::Stream,
                problem: format!("'{stream}' is not of the tenant '{tenant}'"),
            }),
            _ => Ok(()),
        }
    }
}

impl CommandBody for RelayCommand {
    fn is_idempotent(&self) -> bool {
        false
    }
}
