//! The version of the agent that began a run: a label of the journal's own. It is erased with the other labels.

use crate::id::{AgentVersion, Key};
use crate::reaction;
use crate::reply::{Field, Rejection};
use std::collections::BTreeMap;

/// How names begin that are the journal's own: users give no label and no sample such a name.
pub const OWN: &str = "tape.";
/// The key of the label.
const KEY: &str = "tape.agent_version";
/// The key of the label that stands for those that were erased.
const ERASED_KEY: &str = "tape.erased";

/// What a journal says about the version of the agent that began a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BegunBy {
    /// An agent without a version.
    NoVersion,
    /// An agent of this version.
    Version(AgentVersion),
    /// The first entry was erased, and what it said about the version with it: any version or none.
    Erased,
}

impl BegunBy {
    /// What the labels of a run's first entry say; `erased` where its payload is gone.
    #[must_use]
    pub fn of(labels: &BTreeMap<Key, String>, erased: bool) -> Self {
        match of(labels) {
            Some(version) => Self::Version(version),
            None if erased || is_erased(labels) => Self::Erased,
            None => Self::NoVersion,
        }
    }
}

/// The key of the label that has the version.
///
/// # Panics
/// Never: the key is a name.
#[must_use]
pub fn key() -> Key {
    Key::new(KEY).expect("letters, a full stop and an underscore are a name")
}

/// The version that a run's labels say, where it was begun by an agent with one.
///
/// ```
/// use std::collections::BTreeMap;
/// use tape_core::agent_version;
/// let labels = BTreeMap::from([(agent_version::key(), "2026-11-29".to_owned())]);
/// assert_eq!(agent_version::of(&labels).unwrap().as_str(), "2026-11-29");
/// assert_eq!(agent_version::of(&BTreeMap::new()), None);
/// ```
#[must_use]
pub fn of(labels: &BTreeMap<Key, String>) -> Option<AgentVersion> {
    let version = labels.get(&key())?;
    AgentVersion::new(version).ok()
}

/// Refuses labels with names of the journal's own, but for those that the beginning of a run gives: the version of the agent, and what a
/// reaction says of a run that it begins. An agent's label could pass for what the journal says; the client refuses these in what agents give.
///
/// # Errors
/// [`Rejection::Invalid`] names the label.
pub(crate) fn check_labels(labels: &BTreeMap<Key, String>) -> Result<(), Rejection> {
    let given = |name: &str| name == KEY || reaction::is_label(name);
    let own = |name: &&Key| name.as_str().starts_with(OWN) && !given(name.as_str());
    match labels.keys().find(own) {
        Some(name) => Err(Rejection::Invalid {
            field: Field::Label,
            problem: format!("'{name}' is a name of the journal's own: names that begin with '{OWN}' are"),
        }),
        None => Ok(()),
    }
}

/// The labels of a run whose labels were erased: one that says so. Without it, the run would look like one of no version.
///
/// # Panics
/// Never: the key is a name.
#[must_use]
pub(crate) fn erased() -> BTreeMap<Key, String> {
    let key = Key::new(ERASED_KEY).expect("letters and a full stop are a name");
    BTreeMap::from([(key, "labels".to_owned())])
}

/// Whether labels of a run's state or in a list stand for those that were erased.
#[must_use]
pub fn is_erased(labels: &BTreeMap<Key, String>) -> bool {
    labels.keys().any(|key| key.as_str() == ERASED_KEY)
}
