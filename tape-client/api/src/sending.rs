//! Commands of workers, which send each until there is an answer.

use crate::{Journal, JournalError};
use tape_core::command::{Command, RunCommand};
use tape_core::id::RunId;
use tape_core::reply::{Rejection, Reply};

/// Most new ids that one command gets because its id was refused.
const FRESH_IDS_MAX: u32 = 8;

/// One command to a run, which is sent until there is an answer.
///
/// Refused for the age of its id when it is sent for the first time, it was not executed, and gets a new id at once. Once an
/// earlier send may have arrived, it keeps its id.
#[derive(Debug)]
pub struct Sending<'a> {
    journal: &'a dyn Journal,
    run: &'a RunId,
    command: Command<RunCommand>,
    /// Whether an earlier send may have arrived.
    doubtful: bool,
}

impl<'a> Sending<'a> {
    /// A command that was not sent yet.
    pub fn new(journal: &'a dyn Journal, run: &'a RunId, body: RunCommand) -> Self {
        Self {
            journal,
            run,
            command: Command::new(journal.request_id(), body),
            doubtful: false,
        }
    }

    /// Sends it, the first time or again.
    ///
    /// # Errors
    /// Those of [`Journal::run`]. After [`Unavailable`](JournalError::Unavailable) it may be sent again.
    pub async fn send(&mut self) -> Result<Reply, JournalError> {
        let mut refused = 0;
        loop {
            let doubtful = std::mem::replace(&mut self.doubtful, true);
            match self.journal.run(self.run, self.command.clone()).await {
                Err(JournalError::Rejected(rejection)) if !doubtful && rejection.is_for_its_age() => {
                    refused += 1;
                    if refused > FRESH_IDS_MAX {
                        return Err(rejection.into());
                    }
                    (self.command.request, self.doubtful) = (self.journal.request_id(), false);
                }
                // The id was dated by another server's clock: this server accepts it once its own clock has come that far.
                Err(JournalError::Rejected(rejection @ Rejection::RequestFromFuture { .. })) => {
                    return Err(JournalError::unavailable(rejection));
                }
                answer => return answer,
            }
        }
    }
}

/// Sends a command once.
///
/// # Errors
/// Those of [`Journal::run`].
pub async fn ask(journal: &dyn Journal, run: &RunId, body: RunCommand) -> Result<Reply, JournalError> {
    Sending::new(journal, run, body).send().await
}
