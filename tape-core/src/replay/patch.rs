//! Changes of an agent's code under runs that were begun before.
//!
//! A changed agent asks whether a run takes the new path. The first answer holds for the run and scope: true is recorded as a sample with a
//! reserved name; false follows from recorded items that no branch of the agent has asked for yet. A recorded answer that the agent no longer asks
//! for is not drift, so the question can be removed from the code once no run takes the old path.

use crate::entry::sample::Recorded;
use crate::id::{InvalidName, SampleName};

/// The prefix of the names of such samples. Names with this prefix belong to the journal.
const PREFIX: &str = "tape.patched.";

/// Whether a scope takes the path of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// The answer is known: whether the scope takes it.
    Known(bool),
    /// The scope takes it once that is recorded as sample `n`.
    New {
        /// The number of the sample.
        n: u32,
    },
}

/// The name of the sample that records that a scope takes the path of a change.
///
/// # Errors
/// [`InvalidName`] where the name of the change is not valid.
pub fn patch_name(change: &str) -> Result<SampleName, InvalidName> {
    SampleName::new(format!("{PREFIX}{change}"))
}

pub(super) fn is_patch(sample: &Recorded) -> bool {
    sample.name.as_str().starts_with(PREFIX)
}
