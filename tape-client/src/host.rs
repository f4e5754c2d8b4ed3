//! A host of agents: begins their runs, and has them driven again until they end.

mod agent;
#[cfg(feature = "serve")]
mod endpoint;
mod queue;
mod serve;
#[cfg(feature = "signal")]
mod signals;

use crate::client::Tape;
use crate::error::Error;
use crate::retry::backoff;
use crate::run::{Begun, Run, RunBuilder, RunResult};
use agent::Agent;
use std::collections::BTreeMap;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::recovery;
use tape_core::agent_version::BegunBy;
use tape_core::id::{App, RunId};

/// Runs of each app that one host has under way at once, unless told otherwise.
const CONCURRENCY: usize = 16;
/// How long agents have to finish when the host is told to stop, unless told otherwise. With the time to release the others, that is less than
/// the 10 s after which many platforms kill a process.
const DRAIN: Duration = Duration::from_secs(8);

/// Agents in this process, by their apps, over any journal.
///
/// [`Host::drive`] begins a run and drives it. [`Host::serve_until`] finds the runs of its apps that have no driver, whether their process died or
/// what they waited for has come, and has each driven again. Several hosts over one journal share that work. Cheap to clone; the
/// clones share their bounds on runs at once.
///
/// ```
/// # use serde_json::{Value, json};
/// # use tape_client::{Error, Host, Run, RunId, Tape};
/// # async fn main() -> Result<(), Error> {
/// let tape = Tape::connect("memory:").await?;
/// let host = Host::new(tape).agent("greeter", async |run: Run| {
///     let name: String = run.input_json()?;
///     run.complete(&format!("hello, {name}")).await
/// });
/// let id = RunId::new("acme", "greeter", "ann", "s1", "i1")?;
/// let result = host.drive(host.tape().run(id).input_json(&"Ann")).await?;
/// assert_eq!(result.output::<String>()?, "hello, Ann");
/// # Ok(()) }
/// # tokio::runtime::Runtime::new().unwrap().block_on(main()).unwrap();
/// ```
///
/// # What an agent's error means
/// An agent hands errors up with `?`. What it hands up counts where it is so of its own run; the result or error of another run that it drives is
/// [`Error::Astray`]. [`Error::Suspended`]: the run waits without a driver, and the host leaves it. [`Error::LostLease`]:
/// another driver has the run. [`Error::Cancelled`]: the host accepts the cancellation. After any other error, and after a panic,
/// which is caught and logged, the run is released and is due to be driven again; how soon, and when a run that makes no progress waits for a person,
/// are rules of the journal.
#[derive(Clone, Debug)]
pub struct Host {
    tape: Tape,
    agents: BTreeMap<App, Agent>,
    concurrency: usize,
    drain: Duration,
    only_own_version: bool,
    #[cfg(feature = "serve")]
    endpoint: Option<endpoint::Endpoint>,
    /// Whether it looks for runs itself.
    watches: bool,
    /// The first setting that makes no sense, and why.
    refused: Option<(&'static str, String)>,
}

impl Host {
    /// A host without agents over the journal of `tape`.
    #[must_use]
    pub const fn new(tape: Tape) -> Self {
        Self {
            tape,
            agents: BTreeMap::new(),
            concurrency: CONCURRENCY,
            drain: DRAIN,
            only_own_version: false,
            #[cfg(feature = "serve")]
            endpoint: None,
            watches: true,
            refused: None,
        }
    }

    /// Adds the agent of an app: a function that drives a run to its end, or to an error.
    ///
    /// Where `app` is no name or has an agent already, [`Host::drive`] and [`Host::serve_until`] say so.
    #[must_use]
    pub fn agent<F, D>(mut self, app: &str, agent: F) -> Self
    where
        F: Fn(Run) -> D + Send + Sync + 'static,
        D: Future<Output = Result<RunResult, Error>> + Send + 'static,
    {
        let problem = match App::new(app) {
            Ok(app) if self.agents.contains_key(&app) => format!("'{app}' has an agent already"),
            Ok(app) => {
                self.agents.insert(app, Agent::new(agent, self.concurrency));
                return self;
            }
            Err(invalid) => invalid.problem.to_string(),
        };
        self.refused.get_or_insert(("app", problem));
        self
    }

    /// Runs of each app that are driven again at once, at least one; 16 by default. What [`Host::drive`] drives does not count.
    #[must_use]
    pub fn concurrency(mut self, runs: usize) -> Self {
        self.concurrency = runs;
        for agent in self.agents.values_mut() {
            agent.bound(runs);
        }
        self
    }

    /// How long agents have to finish when the host is told to stop; 8 s by default. One that is not done by then is dropped where it
    /// is, and its run is released to others.
    #[must_use]
    pub const fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Leaves runs that an agent of another version began to other processes. Its own version is that of its [`Tape`]
    /// ([`Connect::agent_version`](crate::Connect::agent_version)); a host without one takes the runs that were begun without one. No
    /// such host takes a run whose first entry was erased: its version is erased too. What [`Host::drive`] drives is not looked at.
    #[must_use]
    pub const fn only_own_version(mut self) -> Self {
        self.only_own_version = true;
        self
    }

    /// The journal.
    #[must_use]
    pub const fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Begins a run, or takes it up, and has its agent drive it. While another driver has the run, this waits: for the end of the run, or for the end of
    /// the other's lease, and goes on from there.
    ///
    /// # Cancellation
    /// Dropped, the agent is dropped where it is, and the run is free once its lease has run out.
    ///
    /// # Errors
    /// [`Error::Suspended`] where the run waits without a driver: a host that [serves](Host::serve_until) drives it on. [`Error::Invalid`] where the
    /// app has no agent here. [`Error::Panicked`] where the agent panicked, [`Error::Astray`] where it handed up what is not so of this run. Any other error of the agent or of [`RunBuilder::begin`].
    pub async fn drive(&self, run: RunBuilder) -> Result<RunResult, Error> {
        self.check()?;
        let app = &run.id().app;
        let none = || Error::invalid("app", format!("'{app}' has no agent here"));
        let agent = self.agents.get(app).ok_or_else(none)?.clone();
        let mut waits = backoff();
        loop {
            match run.clone().begin().await {
                Ok(Begun::Ended(result)) => return Ok(result),
                Ok(Begun::Driving(run)) => match agent.drive(run).await {
                    // It is of this run: another driver has it, or it has ended. Beginning it again says which.
                    Err(Error::LostLease { .. } | Error::Ended(_)) => {}
                    driven => return driven,
                },
                Err(Error::Busy { .. }) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(waits.next(self.tape.environment.chance())).await;
        }
    }

    /// Whether it takes a run, by the version of the agent that began it.
    async fn takes(&self, run: &RunId) -> Result<bool, JournalError> {
        if !self.only_own_version {
            return Ok(true);
        }
        let begun = recovery::begun_by(self.tape.journal.as_ref(), run).await?;
        let own = self.tape.settings.agent_version.clone();
        // Where the version was erased, it may be any.
        Ok(begun == own.map_or(BegunBy::NoVersion, BegunBy::Version))
    }

    /// # Errors
    /// [`Error::Invalid`] where a setting makes no sense.
    fn check(&self) -> Result<(), Error> {
        match &self.refused {
            Some((what, problem)) => Err(Error::invalid(what, problem)),
            None => Ok(()),
        }
    }
}
