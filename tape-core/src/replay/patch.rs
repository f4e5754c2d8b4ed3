//! Changes of an agent's code under runs that were begun before.
//!
//! A changed agent asks whether a run takes the new path. The first answer holds for the run and scope: true is recorded as a sample of a
//! name of its own, false follows from what the journal has and no code asked about. A record that the agent no longer asks about is no drift, so the
//! question can be taken out of the code once no run is left that takes the old path.

use crate::entry::sample::Recorded;
use crate::id::{InvalidName, SampleName};

/// How the names of such samples begin. Names that begin so belong to the journal.
const PREFIX: &str = "tape.patched.";

/// Whether a scope takes the path of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// It is settled: the scope takes it, or does not.
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
/// [`InvalidName`] where the name of the change is not one.
pub fn patch_name(change: &str) -> Result<SampleName, InvalidName> {
    SampleName::new(format!("{PREFIX}{change}"))
}

pub(super) fn is_patch(sample: &Recorded) -> bool {
    sample.name.as_str().starts_with(PREFIX)
}
