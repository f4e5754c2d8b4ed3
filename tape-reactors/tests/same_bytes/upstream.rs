//! A bank that is asked for transfers: it acts once per key, takes its time, and its answers get lost, by chance.

use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tape_core::command::AttemptOutcome;
use tape_core::payload::Payload;
use tape_environment::Environment;
use tape_reactors::{Call, Connector, NotUndone, Observation};

/// The longest that an answer takes.
const TAKES_MAX: Duration = Duration::from_secs(2);

/// Clones are the same bank.
#[derive(Clone, Debug)]
pub(crate) struct Bank {
    environment: Arc<dyn Environment>,
    transfers: Arc<Mutex<BTreeSet<String>>>,
    undone: Arc<Mutex<BTreeSet<String>>>,
}

/// What becomes of a call.
enum Luck {
    Acts,
    /// It acts, and the answer is lost.
    ActsUnseen,
    DoesNothing,
}

impl Bank {
    pub(crate) fn new(environment: Arc<dyn Environment>) -> Self {
        Self {
            environment,
            transfers: Arc::default(),
            undone: Arc::default(),
        }
    }

    async fn luck(&self) -> Luck {
        tokio::time::sleep(TAKES_MAX.mul_f64(self.environment.chance())).await;
        match self.environment.chance() {
            chance if chance < 0.2 => Luck::ActsUnseen,
            chance if chance < 0.3 => Luck::DoesNothing,
            _ => Luck::Acts,
        }
    }
}

fn receipt(key: &str) -> Payload {
    Payload::json(&json!({ "receipt": key }))
}

fn observed(there: bool, key: &str) -> Observation {
    if there {
        Observation::found(receipt(key))
    } else {
        Observation::Absent
    }
}

#[async_trait]
impl Connector for Bank {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        let luck = self.luck().await;
        if matches!(luck, Luck::DoesNothing) {
            return AttemptOutcome::unknown("the bank did not answer");
        }
        self.transfers.lock().unwrap().insert(call.key.clone());
        match luck {
            Luck::ActsUnseen => AttemptOutcome::unknown("the answer was lost"),
            _ => AttemptOutcome::confirmed(receipt(&call.key)),
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        match self.luck().await {
            Luck::DoesNothing => Observation::inconclusive("the bank did not answer"),
            _ => observed(self.transfers.lock().unwrap().contains(&call.key), &call.key),
        }
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        let luck = self.luck().await;
        if matches!(luck, Luck::DoesNothing) {
            return Err(NotUndone::unknown("the bank did not answer"));
        }
        self.undone.lock().unwrap().insert(call.key.clone());
        match luck {
            Luck::ActsUnseen => Err(NotUndone::unknown("the answer was lost")),
            _ => Ok(receipt(&call.key)),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        Some(observed(
            self.undone.lock().unwrap().contains(&call.key),
            &call.key,
        ))
    }
}
