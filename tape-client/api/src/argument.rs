//! The checks of arguments, once for every journal and for the server: how long a page is, where it begins, and what a reason is.
//!
//! Pages follow Google's AIP-158: a page of size zero has the usual size, and one that is larger than the largest has the largest.

use crate::error::JournalError;
use std::time::Duration;
use tape_core::limits::{
    INDEX_PAGE_MAX, LEASE_MS_MIN, PAGE_ENTRIES_MAX, RELAY_LEASE_MS_MAX, RETIRED_PER_PAGE_MAX,
    STATES_PER_PAGE_MAX, TEXT_BYTES_MAX,
};

/// An argument that no journal takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct InvalidArgument {
    /// Which: the name of its field.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl From<InvalidArgument> for JournalError {
    fn from(invalid: InvalidArgument) -> Self {
        Self::Invalid(invalid.to_string())
    }
}

/// The sizes that the pages of a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The size where the caller leaves it to the journal.
    pub usual: u32,
    /// The largest.
    pub max: u32,
}

/// Pages of runs.
pub const RUNS: PageSize = PageSize::up_to(PAGE_ENTRIES_MAX);
/// Pages of sessions: how many names a page looks at.
pub const SESSIONS: PageSize = PageSize::up_to(STATES_PER_PAGE_MAX);
/// Pages of values: how many names a page looks at.
pub const VALUES: PageSize = PageSize::up_to(STATES_PER_PAGE_MAX);
/// Pages of open gates. The gates of one run are on one page, so a page of one run may have more.
pub const GATES: PageSize = PageSize::up_to(STATES_PER_PAGE_MAX);
/// Pages of the entries of a run.
pub const ENTRIES: PageSize = PageSize::up_to(PAGE_ENTRIES_MAX);
/// Pages of the events of a session.
pub const EVENTS: PageSize = PageSize::up_to(PAGE_ENTRIES_MAX);
/// Pages of due work, of each shard.
pub const DUE: PageSize = PageSize::up_to(PAGE_ENTRIES_MAX);
/// Pages of the parts of relays. The lag of each is counted, so there are few on a page.
pub const PLACES: PageSize = PageSize { usual: 16, max: 64 };
/// Pages of streams, and of indexes that are compared with them.
pub const STREAMS: PageSize = PageSize::whole(INDEX_PAGE_MAX);
/// Pages of runs that are looked at to be retired.
pub const RETIRED: PageSize = PageSize::whole(RETIRED_PER_PAGE_MAX);

/// The usual size of a page of which a caller may ask for thousands.
const USUAL: u32 = 100;

impl PageSize {
    const fn up_to(max: u32) -> Self {
        Self { usual: USUAL, max }
    }

    const fn whole(max: u32) -> Self {
        Self { usual: max, max }
    }

    /// The size of a page for which `asked` were asked: the usual one for zero, and the largest at most.
    #[must_use]
    pub const fn of(self, asked: u32) -> u32 {
        match asked {
            0 => self.usual,
            asked if asked > self.max => self.max,
            asked => asked,
        }
    }
}

/// The token of a page; none for the first, which an empty token stands for, too.
#[must_use]
pub fn token(given: Option<&str>) -> Option<&str> {
    given.filter(|token| !token.is_empty())
}

/// Checks a reason, which the record must have.
///
/// # Errors
/// [`InvalidArgument`] where it is empty or longer than [`TEXT_BYTES_MAX`] bytes.
pub fn check_reason(reason: &str) -> Result<(), InvalidArgument> {
    check_text("reason", reason)
}

/// Checks why a relay stops itself.
///
/// # Errors
/// As [`check_reason`].
pub fn check_disable(reason: &str) -> Result<(), InvalidArgument> {
    check_text("disable", reason)
}

fn check_text(what: &'static str, text: &str) -> Result<(), InvalidArgument> {
    if (1..=TEXT_BYTES_MAX).contains(&text.len()) {
        return Ok(());
    }
    Err(InvalidArgument {
        what,
        problem: format!("has {} bytes, not 1 to {TEXT_BYTES_MAX}", text.len()),
    })
}

/// The milliseconds of the lease of a relay.
///
/// # Errors
/// [`InvalidArgument`] where it is shorter than [`LEASE_MS_MIN`] or longer than [`RELAY_LEASE_MS_MAX`].
pub fn relay_lease_ms(lease: Duration) -> Result<u64, InvalidArgument> {
    let millis = lease.as_millis();
    let known = u64::try_from(millis).ok();
    known
        .filter(|millis| (LEASE_MS_MIN..=RELAY_LEASE_MS_MAX).contains(millis))
        .ok_or_else(|| InvalidArgument {
            what: "lease_ms",
            problem: format!("is {millis}, not {LEASE_MS_MIN} to {RELAY_LEASE_MS_MAX}"),
        })
}

#[cfg(test)]
mod tests {
    use super::{RETIRED, RUNS, SESSIONS, check_reason, token};

    #[test]
    fn a_size_that_is_not_asked_for_is_the_usual_one_and_none_is_larger_than_the_largest() {
        let sizes = |asked| (RUNS.of(asked), RETIRED.of(asked));
        assert_eq!((SESSIONS.of(0), SESSIONS.of(1_000)), (100, 256));
        assert_eq!(sizes(0), (100, 256));
        assert_eq!(sizes(1), (1, 1));
        assert_eq!(sizes(4_096), (4_096, 256));
        assert_eq!(sizes(u32::MAX), (4_096, 256));
    }

    #[test]
    fn an_empty_token_is_that_of_the_first_page() {
        assert_eq!(token(Some("")), None);
        assert_eq!(token(Some("7")), Some("7"));
    }

    #[test]
    fn a_reason_has_from_one_byte_to_as_many_as_a_text_may_have() {
        assert!(check_reason(&"x".repeat(8_192)).is_ok());
        for wrong in ["", &"x".repeat(8_193)] {
            assert_eq!(check_reason(wrong).unwrap_err().what, "reason");
        }
    }
}
