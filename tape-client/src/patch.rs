//! Changes of an agent's code under runs that were begun before.

use crate::error::Error;
use crate::json;
use crate::run::Run;
use tape_core::command::DriverCommand;
use tape_core::replay::{Patch, patch_name};

impl Run {
    /// Whether this run takes the path of a change of the agent's code. Runs that passed this point before the change keep the old path, in
    /// every drive. All others take the new path, and the journal records that.
    ///
    /// ```
    /// # async fn agent(run: &tape_client::Run) -> Result<(), tape_client::Error> {
    /// if run.patched("ask-compliance-first").await? {
    ///     // What the agent does since the change.
    /// } else {
    ///     // What it did before.
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// A run has passed this point where the journal has something of this scope, or of a scope within it, that the agent has not asked for
    /// when it asks this. In an old run, a parallel branch may be about to ask for it: this waits for up to three seconds, as every
    /// call does, and then the run keeps the old path. So ask before branches of this scope begin, or in a scope of the branch's own.
    ///
    /// The first answer holds for the run; each [scope](Run::scope) has its own answer. Use a name once, for one change. Once no run takes
    /// the old path any more, remove the question from the code: a recorded answer that is not asked for is not drift.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `change` is not a valid name; otherwise as any call that writes.
    ///
    /// # Cancellation
    /// If this future is dropped while the answer is recorded, it is still recorded, and the next call returns it.
    pub async fn patched(&self, change: &str) -> Result<bool, Error> {
        let name = patch_name(change)?;
        let doing = self.doing().await?;
        let _turn = self.take_turn("sample")?;
        let n = match self.ask(|replay| replay.patched(&self.scope, &name)).await {
            Ok(Patch::Known(taken)) => {
                doing.done();
                return Ok(taken);
            }
            Ok(Patch::New { n }) => n,
            // No branch asks for what the journal has here: the run came further before the change.
            Err(Error::Drift(drift)) if drift.skipped => {
                self.note(|replay| replay.keep_old_path(&self.scope, name));
                doing.done();
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.drive(DriverCommand::RecordSample {
            scope: self.scope.clone(),
            n,
            name: name.clone(),
            value: json::payload("patch", &true)?,
        })
        .await?;
        self.note(|replay| replay.patch_recorded(&self.scope, name, n));
        doing.done();
        Ok(true)
    }
}
