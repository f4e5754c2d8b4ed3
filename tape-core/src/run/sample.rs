//! Samples: values from outside, recorded once.

use super::Run;
use crate::entry::sample::Recorded;
use crate::id::{SampleName, Scope};
use crate::payload::Payload;
use crate::reply::{Decided, Rejection};

impl Run {
    pub(super) fn record_sample(
        &self,
        scope: &Scope,
        given: u32,
        name: &SampleName,
        value: &Payload,
    ) -> Result<Decided, Rejection> {
        let next = self.scopes.get(scope).map_or(0, |state| state.samples);
        if given != next {
            return Err(Rejection::WrongSample {
                scope: scope.clone(),
                given,
                next,
            });
        }
        self.check_scope(scope)?;
        self.append(Recorded {
            scope: scope.clone(),
            n: given,
            name: name.clone(),
            value: value.clone(),
        })
    }

    pub(super) fn fold_sample(&mut self, e: &Recorded) -> Result<(), String> {
        let state = self.scopes.entry(e.scope.clone()).or_default();
        if e.n != state.samples {
            return Err(format!("it is sample {}, the next is {}", e.n, state.samples));
        }
        state.samples += 1;
        self.progress();
        Ok(())
    }
}
