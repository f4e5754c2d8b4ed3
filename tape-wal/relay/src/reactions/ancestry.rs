//! How deep in a chain of reactions an event is, so that reactions that cause each other come to an end.

use crate::event::Event;
use crate::sink::SinkError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tape_api::{Journal, JournalError};
use tape_core::agent_version;
use tape_core::causes::Causes;
use tape_core::codec::decode;
use tape_core::entry::EntryBody;
use tape_core::id::{ReactionName, RunId, Seq, StreamId};
use tape_core::reaction::Origin;

/// Most reactions in a chain in which one begins a run whose entries another one reacts to.
pub const DEPTH_MAX: u32 = 8;
/// Most runs whose origins are remembered; beyond it they are all forgotten, and read again.
const REMEMBERED_MAX: usize = 4_096;

/// Why a run is there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// No reaction began it.
    Root,
    /// One did.
    Reaction(Origin),
    /// Its first entry does not say: its labels were erased, or it says something else.
    Unknown(String),
}

/// What a reaction makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// Something of this depth.
    To(u32),
    /// Nothing: the event is of a run that the reaction began.
    Nowhere,
}

/// Tells the depth of events.
#[derive(Debug)]
pub(super) struct Ancestry {
    journal: Arc<dyn Journal>,
    reaction: ReactionName,
    /// How often the reaction may be among those that led to an event.
    repeats: u32,
    known: Mutex<BTreeMap<RunId, Known>>,
}

impl Ancestry {
    pub(super) fn new(journal: Arc<dyn Journal>, reaction: ReactionName, repeats: u32) -> Self {
        Self {
            journal,
            reaction,
            repeats,
            known: Mutex::default(),
        }
    }

    /// What the reaction makes of an event.
    ///
    /// A reaction does not react to what it caused itself, unless it may be repeated: each of its runs has several entries, so that one that fits
    /// them would multiply at each depth. Entries of its own runs are passed over. Where others are in between, the event is refused, and the
    /// reason names them.
    ///
    /// An entry that is not of a run is caused by no reaction, as far as the journal says. Where the labels of a run were erased, nothing
    /// says how deep it is, and its events are refused: a cycle must not get around the bound by an erasure.
    ///
    /// # Errors
    /// [`SinkError::Refused`] where that would be too deep or too often, with the reactions that led to it; [`SinkError::Unavailable`] where the journal
    /// does not tell.
    pub(super) async fn of_event(&self, event: &Event) -> Result<Leads, SinkError> {
        let StreamId::Run(run) = event.stream() else {
            return Ok(Leads::To(1));
        };
        match self.of(run).await? {
            Known::Root => Ok(Leads::To(1)),
            Known::Reaction(origin) => self.after(origin).await,
            Known::Unknown(problem) => Err(SinkError::refused(format!(
                "nothing says how many reactions led to {}: {problem}",
                event.stream()
            ))),
        }
    }

    async fn after(&self, origin: Origin) -> Result<Leads, SinkError> {
        if self.repeats == 0 && origin.reaction == self.reaction {
            return Ok(Leads::Nowhere);
        }
        let (depth, begin) = (origin.depth, origin.cause.clone());
        let chain = self.chain(origin).await?;
        let before = chain.iter().filter(|name| **name == self.reaction).count();
        let problem = if depth >= DEPTH_MAX {
            format!("{DEPTH_MAX} reactions caused each other, the limit")
        } else if before > self.repeats as usize {
            format!("it is a cycle: `{}` led to it itself", self.reaction)
        } else {
            return Ok(Leads::To(depth + 1));
        };
        let names: Vec<&str> = chain.iter().map(ReactionName::as_str).collect();
        let chain = names.join(" > ");
        Err(SinkError::refused(format!(
            "{problem}: {chain}; the last reacted to {begin}"
        )))
    }

    /// The reactions that led to what has this origin, oldest first.
    async fn chain(&self, last: Origin) -> Result<Vec<ReactionName>, SinkError> {
        let mut names = vec![last.reaction];
        let mut cause = last.cause;
        while let Some(run) = run_of(&cause)
            && names.len() <= DEPTH_MAX as usize
            && let Known::Reaction(origin) = self.of(&run).await?
        {
            names.push(origin.reaction);
            cause = origin.cause;
        }
        names.reverse();
        Ok(names)
    }

    async fn of(&self, run: &RunId) -> Result<Known, SinkError> {
        if let Some(known) = self.known().get(run) {
            return Ok(known.clone());
        }
        let read = self.read(run).await;
        let known = read.map_err(|error| SinkError::unavailable(Causes(&error)))?;
        let mut all = self.known();
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        all.insert(run.clone(), known.clone());
        Ok(known)
    }

    async fn read(&self, run: &RunId) -> Result<Known, JournalError> {
        let first = self.journal.read(run, Seq::ZERO, 1).await?;
        let Some(first) = first.first() else {
            return Ok(Known::Unknown("its entries are gone".to_owned()));
        };
        let labels = match decode(first).map_err(JournalError::damaged)?.body {
            EntryBody::RunBegun(begun) => begun.labels,
            EntryBody::RunRetired(retired) => retired.labels,
            _ => return Ok(Known::Unknown("it does not begin as a run".to_owned())),
        };
        if first.payload.is_none() || agent_version::is_erased(&labels) {
            return Ok(Known::Unknown("its labels were erased".to_owned()));
        }
        Ok(match Origin::of(&labels) {
            Ok(None) => Known::Root,
            Ok(Some(origin)) => Known::Reaction(origin),
            Err(invalid) => Known::Unknown(invalid.problem),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Known>> {
        self.known
            .lock()
            .expect("nothing panics while it holds the origins")
    }
}

/// The run of an event, by the event's name.
fn run_of(event: &str) -> Option<RunId> {
    let (stream, _) = event.rsplit_once('/')?;
    match stream.parse() {
        Ok(StreamId::Run(run)) => Some(run),
        _ => None,
    }
}
