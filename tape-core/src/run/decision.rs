//! Decisions: each position is answered once.

use super::Run;
use super::check::{number, room};
use crate::budget::Spend;
use crate::command::RecordDecision;
use crate::entry::decision::{Recorded, Usage};
use crate::id::{Position, Scope};
use crate::limits::{FINGERPRINT_PARTS_MAX, FINGERPRINT_PREVIEW_BYTES_MAX, NAME_BYTES_MAX, SCOPES_MAX};
use crate::reply::{Decided, Limit, Rejection};
use serde::{Deserialize, Serialize};

/// How far a scope is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ScopeState {
    pub(super) decisions: u32,
    pub(super) samples: u32,
}

impl Run {
    /// The position of the next decision of a scope.
    #[must_use]
    pub fn next_position(&self, scope: &Scope) -> Position {
        let k = self.scopes.get(scope).map_or(0, |state| state.decisions);
        Position {
            scope: scope.clone(),
            k,
        }
    }

    /// Whether a position is that of the newest decision of its scope.
    pub(super) fn is_newest(&self, position: &Position) -> bool {
        position.k.checked_add(1) == Some(self.next_position(&position.scope).k)
    }

    pub(super) fn record_decision(&self, decision: &RecordDecision) -> Result<Decided, Rejection> {
        self.check_position(&decision.position)?;
        check_decision(decision)?;
        check_usage(decision.usage)?;
        self.check_spends(&decision.spent)?;
        self.append(Recorded {
            position: decision.position.clone(),
            fingerprint: decision.fingerprint.clone(),
            response: decision.response.clone(),
            model: decision.model.clone(),
            usage: decision.usage,
            rationale: decision.rationale.clone(),
            policy_version: decision.policy_version.clone(),
            spent: decision.spent.clone(),
        })
    }

    /// Refuses a position that is not the next of its scope, and a new scope over the limit.
    pub(super) fn check_position(&self, given: &Position) -> Result<(), Rejection> {
        let next = self.next_position(&given.scope);
        if *given != next {
            return Err(Rejection::WrongPosition {
                given: given.clone(),
                next,
            });
        }
        self.check_scope(&given.scope)
    }

    pub(super) fn check_scope(&self, scope: &Scope) -> Result<(), Rejection> {
        if self.scopes.contains_key(scope) {
            Ok(())
        } else {
            room(Limit::Scopes, self.scopes.len(), SCOPES_MAX)
        }
    }

    pub(super) fn fold_decision(&mut self, e: &Recorded) -> Result<(), String> {
        let next = self.next_position(&e.position.scope);
        if e.position != next {
            return Err(format!("it is at {}, the next position is {next}", e.position));
        }
        self.scopes.entry(next.scope).or_default().decisions += 1;
        self.progress();
        self.settle_reservation(&e.position, &e.spent);
        // Settled effects of earlier decisions of the scope cannot be asked about again.
        self.effects.retain(|id, effect| {
            let earlier = id.position.scope == e.position.scope && id.position.k < e.position.k;
            !(earlier && effect.status.is_settled())
        });
        Ok(())
    }

    fn settle_reservation(&mut self, position: &Position, spent: &[Spend]) {
        self.fold_reservation_released(position);
        self.charge(spent);
    }
}

fn check_usage(usage: Usage) -> Result<(), Rejection> {
    number("the usage of input tokens", usage.input_tokens)?;
    number("the usage of output tokens", usage.output_tokens)?;
    number("the usage's cost", usage.cost_micro_usd)
}

fn check_decision(decision: &RecordDecision) -> Result<(), Rejection> {
    let over = |limit, max: usize, given: usize| Rejection::LimitExceeded {
        limit,
        max: max as u64,
        given: given as u64,
    };
    let names = [decision.model.len(), decision.policy_version.len()];
    if let Some(given) = names.into_iter().find(|len| *len > NAME_BYTES_MAX) {
        return Err(over(Limit::ModelNameBytes, NAME_BYTES_MAX, given));
    }
    let parts = &decision.fingerprint.parts;
    if parts.len() > FINGERPRINT_PARTS_MAX {
        return Err(over(Limit::FingerprintParts, FINGERPRINT_PARTS_MAX, parts.len()));
    }
    let texts = parts
        .iter()
        .flat_map(|part| [&part.name, &part.digest, &part.preview]);
    match texts
        .map(String::len)
        .find(|len| *len > FINGERPRINT_PREVIEW_BYTES_MAX)
    {
        Some(given) => Err(over(
            Limit::FingerprintTextBytes,
            FINGERPRINT_PREVIEW_BYTES_MAX,
            given,
        )),
        None => Ok(()),
    }
}
