//! The upstream, which processes in both languages share.

use crate::points::Points;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tape_client::CallError;
use tape_examples::acts;

/// The bank: it acts once for each key.
#[derive(Clone, Debug)]
pub(crate) struct Bank {
    ledger: PathBuf,
    points: Arc<Points>,
}

impl Bank {
    /// The bank whose acts are in the file `ledger`.
    pub(crate) fn new(ledger: impl Into<PathBuf>, points: Arc<Points>) -> Self {
        let ledger = ledger.into();
        Self { ledger, points }
    }

    /// Acts, and passes a point before it answers.
    pub(crate) async fn act(&self, operation: &str, args: &Value, key: &str) -> Result<Value, CallError> {
        acts::act(&self.ledger, operation, args, key)?;
        self.points.pass("acted");
        Ok(json!({ "done": operation }))
    }
}
