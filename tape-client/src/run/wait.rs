//! Waits: in this process for a while, then without a driver.

use super::Run;
use super::begin::fold;
use crate::error::Error;
use crate::retry::backoff;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::query::Until;
use tape_core::codec::StoredEntry;
use tape_core::command::{DriverCommand, ExternalCommand};
use tape_core::replay::Replay;
use tape_core::reply::Rejection;
use tape_core::time::Deadline;
use tape_core::time::Timestamp;
use tokio::time::Instant;

type Pages = BoxStream<'static, Result<Vec<StoredEntry>, JournalError>>;

/// The pause before another attempt to suspend a run that has something under way.
const AGAIN: Duration = Duration::from_millis(200);

/// A time at which a wait is over.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) at: Timestamp,
    /// The command that tells the journal, if it must be told. The waiting process sends it, since no worker may be there to do it. If a
    /// worker sends it too, the second command finds it done.
    pub(crate) say: Option<ExternalCommand>,
    /// Whether nothing but the time ends the wait.
    pub(crate) alone: bool,
}

impl Run {
    /// Waits until `done` returns a result for the journal so far. The run is suspended after the wait that the client allows
    /// (`suspend_after`), or at once if only `due` ends the wait and is later than that.
    ///
    /// # Errors
    /// [`Error::Suspended`] once the run waits without this driver, and every reason why this driver may no longer act for the run.
    pub(crate) async fn wait_until<T>(
        &self,
        due: Option<Due>,
        mut done: impl FnMut(&Replay) -> Option<T>,
    ) -> Result<T, Error> {
        let mut wait = Wait::new(self, due);
        loop {
            self.check()?;
            if let Some(found) = done(&self.replay()) {
                return Ok(found);
            }
            wait.step().await?;
        }
    }

    fn follow(&self) -> Pages {
        let seen = self.replay().seq();
        self.inner.tape.journal.entries(self.id(), seen, Until::Forever)
    }
}

struct Wait<'a> {
    run: &'a Run,
    pages: Pages,
    backoff: tape_api::backoff::Backoff,
    due: Option<Due>,
    /// When to say that the time has come.
    say_at: Instant,
    /// When to suspend the run.
    give_up_at: Instant,
}

impl<'a> Wait<'a> {
    fn new(run: &'a Run, due: Option<Due>) -> Self {
        let suspend_after = run.inner.tape.settings.suspend_after;
        let until_due = due.as_ref().map(|due| run.inner.lease.clock().until(due.at));
        let alone = due.as_ref().is_some_and(|due| due.alone);
        let give_up = if alone && until_due.is_some_and(|until| until > suspend_after) {
            Duration::ZERO
        } else {
            suspend_after
        };
        let now = Instant::now();
        let say_at = now + until_due.unwrap_or_default();
        Self {
            run,
            pages: run.follow(),
            backoff: backoff(),
            due,
            say_at,
            give_up_at: now + give_up,
        }
    }

    fn chance(&self) -> f64 {
        self.run.inner.tape.environment.chance()
    }

    /// Until something happened that is worth a look.
    async fn step(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.run.inner.lease.gone() => Ok(()),
            page = self.pages.next() => self.page(page).await,
            () = tokio::time::sleep_until(self.say_at), if self.due.is_some() => self.say().await,
            () = tokio::time::sleep_until(self.give_up_at) => self.suspend().await,
        }
    }

    async fn page(&mut self, page: Option<Result<Vec<StoredEntry>, JournalError>>) -> Result<(), Error> {
        match page {
            Some(Ok(page)) => {
                self.backoff = backoff();
                return fold(&self.run.inner.replay, &page);
            }
            Some(Err(JournalError::Unavailable(source))) => {
                tracing::debug!(error = %source, "following the run broke off; going on");
            }
            Some(Err(failure)) => return Err(failure.into()),
            None => {}
        }
        tokio::time::sleep(self.backoff.next(self.chance())).await;
        self.pages = self.run.follow();
        Ok(())
    }

    /// The time has come, by this process's clock.
    async fn say(&mut self) -> Result<(), Error> {
        self.say_at = Instant::now() + self.backoff.next(self.chance());
        let Some(say) = self.due.as_ref().and_then(|due| due.say.clone()) else {
            return Ok(());
        };
        match self.run.inner.tape.tell(self.run.id(), say).await {
            // Its entry comes with the next page. If it was too early, or another sender was first, look again.
            Ok(_) | Err(Error::Rejected(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn suspend(&mut self) -> Result<(), Error> {
        self.give_up_at = Instant::now() + AGAIN;
        if self.run.is_busy() {
            return Ok(());
        }
        let seen = self.run.replay().seq();
        let resume = self.due.as_ref().map(|due| Deadline::At(due.at));
        match self.run.drive(DriverCommand::Suspend { seen, resume }).await {
            Ok(_) => Err(Error::Suspended),
            Err(Error::Rejected(rejection))
                if matches!(*rejection, Rejection::Woken { .. } | Rejection::Unsettled { .. }) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
