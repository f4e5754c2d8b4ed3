//! Connectors: they call an upstream, ask it what happened, and undo effects.

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

/// The adapter to one upstream. Every answer says how much is known: an error that was not examined is [`AttemptOutcome::Unknown`], never a
/// failure.
///
/// A call may be dropped at any await, for example when its claim is lost. A request that it sent may have arrived all the same; the
/// journal allows for that. A panic counts as a worker that vanished during the call.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Lets the upstream act. The attempt is recorded as started before this call.
    async fn dispatch(&self, call: &Call) -> AttemptOutcome;

    /// Asks the upstream for the outcome of all earlier attempts, by effect key or business key. Where the call is
    /// [`unwanted`](Call::unwanted), it must not act, whatever the semantics.
    async fn observe(&self, call: &Call) -> Observation;

    /// Lets the upstream undo the effect. The operation and arguments are those of the obligation; the key is the obligation's own and the
    /// same in each attempt. After an attempt that may have undone it, [`Self::observe_undo`] is called first.
    ///
    /// # Errors
    /// [`NotUndone`] says why. The undo is retried with backoff, as often as the effect's policy says; then a person must look.
    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone>;

    /// Asks the upstream, before another attempt, whether an earlier one undid the effect: found, or absent, which promises that no earlier
    /// attempt can still arrive. None where the upstream cannot be asked: then the undo of an idempotent effect is sent again under its
    /// key, and any other waits for a person.
    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        let _ = call;
        None
    }
}

/// One call to an upstream.
#[derive(Clone, Debug)]
pub struct Call {
    /// The run.
    pub run: RunId,
    /// The effect that the call performs, observes or undoes.
    pub effect: EffectId,
    /// The connector's name.
    pub connector: Name,
    /// The operation of the upstream.
    pub operation: Operation,
    /// The arguments of the operation.
    pub args: Payload,
    /// The idempotency key: the same in every attempt and every process. An undo has another key than its effect.
    pub key: String,
    /// The name of the business operation, which an undo shares with its effect. None for the undo of a duplicate: the name stands for the
    /// act that remains.
    pub business_key: Option<BusinessKey>,
    /// What happens if the effect, or what undoes it, is sent twice.
    pub semantics: Semantics,
    /// The number of the attempt, observation or undo attempt, from 1.
    pub attempt: u32,
    /// Whether the run is ending and does not want the effect any more.
    pub unwanted: bool,
    /// The worker stops waiting for the answer at this time.
    pub deadline: Instant,
}

/// What an upstream says about the outcome of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It happened once.
    Found {
        /// The upstream's answer to the effect, as far as it reports it.
        result: Payload,
        /// How to undo it, where that is known only now.
        undo: Option<Undo>,
    },
    /// It did not happen, and no earlier attempt can still arrive.
    Absent,
    /// It happened more than once.
    Duplicate {
        /// The upstream's answer to the act that stands.
        result: Payload,
        /// How to undo the act that stands, where that is known only now.
        undo: Option<Undo>,
        /// How to undo each of the others; where this is empty a person must look.
        undo_duplicates: Vec<Undo>,
    },
    /// The upstream could not tell.
    Inconclusive {
        /// Why, for the journal.
        why: String,
    },
    /// The upstream was not reached: this observation does not count.
    Unreached {
        /// What stood in the way.
        why: String,
    },
}

impl Observation {
    /// It happened once with this answer; nothing else is known.
    #[must_use]
    pub const fn found(result: Payload) -> Self {
        Self::Found { result, undo: None }
    }

    /// The upstream could not tell.
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

/// An attempt did not undo an effect, or it is unknown whether it did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUndone {
    /// This attempt undid nothing, for certain.
    #[error("{error}")]
    Retry {
        /// What went wrong.
        error: String,
    },
    /// The effect may be undone or not.
    #[error("{cause}")]
    Unknown {
        /// Why the outcome is unknown.
        cause: String,
    },
    /// Nothing was sent: the upstream was not reached. The undo is retried, and this attempt does not count.
    #[error("{error}")]
    Unreached {
        /// What stood in the way.
        error: String,
    },
    /// Nothing was sent, and no other attempt would send anything: a person must look.
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

    /// The effect may be undone or not: for an error that was not examined.
    pub fn unknown(cause: impl fmt::Display) -> Self {
        Self::Unknown {
            cause: cause.to_string(),
        }
    }
}

/// A bound on concurrent calls in one place, such as to one upstream. Clones share it.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    places: usize,
}

/// Identifies a limit, as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LimitId(usize);

/// A place in a [`ConcurrencyLimit`], until it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl ConcurrencyLimit {
    /// A limit of `places` places, at least one.
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

    /// The identity that all clones share, and no other limit has.
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

    /// Waits for a place, first come, first served.
    pub(crate) async fn enter(&self) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Place {
            _permit: permit.expect("a limit is never closed"),
        }
    }
}

/// The connectors of a process, by name, each with its own bound on concurrent calls. Reactors that share this share the bounds.
#[derive(Clone, Default)]
pub struct Connectors(HashMap<Name, (Arc<dyn Connector>, ConcurrencyLimit)>);

impl Connectors {
    /// No connectors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connector with at most `concurrency` calls under way at once.
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

/// A text within the bounds of an entry: not empty, and cut to its bound.
pub(crate) fn text(mut text: String) -> String {
    if text.is_empty() {
        text.push_str("no reason given");
    }
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
