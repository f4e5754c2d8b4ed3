//! Reactions: the journal itself as a sink.
//!
//! A [`Definition`] stands in a value of its tenant. [`Reactions`] follows these values and carries each reaction as a relay, whose sink begins a
//! run, signals a gate, or puts an effect into an outbox: once for each entry, by names that follow from the reaction and the entry.

mod act;
mod ancestry;
mod bounds;
mod carrier;
mod clock;
mod debounce;
mod defined;
mod definition;
mod names;
mod order;
#[cfg(feature = "cli")]
mod outbox;
mod sink;

pub use ancestry::DEPTH_MAX;
pub use carrier::{LOOK_EVERY, REACTIONS_MAX, ReactionCounts, Reactions};
pub use defined::NotDefined;
pub use definition::{
    Begins, DEBOUNCE_MS_MAX, Definition, FORM, InvalidDefinition, LABELS_MAX, RATE_MS, RUNS_MAX, Rate,
    Target, Then, When, carried_by, reaction_of, relay_id, value_name,
};
#[cfg(feature = "cli")]
pub use outbox::serve_outbox;

use crate::event_format::{DEFAULT_SOURCE, EventFormat};
use crate::payload_rule::PayloadRule;
use crate::{Incarnation, Settings, Start};
use tape_core::id::{ReactionName, Tenant};

/// Largest event, in bytes: a run takes it as its input, and the journal keeps no input over a mebibyte.
const EVENT_BYTES_MAX: usize = 512 * 1024;

/// A reaction of a tenant.
#[derive(Clone, Debug)]
pub struct Reaction {
    /// The tenant.
    pub tenant: Tenant,
    /// Its name.
    pub name: ReactionName,
    /// What it is.
    pub definition: Definition,
    /// Which of the reactions that had the name it is.
    pub incarnation: Incarnation,
}

impl Reaction {
    fn settings(&self, usual: Settings) -> Settings {
        Settings {
            start: match self.definition.start {
                Begins::Now => Start::Now,
                Begins::Beginning => Start::Beginning,
            },
            // Its bounds hold over all shards.
            together: true,
            incarnation: Some(self.incarnation),
            ..usual
        }
    }
}

fn format() -> EventFormat {
    let format = EventFormat::new(DEFAULT_SOURCE, PayloadRule::Include, EVENT_BYTES_MAX);
    format.unwrap_or_default()
}
