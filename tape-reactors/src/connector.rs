//! Connectors: what calls an upstream, asks it what happened, and undoes.

use async_trait::async_trait;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tape_core::command::AttemptOutcome;
use tape_core::effect::{Outcome, Semantics, Undo};
use tape_core::id::{BusinessKey, ConnectorName as Name, EffectId, Operation, RunId};
use tape_core::limits::TEXT_BYTES_MAX;
use tape_core::payload::Payload;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

/// Knows one upstream. Every answer says how much is known: an error that was not examined is [`AttemptOutcome::Unknown`], never a failure.
///
/// A call may be dropped at any await, as when its claim is lost; what it sent may have arrived all the same, and the journal counts
/// on that. A panic counts as a worker that vanished in mid-call.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Has the upstream act. The attempt is recorded as started before this is called.
    async fn dispatch(&self, call: &Call) -> AttemptOutcome;

    /// Asks the upstream what became of all earlier attempts, by effect key or business key. Where the call is
    /// [`unwanted`](Call::unwanted), it must not act, whatever the semantics.
    async fn observe(&self, call: &Call) -> Observation;

    /// Has the upstream undo what it did: the operation and arguments are those of the obligation, the key is the obligation's own and
    /// the same in each attempt. After an attempt that may have undone it, [`Self::observe_undo`] is asked first.
    ///
    /// # Errors
    /// [`NotUndone`] says why; it is tried again with backoff, as often as the effect's policy says, then a person must look.
    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone>;

    /// Asks the upstream whether an earlier attempt undid it, before another: found, or absent, which promises that no earlier attempt can
    /// still arrive. None where it cannot be asked: then an idempotent effect's undo is sent again under its key, and that of any
    /// other waits for a person.
    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        let _ = call;
        None
    }
}

/// One call of an upstream.
#[derive(Clone, Debug)]
pub struct Call {
    /// The run.
    pub run: RunId,
    /// The effect that is done, asked about or undone.
    pub effect: EffectId,
    /// The connector's name.
    pub connector: Name,
    /// What is asked of the upstream.
    pub operation: Operation,
    /// With which arguments.
    pub args: Payload,
    /// The idempotency key: the same in every attempt and every process. That of an undo is another than that of the effect.
    pub key: String,
    /// The business operation's own name, which an undo shares with what it undoes. None for that of a duplicate: the name
    /// stands for the act that is left.
    pub business_key: Option<BusinessKey>,
    /// What happens if the effect, or what undoes it, is sent twice.
    pub semantics: Semantics,
    /// Which attempt, observation or attempt at undoing it is, from 1.
    pub attempt: u32,
    /// Whether the run is ending and does not want the effect any more.
    pub unwanted: bool,
    /// Nobody waits for the answer any longer than this.
    pub deadline: Instant,
}

/// What an upstream says became of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It happened once.
    Found {
        /// What the upstream answered, as far as it tells.
        result: Payload,
        /// How to undo it, where that is known only now.
        undo: Option<Undo>,
    },
    /// It did not happen, and no earlier attempt can still arrive.
    Absent,
    /// It happened more than once.
    Duplicate {
        /// What the upstream answered to the one that stands.
        result: Payload,
        /// How to undo the one that stands, where that is known only now.
        undo: Option<Undo>,
        /// How to undo each of the others; with none a person must look.
        undo_duplicates: Vec<Undo>,
    },
    /// The upstream could not say.
    Inconclusive {
        /// Why, for the journal.
        why: String,
    },
    /// The upstream was not reached, and so was not asked: this observation does not count.
    Unreached {
        /// What stood in the way.
        why: String,
    },
}

impl Observation {
    /// It happened once, and this was the answer; nothing else became known.
    #[must_use]
    pub const fn found(result: Payload) -> Self {
        Self::Found { result, undo: None }
    }

    /// The upstream could not say.
    pub fn inconclusive(why: impl fmt::Display) -> Self {
        Self::Inconclusive { why: why.to_string() }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Found { .. } => Outcome::Found,
            Self::Absent => Outcome::Absent,
            Self::Duplicate { .. } => Outcome::Duplicate,
            Self::Inconclusive { .. } => Outcome::Inconclusive,
            Self::Unreached { .. } => Outcome::Unreached,
        }
    }
}

/// An attempt did not undo an effect, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUndone {
    /// This attempt undid nothing, for certain.
    #[error("{error}")]
    Retry {
        /// What went wrong.
        error: String,
    },
    /// It may be undone or not.
    #[error("{cause}")]
    Unknown {
        /// Why nobody knows.
        cause: String,
    },
    /// Nothing was sent: the upstream was not reached. It is tried again, and this attempt does not count.
    #[error("{error}")]
    Unreached {
        /// What stood in the way.
        error: String,
    },
    /// Nothing was sent, and no other attempt would be: a person must look.
    #[error("{error}")]
    Refused {
        /// Why it cannot be sent.
        error: String,
    },
}

impl NotUndone {
    /// This attempt undid nothing, for certain.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self::Retry {
            error: error.to_string(),
        }
    }

    /// It may be undone or not: what an error says that nobody looked at.
    pub fn unknown(cause: impl fmt::Display) -> Self {
        Self::Unknown {
            cause: cause.to_string(),
        }
    }
}

/// A bound on what goes on at once in one place, such as at one upstream. Clones share it.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    places: usize,
}

/// Tells limits apart, as long as they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LimitId(usize);

/// A place in a [`ConcurrencyLimit`], until it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl ConcurrencyLimit {
    /// At most so many at once, at least one.
    #[must_use]
    pub fn new(places: usize) -> Self {
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(places)),
            places,
        }
    }

    pub(crate) const fn places(&self) -> usize {
        self.places
    }

    /// What all clones have in common, and no other limit.
    pub(crate) fn id(&self) -> LimitId {
        LimitId(Arc::as_ptr(&self.free).addr())
    }

    pub(crate) fn try_enter(&self) -> Option<Place> {
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => Some(Place { _permit: permit }),
            Err(TryAcquireError::NoPermits) => None,
            Err(TryAcquireError::Closed) => unreachable!("a limit is never closed"),
        }
    }

    /// Waits for a place; who came first gets the first.
    pub(crate) async fn enter(&self) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Place {
            _permit: permit.expect("a limit is never closed"),
        }
    }
}

/// The connectors that a process has, by name, each with its own bound on calls at once. Reactors that share it share the bounds.
#[derive(Clone, Default)]
pub struct Connectors(HashMap<Name, (Arc<dyn Connector>, ConcurrencyLimit)>);

impl Connectors {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connector, of which at most `concurrency` calls are under way at once.
    #[must_use]
    pub fn with(mut self, name: Name, connector: impl Connector, concurrency: usize) -> Self {
        self.0
            .insert(name, (Arc::new(connector), ConcurrencyLimit::new(concurrency)));
        self
    }

    pub(crate) fn get(&self, name: &Name) -> Option<(Arc<dyn Connector>, ConcurrencyLimit)> {
        self.0.get(name).cloned()
    }
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A text that an entry can carry: not empty, and cut to its bound.
pub(crate) fn text(mut text: String) -> String {
    if text.is_empty() {
        text.push_str("no reason given");
    }
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
