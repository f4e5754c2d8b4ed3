//! What wakes the reactors: the journal, a subscription that is pulled from, or one that pushes.

use crate::config::{Misconfigured, WAIT_MS_MAX};
use clap::{Args, ValueEnum};
use std::sync::Arc;
use std::time::Duration;
use tape_environment::Environment;
use tape_identity::{Expected, JwksUrl, KeyCache, Verifier};
use tape_reactors::{PushEndpoint, Wake};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The flags about waking.
#[derive(Clone, Debug, Args)]
pub(crate) struct WakeFlags {
    /// What wakes the reactors: the journal itself, or messages about what it recorded, which Pub/Sub hands out or pushes.
    #[arg(
        long,
        env = "TAPE_REACTOR_WAKE",
        value_name = "BY",
        value_enum,
        default_value = "poll"
    )]
    wake: Source,
    /// With `--wake pubsub`: the subscription, as `projects/PROJECT/subscriptions/NAME`.
    #[arg(long, env = "TAPE_REACTOR_SUBSCRIPTION", value_name = "NAME")]
    subscription: Option<String>,
    /// With `--wake push`: the audience of the tokens that Pub/Sub shows at `POST /wake`.
    #[arg(long, env = "TAPE_REACTOR_PUSH_AUDIENCE", value_name = "AUDIENCE")]
    push_audience: Option<String>,
    /// With `--wake push`: the service account of these tokens. Any account can have a token for any audience.
    #[arg(long, env = "TAPE_REACTOR_PUSH_ACCOUNT", value_name = "EMAIL")]
    push_account: Option<String>,
    /// With `--wake push`: the issuer of these tokens, if it is not Google.
    #[arg(
        long,
        env = "TAPE_REACTOR_PUSH_ISSUER",
        value_name = "URL",
        requires = "jwks_url"
    )]
    push_issuer: Option<String>,
    /// With `--wake push`: where the issuer's keys are, if they are not Google's.
    #[arg(long, env = "TAPE_REACTOR_JWKS_URL", value_name = "URL")]
    jwks_url: Option<String>,
    /// The agenda is looked at this often, in milliseconds, even where nothing wakes the reactors; `off` stands for once a week. It takes
    /// precedence over `sweep_ms` of the configuration.
    #[arg(long, env = "TAPE_REACTOR_SWEEP", value_name = "MS", value_parser = sweep)]
    sweep: Option<Duration>,
    /// An emulator of Pub/Sub, as all its clients find it.
    #[cfg(feature = "pubsub")]
    #[arg(long, env = "PUBSUB_EMULATOR_HOST", value_name = "HOST:PORT", hide = true)]
    pubsub_emulator: Option<String>,
}

/// What wakes the reactors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The journal: a server pushes due work, a store is asked for changes.
    Poll,
    /// Messages that are pulled from a subscription of Pub/Sub.
    Pubsub,
    /// Messages that Pub/Sub pushes.
    Push,
}

/// What wakes the reactors, ready to start.
pub(crate) enum Waking {
    Journal,
    #[cfg(feature = "pubsub")]
    Pull(tape_reactors::PubsubWake, Wake),
    Push(PushEndpoint, Wake),
}

fn sweep(text: &str) -> Result<Duration, String> {
    if text == "off" {
        return Ok(Duration::from_millis(WAIT_MS_MAX));
    }
    match text.parse() {
        Ok(ms @ 1..=WAIT_MS_MAX) => Ok(Duration::from_millis(ms)),
        _ => Err(format!("wanted: `off`, or from 1 to {WAIT_MS_MAX} milliseconds")),
    }
}

/// Whose tokens the program takes at its endpoint.
#[cfg_attr(
    not(feature = "cloud-tasks"),
    expect(dead_code, reason = "no other build reads it")
)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushed<'a> {
    /// The service account.
    pub(crate) account: &'a str,
    /// The audience.
    pub(crate) audience: &'a str,
}

