//! What a run says of the reaction that began it: labels of the journal's own. They are erased with the other labels.

use crate::id::{InvalidName, Key, ReactionName};
use std::collections::BTreeMap;

/// How names of the values begin that define the reactions of a tenant.
pub const VALUES: &str = "tape.reaction/";
/// The app of the runs that carry out the effects of reactions. Their agent is in the relay.
pub const APP: &str = "tape.reaction";

const NAME: &str = "tape.reaction";
const DEPTH: &str = "tape.reaction.depth";
const CAUSE: &str = "tape.reaction.cause";

/// Why a run is there that a reaction began.
///
/// ```
/// use tape_core::id::ReactionName;
/// use tape_core::reaction::Origin;
/// let origin = Origin {
///     reaction: ReactionName::new("audit").unwrap(),
///     depth: 2,
///     cause: "acme/run/treasury/ann/s1/i1/7".to_owned(),
/// };
/// assert_eq!(Origin::of(&origin.labels()).unwrap(), Some(origin));
/// assert_eq!(Origin::of(&Default::default()).unwrap(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The reaction.
    pub reaction: ReactionName,
    /// How many reactions lie between the run and what no reaction began, at least one.
    pub depth: u32,
    /// The event to which it reacted: a stream's full name, `/` and the entry's number.
    pub cause: String,
}

/// A run whose labels name a reaction, and do not say the rest as a reaction would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the labels of the run do not say which reaction began it, and how deep: {problem}")]
pub struct InvalidOrigin {
    /// What is wrong.
    pub problem: String,
}

impl Origin {
    /// The labels that say so.
    ///
    /// # Panics
    /// Never: the keys are names.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<Key, String> {
        BTreeMap::from([
            (key(), self.reaction.to_string()),
            (own(DEPTH), self.depth.to_string()),
            (own(CAUSE), self.cause.clone()),
        ])
    }

    /// What the labels of a run say; none where no reaction began it.
    ///
    /// # Errors
    /// [`InvalidOrigin`] where they are not those that a reaction gives.
    pub fn of(labels: &BTreeMap<Key, String>) -> Result<Option<Self>, InvalidOrigin> {
        let [name, depth, cause] = [NAME, DEPTH, CAUSE].map(|key| labels.get(&own(key)));
        if name.or(depth).or(cause).is_none() {
            return Ok(None);
        }
        let wrong = |problem: &str| InvalidOrigin {
            problem: problem.to_owned(),
        };
        let invalid = |invalid: InvalidName| wrong(&invalid.to_string());
        let name = name.ok_or_else(|| wrong("there is no name"))?;
        let depth = depth
            .and_then(|depth| depth.parse().ok())
            .filter(|depth| *depth > 0);
        Ok(Some(Self {
            reaction: ReactionName::new(name).map_err(invalid)?,
            depth: depth.ok_or_else(|| wrong("there is no depth"))?,
            cause: cause.ok_or_else(|| wrong("there is no cause"))?.clone(),
        }))
    }
}

/// The key of the label with the reaction's name, by which the runs that it began are found.
///
/// # Panics
/// Never: the key is a name.
#[must_use]
pub fn key() -> Key {
    own(NAME)
}

/// Whether a label is one of those that a reaction gives.
pub(crate) fn is_label(name: &str) -> bool {
    [NAME, DEPTH, CAUSE].contains(&name)
}

fn own(key: &'static str) -> Key {
    Key::new(key).expect("letters and full stops are a name")
}
