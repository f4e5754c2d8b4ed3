//! A journal, as agents and tools see it.

use crate::error::Error;
use crate::retry::{Tries, until_answered, until_executed};
use crate::run::{Beginnings, RunBuilder};
use crate::session::Session;
use crate::value::Value;
use futures::stream::{BoxStream, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tape_api::argument::check_reason;
use tape_api::query::{FeedPage, IndexPage, RetiredPage, Retirement, StreamEnd, Tail, Until};
use tape_api::{Journal, JournalError};
use tape_core::codec::StoredEntry;
use tape_core::command::{Claimed, Command, ExternalCommand, RunCommand, Verdict};
use tape_core::entry::obligation::ObligationId;
use tape_core::entry::{EntryBody, TraceParent};
use tape_core::erasure::Erasure;
use tape_core::id::{
    AgentVersion, EffectId, Epoch, GateName, Holder, Principal, RunId, Seq, SessionId, SignalId, StreamId,
    Tenant, ValueName,
};
use tape_core::payload::{Digest, Payload};
use tape_core::reply::Reply;
use tape_core::run::Driver;
use tape_core::time::Timestamp;
use tape_environment::Environment;

/// A journal: over a server (`tape://host:port`), or a store in this process (`sqlite:PATH`, `memory:`).
///
/// Cheap to clone; one serves a whole process. All calls need a tokio runtime.
#[derive(Clone, Debug)]
pub struct Tape {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) environment: Arc<dyn Environment>,
    pub(crate) holder: Holder,
    pub(crate) settings: Arc<Settings>,
}

/// The outcome of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectOutcome {
    /// It happened; what the upstream answered.
    Confirmed(Payload),
    /// It did not happen and will not.
    Failed {
        /// What went wrong.
        error: String,
        /// What the upstream answered, where it did.
        detail: Option<Payload>,
    },
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) principal: Option<Principal>,
    pub(crate) lease: Duration,
    pub(crate) suspend_after: Duration,
    pub(crate) retry_for: Duration,
    pub(crate) agent_version: Option<AgentVersion>,
    pub(crate) beginnings: Arc<Beginnings>,
    /// Under the test kit, the samples that all drives take.
    #[cfg(feature = "testing")]
    pub(crate) samples: Option<Arc<crate::testing::Samples>>,
}

impl Tape {
    /// What this client takes the time and randomness from.
    #[must_use]
    pub fn environment(&self) -> &dyn Environment {
        self.environment.as_ref()
    }

    /// Begins a run, or takes over the existing one.
    pub fn run(&self, run: RunId) -> RunBuilder {
        RunBuilder::new(self.clone(), run)
    }

