//! Timers: gates whose deadline has passed, timers that are due, changes of shared state that are to be carried over, and erased
//! payloads that the store still has.

use crate::reactor::{Reaction, ReactionError, Reactor, Task};
use async_trait::async_trait;
use std::sync::Arc;
use tape_api::due::DueWork;
use tape_api::sending::ask;
use tape_api::{Journal, JournalError};
use tape_core::agenda::{Item, Queue};
use tape_core::command::{ExternalCommand, RunCommand};
use tape_core::id::{RunId, StreamId};

/// Fires due timers. There is nothing to claim: one entry records that a timer fired, and the rules of the run accept it once, from the
/// first worker. Of a gate's deadline and its signal, the one that is recorded first counts.
pub struct Timers(Arc<dyn Journal>);

impl Timers {
    /// Fires the timers of a journal.
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self(journal)
    }

    async fn fire(&self, work: &DueWork) -> Result<Reaction, ReactionError> {
        match (&work.stream, &work.item) {
            (StreamId::Run(run), Item::Gate(gate)) => {
                let gate = gate.clone();
                Ok(self.tell(run, ExternalCommand::ExpireGate { gate }).await?)
            }
            (StreamId::Run(run), Item::Timer(timer)) => {
                let timer = timer.clone();
                Ok(self.tell(run, ExternalCommand::FireTimer { timer }).await?)
            }
            (StreamId::Session(session), Item::Merge) => {
                self.0.merge(session).await?;
                Ok(Reaction::Done)
            }
            (stream, Item::Erasure) => {
                self.0.finish_erasures(stream).await?;
                Ok(Reaction::Done)
            }
            _ => Ok(Reaction::Nothing),
        }
    }

    async fn tell(&self, run: &RunId, told: ExternalCommand) -> Result<Reaction, JournalError> {
        match ask(self.0.as_ref(), run, RunCommand::External(told)).await {
            Ok(_) => Ok(Reaction::Done),
            // Already answered, fired, cancelled or over; or not due yet by the journal's clock.
            Err(JournalError::Rejected(_)) => Ok(Reaction::Nothing),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Timers").finish()
    }
}

#[async_trait]
impl Reactor for Timers {
    fn name(&self) -> &'static str {
        "timers"
    }

    fn queue(&self) -> Queue {
        Queue::Timers
    }

    async fn react<'a>(&'a self, work: &'a DueWork) -> Result<Task<'a>, ReactionError> {
        Ok(Task::now(self.fire(work)))
    }
}
