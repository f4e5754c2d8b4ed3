//! An upstream that honours idempotency keys, and loses a message where the kit says so.

use super::disturbance::Disturbance;
use crate::effect::{Call, CallError};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The upstream that an agent under test acts on: one act for each key, however often it is called. Clones are the same upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    disturbance: Disturbance,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    calls: u32,
    acts: BTreeMap<String, Value>,
}

impl Upstream {
    pub(super) fn new(disturbance: Disturbance) -> Self {
        Self {
            disturbance,
            kept: Arc::default(),
        }
    }

    /// Acts, unless it has acted under the call's key before: then it returns the earlier answer. `act` returns the act and answer as JSON.
    ///
    /// # Errors
    /// [`CallError::Unknown`] where the kit loses the call or its answer, or the answer has no JSON form.
    pub async fn act<T: Serialize>(&self, call: &Call, act: impl FnOnce() -> T) -> Result<Value, CallError> {
        // A process can die while the request is on its way, and while the answer is.
        tokio::task::yield_now().await;
        let n = self.count();
        if self.disturbance == Disturbance::CallLost(n) {
            return Err(CallError::unknown("the call was lost"));
        }
        let answer = self.acted(call.key(), act)?;
        if self.disturbance == Disturbance::CallAnswerLost(n) {
            return Err(CallError::unknown("the answer was lost"));
        }
        tokio::task::yield_now().await;
        Ok(answer)
    }

    fn acted<T: Serialize>(&self, key: &str, act: impl FnOnce() -> T) -> Result<Value, CallError> {
        if let Some(answer) = self.kept().acts.get(key) {
            return Ok(answer.clone());
        }
        let answer = serde_json::to_value(act()).map_err(CallError::unknown)?;
        self.kept().acts.insert(key.to_owned(), answer.clone());
        Ok(answer)
    }

    fn count(&self) -> u32 {
        let mut kept = self.kept();
        kept.calls += 1;
        kept.calls
    }

    /// Calls so far.
    pub(super) fn calls(&self) -> u32 {
        self.kept().calls
    }

    /// The acts, by key.
    pub(super) fn acts(&self) -> BTreeMap<String, Value> {
        self.kept().acts.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
