//! An upstream that honours idempotency keys, and loses a message where the kit says so.

use super::course::Course;
use super::disturbance::Disturbance;
use crate::effect::{Call, CallError};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The upstream that an agent under test acts on: one act for each key, however often it is called. Clones are the same upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    course: Arc<Course>,
    acts: Arc<Mutex<BTreeMap<String, Value>>>,
}

impl Upstream {
    pub(super) fn new(course: Arc<Course>) -> Self {
        Self {
            course,
            acts: Arc::default(),
        }
    }

    /// Acts, unless it has acted under the call's key before: then it returns the earlier answer. `act` returns the act and answer as JSON.
    ///
    /// # Errors
    /// [`CallError::Unknown`] where the kit loses the call or its answer, or the answer has no JSON form.
    pub async fn act<T: Serialize>(&self, call: &Call, act: impl FnOnce() -> T) -> Result<Value, CallError> {
        // A process can die while the request is on its way, and while the answer is.
        tokio::task::yield_now().await;
        let disturbance = self.course.call();
        if matches!(disturbance, Disturbance::CallLost(_)) {
            return Err(CallError::unknown("the call was lost"));
        }
        let answer = self.acted(call.key(), act)?;
        if matches!(disturbance, Disturbance::CallAnswerLost(_)) {
            return Err(CallError::unknown("the answer was lost"));
        }
        tokio::task::yield_now().await;
        Ok(answer)
    }

    fn acted<T: Serialize>(&self, key: &str, act: impl FnOnce() -> T) -> Result<Value, CallError> {
        if let Some(answer) = self.kept().get(key) {
            return Ok(answer.clone());
        }
        let answer = serde_json::to_value(act()).map_err(CallError::unknown)?;
        self.kept().insert(key.to_owned(), answer.clone());
        Ok(answer)
    }

    /// The acts, by key.
    pub(super) fn acts(&self) -> BTreeMap<String, Value> {
        self.kept().clone()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
