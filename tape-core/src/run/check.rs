//! Checks that several families share.

use crate::effect::Status;
use crate::id::EffectId;
use crate::limits::{BUDGET_UNITS_MAX, NUMBER_MAX, TEXT_BYTES_MAX};
use crate::reply::{Field, Limit, Rejection};
use crate::time::{Deadline, Timestamp};

/// Checks a text that an entry carries inline.
pub(crate) fn text(field: Field, text: &str) -> Result<(), Rejection> {
    if text.len() > TEXT_BYTES_MAX {
        let given = text.len() as u64;
        return Err(Rejection::LimitExceeded {
            limit: Limit::TextBytes,
            max: TEXT_BYTES_MAX as u64,
            given,
        });
    }
    if text.is_empty() {
        return Err(Rejection::Invalid {
            field,
            problem: "is empty".to_owned(),
        });
    }
    Ok(())
}

/// Refuses another item where `count` has reached `max`.
pub(super) fn room(limit: Limit, count: usize, max: usize) -> Result<(), Rejection> {
    if count < max {
        Ok(())
    } else {
        Err(Rejection::LimitExceeded {
            limit,
            max: max as u64,
            given: count as u64 + 1,
        })
    }
}

/// Checks an amount of a budget, or its limit.
pub(super) fn units(given: u64) -> Result<(), Rejection> {
    if given <= BUDGET_UNITS_MAX {
        return Ok(());
    }
    Err(Rejection::LimitExceeded {
        limit: Limit::BudgetUnits,
        max: BUDGET_UNITS_MAX,
        given,
    })
}

/// Checks a number of the caller's that an entry records and no other bound holds.
pub(super) fn number(what: &str, given: u64) -> Result<(), Rejection> {
    if given <= NUMBER_MAX {
        return Ok(());
    }
    Err(Rejection::Invalid {
        field: Field::Command,
        problem: format!("{what} is at most {NUMBER_MAX}, {given} was given"),
    })
}

/// The time that the caller asks for, where an entry can record it.
pub(super) fn moment(field: Field, asked: Deadline, now: Timestamp) -> Result<Timestamp, Rejection> {
    let at = asked.resolve(now);
    if at.as_micros().unsigned_abs() <= NUMBER_MAX {
        return Ok(at);
    }
    Err(Rejection::Invalid {
        field,
        problem: format!("{at} is more than {NUMBER_MAX} microseconds from 1970"),
    })
}

/// Checks the length of a lease or claim.
pub(super) fn lease_length(lease_ms: u64) -> Result<u64, Rejection> {
    use crate::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
    if (LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
        return Ok(lease_ms);
    }
    let problem = format!("{lease_ms} ms is not between {LEASE_MS_MIN} and {LEASE_MS_MAX} ms");
    Err(Rejection::Invalid {
        field: Field::LeaseLength,
        problem,
    })
}

/// Refuses a number in a stored journal that is not the one after the last.
pub(super) fn follows(what: &str, last: u32, given: u32) -> Result<(), String> {
    if last.checked_add(1) == Some(given) {
        Ok(())
    } else {
        Err(format!("{what} {given} follows {what} {last}"))
    }
}

/// The problem of a stored entry whose effect does not exist.
pub(super) fn no_effect(effect: &EffectId) -> String {
    format!("there is no effect {effect}")
}

/// The rejection for an effect that is in the wrong state.
pub(super) fn wrong_status(id: &EffectId, status: Status, attempt: u32) -> Rejection {
    Rejection::WrongStatus {
        effect: id.clone(),
        status,
        attempt,
    }
}
