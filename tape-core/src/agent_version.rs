//! The version of the agent that began a run: a label of the journal's own.

use crate::id::{AgentVersion, Key};
use std::collections::BTreeMap;

/// How names begin that are the journal's own: users give no label and no sample such a name.
pub const OWN: &str = "tape.";
/// The key of the label.
const KEY: &str = "tape.agent_version";

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
