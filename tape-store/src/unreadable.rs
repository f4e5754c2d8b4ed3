//! Rows of an index that this build cannot read: a newer build wrote them, or they are damaged. They are passed over, so that the other
//! rows stay available, and each is logged once.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Most rows that are remembered as logged. Beyond that, none is logged.
const LOGGED_MAX: usize = 1_024;

static LOGGED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Logs a row of an index that is passed over.
pub(crate) fn pass_over(index: &'static str, row: &str, problem: impl std::fmt::Display) {
    if is_new(format!("{index} {row}")) {
        tracing::warn!(
            index,
            row,
            %problem,
            "a row cannot be read and is passed over: a newer build wrote it, or it is damaged"
        );
    }
}

fn is_new(row: String) -> bool {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    logged.len() < LOGGED_MAX && logged.insert(row)
}

#[cfg(test)]
mod tests {
    use super::is_new;

    #[test]
    fn a_row_is_logged_once() {
        assert!(is_new("test a".to_owned()));
        assert!(is_new("test b".to_owned()));
        assert!(!is_new("test a".to_owned()));
    }
}
