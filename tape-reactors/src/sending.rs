//! Commands of reactors.

use tape_api::{Journal, JournalError};
use tape_core::command::{Command, RunCommand};
use tape_core::id::RunId;
use tape_core::reply::{Rejection, Reply};

/// Most new ids that one command gets because its id was refused.
const FRESH_IDS_MAX: u32 = 8;

/// One command of a reactor, which is sent until it is answered.
///
/// Where the first send is refused for the age of its id, the command was not executed, and gets a new id at once. Once an earlier send may
/// have arrived, it keeps its id.
pub(crate) struct Sending<'a> {
    journal: &'a dyn Journal,
    run: &'a RunId,
    command: Command<RunCommand>,
    /// Whether an earlier send may have arrived.
    doubtful: bool,
}

impl<'a> Sending<'a> {
    pub(crate) fn new(journal: &'a dyn Journal, run: &'a RunId, body: RunCommand) -> Self {
        Self {
            journal,
            run,
            command: Command::new(journal.request_id(), body),
            doubtful: false,
        }
    }

    /// Sends it, the first time or again.
    pub(crate) async fn send(&mut self) -> Result<Reply, JournalError> {
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
pub(crate) async fn ask(journal: &dyn Journal, run: &RunId, body: RunCommand) -> Result<Reply, JournalError> {
    Sending::new(journal, run, body).send().await
}