impl WakeFlags {
    /// Whose tokens wake the reactors; none where nothing is pushed.
    pub(crate) fn pushed(&self) -> Option<Pushed<'_>> {
        let (account, audience) = (self.push_account.as_deref()?, self.push_audience.as_deref()?);
        (self.wake == Source::Push).then_some(Pushed { account, audience })
    }

    /// How often the agenda is looked at, if that is said.
    pub(crate) const fn sweep(&self) -> Option<Duration> {
        self.sweep
    }

    /// Makes what is to wake the reactors. `listens` says whether the program has a port.
    pub(crate) async fn waking(
        &self,
        listens: bool,
        environment: &Arc<dyn Environment>,
        stop: &CancellationToken,
    ) -> Result<Waking, Misconfigured> {
        self.check()?;
        match self.wake {
            Source::Poll => Ok(Waking::Journal),
            Source::Pubsub => self.pull(environment).await,
            Source::Push if listens => self.push(environment, stop),
            Source::Push => Err(invalid(
                "--wake",
                "is `push`, which needs a port: `--listen ADDRESS`",
            )),
        }
    }

    /// A setting of another source is a mistake: it looks as if it were in force.
    fn check(&self) -> Result<(), Misconfigured> {
        let given = [
            ("--subscription", Source::Pubsub, self.subscription.is_some()),
            ("--push-audience", Source::Push, self.push_audience.is_some()),
            ("--push-account", Source::Push, self.push_account.is_some()),
            ("--push-issuer", Source::Push, self.push_issuer.is_some()),
            ("--jwks-url", Source::Push, self.jwks_url.is_some()),
        ];
        for (flag, of, is_given) in given {
            if is_given && of != self.wake {
                let problem = match of {
                    Source::Push => "is allowed beside `--wake push` only",
                    Source::Poll | Source::Pubsub => "is allowed beside `--wake pubsub` only",
                };
                return Err(invalid(flag, problem));
            }
        }
        Ok(())
    }

    #[cfg(feature = "pubsub")]
    async fn pull(&self, environment: &Arc<dyn Environment>) -> Result<Waking, Misconfigured> {
        let subscription = required("--subscription", self.subscription.as_deref())?;
        let emulator = self.pubsub_emulator.as_deref();
        let pull = tape_reactors::PubsubWake::new(subscription, emulator, Arc::clone(environment));
        let pull = pull.await.map_err(Misconfigured::Pubsub)?;
        Ok(Waking::Pull(pull, Wake::new()))
    }

    #[cfg(not(feature = "pubsub"))]
    #[expect(clippy::unused_async, reason = "it is called as the one of the other build")]
    async fn pull(&self, _: &Arc<dyn Environment>) -> Result<Waking, Misconfigured> {
        required("--subscription", self.subscription.as_deref())?;
        let problem = "is `pubsub`, which this build does not have: build it with `--features pubsub`";
        Err(invalid("--wake", problem))
    }

    fn push(
        &self,
        environment: &Arc<dyn Environment>,
        stop: &CancellationToken,
    ) -> Result<Waking, Misconfigured> {
        let audience = required("--push-audience", self.push_audience.as_deref())?;
        let account = required("--push-account", self.push_account.as_deref())?;
        let expected = match &self.push_issuer {
            Some(issuer) => Expected::new([issuer], [audience]),
            None => Expected::of_google([audience]),
        };
        let keys = JwksUrl::new(self.jwks_url.as_deref().unwrap_or(JwksUrl::GOOGLE));
        let keys = Arc::new(keys.map_err(Misconfigured::Keys)?);
        let keys = Arc::new(KeyCache::new(keys, Arc::clone(environment)));
        let verifier = Verifier::new(expected.of_account(account), keys, Arc::clone(environment));
        let wake = Wake::new();
        let endpoint = PushEndpoint::new(wake.clone(), verifier, Arc::clone(environment), stop.clone());
        Ok(Waking::Push(endpoint, wake))
    }
}

impl Waking {
    /// What wakes the reactors instead of the journal.
    pub(crate) const fn wake(&self) -> Option<&Wake> {
        match self {
            Self::Journal => None,
            #[cfg(feature = "pubsub")]
            Self::Pull(_, wake) => Some(wake),
            Self::Push(_, wake) => Some(wake),
        }
    }

    /// Starts what pulls. Returns the endpoint that is pushed to, for the program's port.
    #[cfg_attr(
        not(feature = "pubsub"),
        expect(unused_variables, reason = "only what pulls is a task of its own")
    )]
    pub(crate) fn start(self, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Option<PushEndpoint> {
        match self {
            Self::Journal => None,
            #[cfg(feature = "pubsub")]
            Self::Pull(pull, wake) => {
                tasks.spawn(pull.run(wake, stop.clone()));
                None
            }
            Self::Push(endpoint, _) => Some(endpoint),
        }
    }
}

fn required<'a>(flag: &str, given: Option<&'a str>) -> Result<&'a str, Misconfigured> {
    given.ok_or_else(|| invalid(flag, "is missing"))
}

fn invalid(key: &str, problem: &str) -> Misconfigured {
    Misconfigured::Invalid {
        key: key.to_owned(),
        problem: problem.to_owned(),
    }
}
