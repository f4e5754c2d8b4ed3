//! The samples of the undisturbed drive, which all drives take.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tape_core::id::{SampleName, Scope};
use tape_core::payload::Payload;

/// The first value that any drive took in each place. What an agent derives from a sample is the same in each drive then, as it is in each
/// process of one run.
#[derive(Debug, Default)]
pub(crate) struct Samples(Mutex<BTreeMap<(Scope, u32, SampleName), Payload>>);

impl Samples {
    /// The value for sample `n` of a scope, where a drive takes `taken`.
    pub(crate) fn first(&self, scope: &Scope, n: u32, name: &SampleName, taken: Payload) -> Payload {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (scope.clone(), n, name.clone());
        all.entry(place).or_insert(taken).clone()
    }
}
