//! How a client of a journal is set up.

use crate::client::{Settings, Tape};
use crate::error::Error;
use crate::open::{open, open_existing};
use std::sync::Arc;
use std::time::Duration;
use tape_api::Journal;
use tape_core::id::{AgentVersion, Holder, Principal};
use tape_core::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
use tape_environment::{Environment, machine};

/// Sets up a [`Tape`].
#[derive(Clone, Debug)]
pub struct Connect {
    target: Target,
    /// None for that of the journal, or of the machine where a journal is opened.
    environment: Option<Arc<dyn Environment>>,
    /// None for one that no other process has.
    holder: Option<Holder>,
    settings: Settings,
    agent_version: Option<String>,
}

#[derive(Clone, Debug)]
enum Target {
    Url(String),
    /// The same, for a journal that must exist and is not created.
    Existing(String),
    Journal(Arc<dyn Journal>),
}

impl Tape {
    /// Connects to the journal at `url` with the usual settings; see [`Tape::at`] for others.
    ///
    /// A store in this process is opened now. A server is connected to when it is first needed, and again whenever
    /// the connection is lost.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the URL makes no sense, [`Error::Unavailable`] or [`Error::Damaged`] where a store cannot
    /// be opened.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::at(url).connect().await
    }

    /// Sets up a client of the journal at `url`.
    #[must_use]
    pub fn at(url: &str) -> Connect {
        Connect::to(Target::Url(url.to_owned()))
    }

    /// Sets up a client of the journal at `url`, which must exist already. It is not created, so a misspelt name is an error.
    #[must_use]
    pub fn at_existing(url: &str) -> Connect {
        Connect::to(Target::Existing(url.to_owned()))
    }

    /// Sets up a client of a journal that is open already, such as an engine in this process that others use beside it.
    #[must_use]
    pub fn over(journal: impl Journal) -> Connect {
        Connect::to(Target::Journal(Arc::new(journal)))
    }
}

impl Connect {
    fn to(target: Target) -> Self {
        Self {
            target,
            environment: None,
            holder: None,
            settings: Settings::default(),
            agent_version: None,
        }
    }

    /// Where the client takes the time and randomness from: names, jitter, and what a run samples. By default from the machine, and
    /// over a journal that is open already, from where that takes them.
    #[must_use]
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Where the values of samples come from.
    #[cfg(feature = "testing")]
    pub(crate) fn samples(mut self, samples: Arc<crate::testing::Samples>) -> Self {
        self.settings.samples = Some(samples);
        self
    }

    /// The principal that the journal records for what this client does.
    #[must_use]
    pub fn principal(mut self, principal: Principal) -> Self {
        self.settings.principal = Some(principal);
        self
    }

    /// The name under which leases are held; by default a name that is unique to this process.
    #[must_use]
    pub fn holder(mut self, holder: Holder) -> Self {
        self.holder = Some(holder);
        self
    }

    /// How long a lease lasts unless renewed, from 100 ms to an hour; 30 s by default. It is renewed in the background, at
    /// a third of its length, so tool calls may take longer than this.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How long a run waits in this process for a gate, a timer or an effect before it is suspended; 10 s by default.
    #[must_use]
    pub const fn suspend_after(mut self, wait: Duration) -> Self {
        self.settings.suspend_after = wait;
        self
    }

    /// How long a request is tried again while the journal is out of reach; 60 s by default.
    #[must_use]
    pub const fn retry_for(mut self, retry_for: Duration) -> Self {
        self.settings.retry_for = retry_for;
        self
    }

    /// The version of the agents in this process. Each run that this client begins keeps it ([`Run::agent_version`](crate::Run::agent_version)),
    /// `tape runs` shows it, and a re-driver or [`Host`](crate::Host) can choose by it which agent drives the run again. Drift names both versions.
    ///
    /// It is a label of the run, beside 31 others at most. A re-drive by another version is no drift by itself.
    #[must_use]
    pub fn agent_version(mut self, version: impl Into<String>) -> Self {
        self.agent_version = Some(version.into());
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Tape::connect`]; [`Error::Invalid`] where a setting makes no sense.
    pub async fn connect(self) -> Result<Tape, Error> {
        let (given, lease) = (self.environment.clone(), self.settings.lease);
        let environment = || given.unwrap_or_else(machine);
        let journal = match &self.target {
            Target::Url(url) => open(&url.parse()?, lease, environment()).await?,
            Target::Existing(url) => Box::pin(open_existing(&url.parse()?, lease, environment())).await?,
            Target::Journal(journal) => Arc::clone(journal),
        };
        self.with(journal)
    }

    fn with(mut self, journal: Arc<dyn Journal>) -> Result<Tape, Error> {
        let bounds = Duration::from_millis(LEASE_MS_MIN)..=Duration::from_millis(LEASE_MS_MAX);
        if !bounds.contains(&self.settings.lease) {
            return Err(Error::invalid("lease", "lasts from 100 ms to an hour"));
        }
        self.settings.agent_version = self.agent_version.map(AgentVersion::new).transpose()?;
        // A deadline must have a point in time.
        let longest = Duration::from_secs(365 * 86_400);
        self.settings.suspend_after = self.settings.suspend_after.min(longest);
        self.settings.retry_for = self.settings.retry_for.min(longest);
        let environment = self.environment.unwrap_or_else(|| journal.environment());
        Ok(Tape {
            holder: self.holder.unwrap_or_else(|| own_name(environment.as_ref())),
            journal,
            environment,
            settings: Arc::new(self.settings),
        })
    }
}

/// A name that no other process has.
fn own_name(environment: &dyn Environment) -> Holder {
    let name = format!(
        "{}-{:08x}",
        environment.process(),
        environment.random_u64() >> u32::BITS
    );
    Holder::new(name).expect("digits and a hyphen are a name")
}
