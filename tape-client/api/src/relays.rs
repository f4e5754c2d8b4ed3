//! Relays as a journal sees them: where each is in the feed, which process carries it, and what is on record of it.

use crate::error::JournalError;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tape_core::command::{Command, RelayCommand};
use tape_core::id::{Epoch, Holder, RelayId, RelayPart, RelayStream, Tenant};
use tape_core::relay::{Held, NotMoved, Place, Progress};
use tape_core::reply::Reply;
use tape_core::time::Timestamp;

/// The part of a journal that keeps the places of relays, and records what they report.
///
/// The place of a part is changed by one process at a time: by the holder of its lease, under the epoch that its claim gave it. No call about a
/// place has a request id, since each may be repeated: a claim of the same holder gives a new epoch, and a move under the present epoch puts
/// the place where it says.
///
/// # Errors
/// Those of [`Journal`](crate::Journal). [`JournalError::Invalid`] names what is out of bounds: a lease that is not 100 ms to an hour long, a
/// reason, a cursor of a shard that the journal does not have, or more than a part may keep.
#[async_trait]
pub trait Relays: Send + Sync {
    /// Claims a part for a process until the lease ends. Moves renew it. The first claim of a part makes its place.
    ///
    /// [`JournalError::Invalid`]: the feed has no shard of that number. [`JournalError::Rejected`]: the tenant has
    /// [`RELAYS_MAX`](tape_core::limits::RELAYS_MAX) other relays that have a place.
    async fn claim(
        &self,
        part: &RelayPart,
        holder: &Holder,
        lease: Duration,
    ) -> Result<ClaimAnswer, JournalError>;

    /// Records the progress of a part and renews the lease of its holder. Sent again after an answer was lost, it counts the same events
    /// again; the place is the same.
    async fn advance(
        &self,
        part: &RelayPart,
        epoch: Epoch,
        progress: Progress,
        lease: Duration,
    ) -> Result<MoveAnswer, JournalError>;

    /// Gives a part back, so that another process may claim it at once. Nothing happens where it is another's by now.
    async fn release(&self, part: &RelayPart, epoch: Epoch) -> Result<(), JournalError>;

    /// A page of the parts of relays, in the order of their names.
    async fn places(
        &self,
        query: &PlaceQuery,
        from: Option<&str>,
        limit: u32,
    ) -> Result<PlacePage, JournalError>;

    /// Does something to all parts of a relay. Processes that carry them notice with their next move. A part whose record cannot be read is
    /// reported and left as it is, except that it can be forgotten.
    async fn control(&self, relay: &RelayId, control: &Control) -> Result<Controlled, JournalError>;

    /// Removes a record that cannot be read, by the name that [`PlacePage::unreadable`] has. Where it is of a relay,
    /// [`Control::Forget`] removes it, too. Returns whether there was one.
    ///
    /// [`JournalError::Invalid`]: it is no record of a relay, or it can be read.
    async fn forget_record(&self, name: &str) -> Result<bool, JournalError>;

    /// Records something of a relay in the stream that it has in a tenant. The reply names the entry that says it: the first, where the same is
    /// on record already.
    async fn record(
        &self,
        stream: &RelayStream,
        command: Command<RelayCommand>,
    ) -> Result<Reply, JournalError>;
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The part is the caller's.
    Claimed {
        /// The epoch for moves.
        epoch: Epoch,
        /// Where the part is.
        place: Box<Place>,
    },
    /// It is not.
    Held(Held),
}

/// The answer to a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAnswer {
    /// The place is moved, durably.
    Moved,
    /// It is not.
    NotMoved(NotMoved),
}

/// Which relays to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceQuery {
    /// All of them: those of each tenant, and those of all tenants.
    All,
    /// Those of a tenant.
    Tenant(Tenant),
    /// One.
    Relay(RelayId),
}

/// A page of the parts of relays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacePage {
    /// The parts.
    pub parts: Vec<PartStatus>,
    /// Records that cannot be read, by name, and why: a newer build wrote them, or they are damaged.
    pub unreadable: Vec<(String, String)>,
    /// Where the next page begins; none at the end.
    pub next: Option<String>,
}

/// Where a part of a relay is, and how far behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    /// The part.
    pub part: RelayPart,
    /// Its place.
    pub place: Place,
    /// For how long its holder has it yet, in milliseconds of the journal's time; zero where no process has it.
    pub left_ms: u64,
    /// What it has not passed yet; or why that is not known, for people: the store refuses its cursor, or cannot be read there.
    pub lag: Result<Lag, String>,
}

/// What a part has not passed yet, as far as was looked: the first [`LAG_ENTRIES_MAX`] entries behind its cursors, of all tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// How many of the entries that were looked at are of its tenant, or of any, whatever its filter chooses.
    pub entries: u64,
    /// Whether there are entries behind those that were looked at. Then the part has not passed `entries` at least, which may be none.
    pub is_more: bool,
    /// When the first of them was written; none where none was found.
    pub oldest: Option<Timestamp>,
    /// For how long that one has waited, in milliseconds of the journal's time.
    pub millis: u64,
}

/// How many entries are looked at for the lag of a part, or one of each shard where that is more.
pub const LAG_ENTRIES_MAX: u64 = 10_000;

/// What to do to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Stop it, until [`Control::Enable`].
    Disable {
        /// Why, for people; from 1 to [`TEXT_BYTES_MAX`](tape_core::limits::TEXT_BYTES_MAX) bytes.
        reason: String,
    },
    /// Let it go on from where it stopped.
    Enable,
    /// Put it at the beginning of the feed: it sends everything again. Shards that a part has not begun yet are put there as well: of a relay
    /// that has one part, number 0, all shards; of others the shard with the number of the part.
    ToBeginning,
    /// Put it at the end of the feed: it sends nothing of what it has not sent yet. For the same shards.
    ToEnd,
    /// Put shards that it has begun at other places, which are cursors of this journal. The others stay.
    To(BTreeMap<u16, Bytes>),
    /// Forget that it ever was. One of its name begins anew.
    Forget,
}

/// To how many parts a [`Control`] was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controlled {
    /// The parts; none where no process has claimed one yet.
    pub parts: u64,
    /// Records of the relay that cannot be read, by name, and why. They are as before. The first [`UNREADABLE_MAX`] of them.
    pub unreadable: Vec<(String, String)>,
}

/// How many records that cannot be read a [`Control`] reports.
pub const UNREADABLE_MAX: usize = 64;
