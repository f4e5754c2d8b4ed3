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
use tape_core::id::{RunId, Seq, StreamId};
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

/// Tells the depth of events.
#[derive(Debug)]
pub(super) struct Ancestry {
    journal: Arc<dyn Journal>,
    known: Mutex<BTreeMap<RunId, Known>>,
}

impl Ancestry {
    pub(super) fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            known: Mutex::default(),
        }
    }

    /// The depth of what an event causes.
    ///
    /// An entry that is not of a run is caused by no reaction, as far as the journal says. Where the labels of a run were erased, nothing
    /// says how deep it is, and its events are refused: a cycle must not get around the bound by an erasure.
    ///
    /// # Errors
    /// [`SinkError::Refused`] where that would be too deep, with the reactions that led to it; [`SinkError::Unavailable`] where the journal
    /// does not tell.
    pub(super) async fn depth_after(&self, event: &Event) -> Result<u32, SinkError> {
        let StreamId::Run(run) = event.stream() else {
            return Ok(1);
        };
        match self.of(run).await? {
            Known::Root => Ok(1),
            Known::Reaction(origin) if origin.depth < DEPTH_MAX => Ok(origin.depth + 1),
            Known::Reaction(origin) => Err(self.too_deep(origin).await?),
            Known::Unknown(problem) => Err(SinkError::refused(format!(
                "nothing says how many reactions led to {}: {problem}",
                event.stream()
            ))),
        }
    }

    /// The refusal that names the chain, oldest first.
    async fn too_deep(&self, last: Origin) -> Result<SinkError, SinkError> {
        let begin = last.cause.clone();
        let mut names = vec![last.reaction.to_string()];
        let mut cause = last.cause;
        while let Some(run) = run_of(&cause)
            && names.len() <= DEPTH_MAX as usize
            && let Known::Reaction(origin) = self.of(&run).await?
        {
            names.push(origin.reaction.to_string());
            cause = origin.cause;
        }
        names.reverse();
        let chain = names.join(" > ");
        Ok(SinkError::refused(format!(
            "{DEPTH_MAX} reactions caused each other, the limit: {chain}; the last reacted to {begin}"
        )))
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