    /// A session of a user with an app.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Session {
        Session::new(self.clone(), session)
    }

    /// A watchable value.
    #[must_use]
    pub fn value(&self, tenant: Tenant, name: ValueName) -> Value {
        Value::new(self.clone(), tenant, name)
    }

    /// Answers a gate of a run, now or when it opens. A signal sent twice under one `id` counts once.
    ///
    /// # Errors
    /// [`Error::Rejected`] where the gate has been answered by something else, the `id` has been used with another answer, or there is no
    /// such run; [`Error::Cancelled`], [`Error::Closing`] or [`Error::Ended`] where the run is ending or has ended and reads no gate any
    /// more.
    pub async fn signal(
        &self,
        run: &RunId,
        gate: GateName,
        id: SignalId,
        answer: Payload,
    ) -> Result<Reply, Error> {
        let seen = None;
        self.tell(
            run,
            ExternalCommand::Signal {
                gate,
                id,
                answer,
                seen,
            },
        )
        .await
    }

    /// Answers an open gate, on behalf of a person or program that has read the run up to the entry `seen`.
    ///
    /// # Errors
    /// As [`Tape::signal`]; [`Error::Rejected`] also where the gate is not open, or was opened after `seen`
    /// ([`Changed`](tape_core::reply::Rejection::Changed)).
    pub async fn answer(
        &self,
        run: &RunId,
        gate: GateName,
        id: SignalId,
        answer: Payload,
        seen: Seq,
    ) -> Result<Reply, Error> {
        let seen = Some(seen);
        self.tell(
            run,
            ExternalCommand::Signal {
                gate,
                id,
                answer,
                seen,
            },
        )
        .await
    }

    /// Requests that a run is cancelled and its effects are undone. A driver that has the run accepts that
    /// ([`Run::accept_cancel`](crate::Run::accept_cancel)); a run without one ends at once. Where the driver is gone before it accepts,
    /// recovery ends the run, and so does another call of this. The first reason counts.
    ///
    /// # Errors
    /// [`Error::Ended`] where it has ended.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<Reply, Error> {
        self.tell(
            run,
            ExternalCommand::Cancel {
                reason: reason.to_owned(),
            },
        )
        .await
    }

    /// The outcome of an effect of any run, from the entry that settled it. The rejection for a business key that is taken names both
    /// ([`BusinessKeyTaken`](tape_core::reply::Rejection::BusinessKeyTaken)).
    ///
    /// # Errors
    /// [`Error::Invalid`] where the entry settles no effect; [`Error::Unavailable`] where the journal is out of reach.
    pub async fn outcome(&self, run: &RunId, settled: Seq) -> Result<EffectOutcome, Error> {
        let before = Seq(settled.0.saturating_sub(1));
        let read = || async {
            let mut pages = self.journal.entries(run, before, Until::End);
            pages.next().await.transpose()
        };
        let page = until_answered(self.tries(), read).await?.unwrap_or_default();
        let stored = page.first().filter(|stored| stored.seq == settled);
        let entry = stored.map(tape_core::codec::decode).transpose();
        match entry.map_err(Error::damaged)?.map(|entry| entry.body) {
            Some(EntryBody::EffectConfirmed(confirmed)) => Ok(EffectOutcome::Confirmed(confirmed.result)),
            Some(EntryBody::EffectFailed(failed)) => Ok(EffectOutcome::Failed {
                error: failed.error,
                detail: failed.detail,
            }),
            _ => Err(Error::invalid("entry", "settles no effect of this run")),
        }
    }

    /// Settles an effect that is UNKNOWN or stuck, on the word of a person who has looked at the run up to the entry `seen`.
    ///
    /// # Errors
    /// [`Error::Rejected`] where the effect is neither, or changed after `seen` ([`Changed`](tape_core::reply::Rejection::Changed)).
    pub async fn settle(
        &self,
        run: &RunId,
        effect: EffectId,
        verdict: Verdict,
        seen: Seq,
        reason: &str,
    ) -> Result<Reply, Error> {
        self.tell(
            run,
            ExternalCommand::SettleEffect {
                effect,
                verdict,
                reason: reason.to_owned(),
                seen,
            },
        )
        .await
    }

    /// Settles an obligation, on the word of a person who has looked at the run up to the entry `seen`: tries again one that is stuck,
    /// or counts one as done that is stuck or is the next to be undone and that no worker has.
    ///
    /// # Errors
    /// [`Error::Rejected`] where a worker has it ([`Claimed`](tape_core::reply::Rejection::Claimed)), another is to be undone before it
    /// ([`NotNext`](tape_core::reply::Rejection::NotNext)), or its status does not allow this verdict
    /// ([`Invalid`](tape_core::reply::Rejection::Invalid)); where it changed after `seen`.
    pub async fn settle_obligation(
        &self,
        run: &RunId,
        obligation: ObligationId,
        retry: bool,
        seen: Seq,
        reason: &str,
    ) -> Result<Reply, Error> {
        self.tell(
            run,
            ExternalCommand::SettleObligation {
                obligation,
                retry,
                reason: reason.to_owned(),
                seen,
            },
        )
        .await
    }

    /// Ends the claim of a worker that is gone for good, on a person's word. `until` is when the claim ends, as the person has seen it.
    ///
    /// # Errors
    /// [`Error::Rejected`] where nothing is claimed, or the claim was taken or renewed since.
    pub async fn release_claim(
        &self,
        run: &RunId,
        claimed: Claimed,
        until: Timestamp,
        reason: &str,
    ) -> Result<Reply, Error> {
        let reason = reason.to_owned();
        let release = ExternalCommand::ReleaseClaim {
            claimed,
            until,
            reason,
        };
        self.tell(run, release).await
    }

    /// Ends the lease of a driver that is gone for good, on a person's word: the run can be driven again at once. Where the driver has
    /// written anything after the entry `seen`, nothing happens.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such run.
    pub async fn release_lease(&self, run: &RunId, epoch: Epoch, seen: Seq) -> Result<Reply, Error> {
        let release = ExternalCommand::DriverVanished {
            epoch,
            seen,
            grace_ms: 0,
        };
        self.tell(run, release).await
    }

    /// Lets a stuck run be re-driven again, on the word of a person who has looked at it up to the entry `seen`.
    ///
    /// # Errors
    /// [`Error::Rejected`] where the run is not stuck, or became so after `seen`.
    pub async fn retry(&self, run: &RunId, seen: Seq, reason: &str) -> Result<Reply, Error> {
        self.tell(
            run,
            ExternalCommand::RetryRun {
                reason: reason.to_owned(),
                seen,
            },
        )
        .await
    }

    /// Where a run ends by the journal's own account: its last entry and the chain digest there; none where there is no such run.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach, [`Error::Damaged`] where the account does not fit the entries.
    pub async fn head(&self, run: &RunId) -> Result<Option<(Seq, Digest)>, Error> {
        until_answered(self.tries(), || self.journal.head(run)).await
    }

    /// The driver of a run, by the journal's current time; none where there is no such run.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach, [`Error::Damaged`] where the run cannot be read.
    pub async fn driver(&self, run: &RunId) -> Result<Option<Driver>, Error> {
        until_answered(self.tries(), || self.journal.driver(run)).await
    }

    /// The journal's time, for uses that need no precision. A client of a server uses its own clock until the server has refused a request
    /// for its date, so the result may be up to ten minutes off if the machine's clock is.
    ///
    /// # Panics
    /// If the journal makes request ids without a date, which none does.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let dated = self.journal.request_id().made_at();
        dated.expect("a journal dates its requests")
    }

    /// All entries of a run, as they are stored, in pages. Where the journal has entries that are gone or that it does not account for,
    /// the last item is [`Error::Damaged`].
    pub fn journal(&self, run: &RunId) -> BoxStream<'static, Result<Vec<StoredEntry>, Error>> {
        let pages = self.journal.entries(run, Seq::ZERO, Until::End);
        pages.map(|page| page.map_err(Error::from)).boxed()
    }

    /// The feed: entries of every stream whose subjects fit, in order within each stream. Pages may be empty. An entry that cannot be
    /// read is reported in its page, and the feed continues after it.
    ///
    /// An [`Error::Unavailable`] is not the end: polled again, the feed continues where it was, after a pause that grows with each failure.
    /// Any other error is the last item.
    pub fn tail(&self, tail: &Tail) -> BoxStream<'static, Result<FeedPage, Error>> {
        self.journal
            .tail(tail)
            .map(|page| page.map_err(Error::from))
            .boxed()
    }

    /// Erases the payloads of entries on request, with every copy that the journal keeps; their envelopes and the chain stay whole. An
    /// entry of the stream says who, when and why; its place is returned.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such entry, there are none or more than 256, or there is no reason.
    pub async fn erase(&self, stream: &StreamId, entries: Vec<Seq>, reason: &str) -> Result<Seq, Error> {
        let reason = reason.to_owned();
        let command = self.stamp(Erasure { entries, reason });
        let send = |command| self.journal.erase(stream, command);
        self.execute(command, send).await
    }

    /// Retires a page of runs that ended long ago and drops their entries; one entry of each run stays and has how it ended.
    ///
    /// It may stop anywhere, be repeated and run several times at once: a retirement that was begun is found and finished.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is no reason or it is longer than 8 KiB; [`Error::Unavailable`] where the journal is out of reach.
    pub async fn retire(&self, retirement: &Retirement, page: Option<String>) -> Result<RetiredPage, Error> {
        // Here it has a name of its own in the error.
        check_reason(&retirement.reason).map_err(|wrong| Error::invalid(wrong.what, wrong.problem))?;
        let principal = self.settings.principal.as_ref();
        until_answered(self.tries(), || {
            self.journal.retire(retirement, principal, page.as_deref())
        })
        .await
    }

    /// Gives back a piece of the space that dropped entries still take, of all tenants. Whether there is more to do.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn reclaim(&self) -> Result<bool, Error> {
        until_answered(self.tries(), || self.journal.reclaim()).await
    }

    /// Where a stream of any kind ends by the journal's own account, with its snapshot; none where it is not there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach, [`Error::Damaged`] where the account does not fit the entries.
    pub async fn stream_end(&self, stream: &StreamId) -> Result<Option<StreamEnd>, Error> {
        until_answered(self.tries(), || self.journal.stream_end(stream)).await
    }

    /// All entries of a stream of any kind, as they are stored, in pages.
    pub fn stream_entries(&self, stream: &StreamId) -> BoxStream<'static, Result<Vec<StoredEntry>, Error>> {
        let pages = self.journal.stream_entries(stream);
        pages.map(|page| page.map_err(Error::from)).boxed()
    }

    /// Compares a page of the indexes of due work and of runs with what the streams imply, of all tenants, and corrects differences if
    /// asked to. It may stop anywhere, be repeated and run several times at once, while others write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the journal is out of reach.
    pub async fn check_index(&self, page: Option<String>, correct: bool) -> Result<IndexPage, Error> {
        until_answered(self.tries(), || {
            self.journal.check_index(page.as_deref(), correct)
        })
        .await
    }

    pub(crate) async fn tell(&self, run: &RunId, command: ExternalCommand) -> Result<Reply, Error> {
        self.command(run, RunCommand::External(command), None).await
    }

    /// Sends a command to a run until it is answered.
    pub(crate) async fn command(
        &self,
        run: &RunId,
        body: RunCommand,
        trace: Option<TraceParent>,
    ) -> Result<Reply, Error> {
        let command = Command {
            trace,
            ..self.stamp(body)
        };
        self.execute(command, |command| self.journal.run(run, command))
            .await
    }

    /// Sends a command until it is executed or refused.
    pub(crate) async fn execute<B: Clone, T, F>(
        &self,
        command: Command<B>,
        send: impl FnMut(Command<B>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, JournalError>>,
    {
        let fresh = || self.journal.request_id();
        until_executed(self.tries(), command, fresh, send).await
    }

    /// Tries of a request, from now on.
    pub(crate) fn tries(&self) -> Tries {
        Tries::within(self.settings.retry_for, Arc::clone(&self.environment))
    }

    pub(crate) fn stamp<B>(&self, body: B) -> Command<B> {
        Command {
            principal: self.settings.principal.clone(),
            ..Command::new(self.journal.request_id(), body)
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            principal: None,
            lease: Duration::from_secs(30),
            suspend_after: Duration::from_secs(10),
            retry_for: Duration::from_secs(60),
            agent_version: None,
            beginnings: Arc::default(),
            #[cfg(feature = "testing")]
            samples: None,
        }
    }
}
