//! The keys of an issuer, fetched seldom.

use crate::algorithm::Algorithm;
use crate::keys::{KID_BYTES_MAX, Keys};
use crate::refusal::Refusal;
use crate::source::{KeySource, SourceError};
use jsonwebtoken::DecodingKey;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tape_core::causes::Causes;
use tape_environment::Environment;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::warn;

/// Keys older than this are fetched again before one of them is used, so that a key that the issuer has withdrawn is refused soon.
pub const KEYS_AGE_MAX: Duration = Duration::from_hours(1);

/// While they cannot be fetched, keys are used up to this age. Without a bound, a withdrawn key would stay valid for an attacker who
/// keeps the issuer out of reach.
pub const KEYS_STALE_MAX: Duration = Duration::from_hours(24);

/// Keys are fetched at most once in this long, whatever tokens are shown.
pub const REFETCH_PAUSE: Duration = Duration::from_secs(30);

/// The keys of an issuer. A token whose key id is not known leads to another look at the source, at most one in [`REFETCH_PAUSE`]; so does
/// any token once the keys are older than [`KEYS_AGE_MAX`]. Where the source fails, the keys are used on, up to [`KEYS_STALE_MAX`].
#[derive(Debug)]
pub struct KeyCache {
    source: Arc<dyn KeySource>,
    environment: Arc<dyn Environment>,
    known: RwLock<Option<Known>>,
    /// When the source was asked the last time. Held while it is asked, so that one caller asks.
    asked: Arc<Mutex<Option<Asked>>>,
}

#[derive(Clone, Debug)]
struct Known {
    keys: Arc<Keys>,
    fetched: Duration,
}

#[derive(Clone, Debug)]
struct Asked {
    at: Duration,
    error: Option<Arc<SourceError>>,
}

impl KeyCache {
    /// The keys of a source, which is not asked before the first token.
    #[must_use]
    pub fn new(source: Arc<dyn KeySource>, environment: Arc<dyn Environment>) -> Self {
        Self {
            source,
            environment,
            known: RwLock::new(None),
            asked: Arc::new(Mutex::new(None)),
        }
    }

    /// The key with an id that signs by an algorithm.
    pub(crate) async fn key(
        self: &Arc<Self>,
        id: &str,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, Refusal> {
        if id.len() > KID_BYTES_MAX {
            return Err(Refusal::UnknownKey);
        }
        let find = |known: &Known| known.keys.find(id, algorithm).cloned();
        let stale = self.known_up_to(KEYS_STALE_MAX).as_ref().and_then(find);
        let asked = match &stale {
            Some(key) if self.known_up_to(KEYS_AGE_MAX).is_some() => return Ok(key.clone()),
            // One caller looks for newer keys; the others need not wait for it.
            Some(key) => match Arc::clone(&self.asked).try_lock_owned() {
                Ok(asked) => asked,
                Err(_) => return Ok(key.clone()),
            },
            None => Arc::clone(&self.asked).lock_owned().await,
        };
        let failed = self.ask(asked).await;
        let known = self.known_up_to(KEYS_STALE_MAX);
        match (known.as_ref().and_then(find), failed) {
            (Some(key), _) => Ok(key),
            (None, Some(error)) => Err(Refusal::KeysUnavailable(error)),
            (None, None) => Err(Refusal::UnknownKey),
        }
    }

    /// Asks the source for keys, unless it was asked a moment ago. Returns why there were none the last time. A caller that gives up, such
    /// as a peer that closes its connection, does not break off the call: otherwise such callers could keep the keys from everyone.
    async fn ask(self: &Arc<Self>, mut asked: OwnedMutexGuard<Option<Asked>>) -> Option<Arc<SourceError>> {
        if let Some(asked) = asked.as_ref()
            && self.age(asked.at) < REFETCH_PAUSE
        {
            return asked.error.clone();
        }
        let cache = Arc::clone(self);
        let at = self.environment.elapsed();
        let task = tokio::spawn(async move {
            let error = cache.fetch(at).await.err().map(Arc::new);
            *asked = Some(Asked {
                at,
                error: error.clone(),
            });
            error
        });
        task.await
            .unwrap_or_else(|error| Some(Arc::new(SourceError::Unreachable(error.into()))))
    }

    async fn fetch(&self, at: Duration) -> Result<(), SourceError> {
        let fetched = self.source.fetch().await;
        let keys = fetched.and_then(|document| Keys::parse(&document));
        let keys = keys.inspect_err(|error| {
            warn!(error = %Causes(error), "the keys that verify identity tokens cannot be fetched");
        })?;
        let keys = Arc::new(keys);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Known { keys, fetched: at });
        Ok(())
    }

    /// The known keys, unless they are older.
    fn known_up_to(&self, age: Duration) -> Option<Known> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone().filter(|known| self.age(known.fetched) <= age)
    }

    fn age(&self, since: Duration) -> Duration {
        self.environment.elapsed().saturating_sub(since)
    }
}
