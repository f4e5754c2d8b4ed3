//! The configuration of the program: flags, `TAPE_*` variables, and a TOML file for longer settings.

use crate::google::{CloudTasksEntry, PubsubEntry, TimersEntry};
use crate::waking::WakeFlags;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tape_core::id::{AgentVersion, App, ConnectorName, Holder};
use tape_core::limits::{LEASE_MS_MAX, LEASE_MS_MIN};
use tape_program::without_empty_variables;
use tape_reactors::HttpEndpoints;

/// Handles the due work of a Tape journal: re-drives runs whose drivers are gone, dispatches effects, asks for the outcome of effects whose
/// answer was lost, fires timers, and runs compensations. Any number of copies may run.
#[derive(Clone, Debug, Parser)]
#[command(name = "tape-reactor", version)]
pub(crate) struct Flags {
    /// The journal: a server, `tape://HOST:PORT`, or directly a store: `sqlite:PATH`, `postgres://...`, `alloydb://...`,
    /// `bigtable://PROJECT/INSTANCE/TABLE` or `spanner://PROJECT/INSTANCE/DATABASE`.
    #[arg(long, env = "TAPE_STORE", value_name = "URL", hide_env_values = true)]
    pub(crate) store: String,
    /// Connectors, agents and bounds.
    #[arg(long, env = "TAPE_REACTOR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Runs only these reactors.
    #[arg(
        long,
        env = "TAPE_REACTOR_ONLY",
        value_name = "REACTOR",
        value_delimiter = ',',
        value_enum
    )]
    pub(crate) only: Vec<Kind>,
    /// What wakes timers: the process itself, which sweeps the agenda, or tasks of Google Cloud Tasks.
    #[arg(
        long,
        env = "TAPE_REACTOR_TIMERS",
        value_name = "BY",
        value_enum,
        default_value = "sweep"
    )]
    pub(crate) timers: TimersBy,
    /// Where health and readiness are answered, at `/healthz` and `/readyz`; port 0 takes a free one.
    #[arg(long, env = "TAPE_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// The port to listen on at all addresses, as Cloud Run sets it; `--listen` and TAPE_LISTEN take precedence over PORT.
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The name under which work is claimed; by default a unique one.
    #[arg(long, env = "TAPE_HOLDER", value_name = "NAME")]
    pub(crate) holder: Option<Holder>,
    #[command(flatten)]
    pub(crate) waking: WakeFlags,
    /// After a stop signal, calls under way have this many milliseconds to finish; other processes take up the rest.
    #[arg(long, env = "TAPE_DRAIN_MS", value_name = "MS", default_value_t = 10_000)]
    pub(crate) drain_ms: u64,
    /// What is logged to standard error, such as `info` or `tape_reactors=debug,warn`.
    #[arg(long, env = "TAPE_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

/// The reactors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Kind {
    Recovery,
    Outbox,
    Reconciler,
    Timers,
    Compensation,
}

/// What wakes timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimersBy {
    /// The process itself.
    Sweep,
    /// Tasks of Google Cloud Tasks.
    CloudTasks,
}

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    /// A claim lapses after this long unless it is renewed.
    claim_ms: Option<u64>,
    /// An upstream has this long to answer.
    timeout_ms: Option<u64>,
    /// Recovery holds a run for this long at a time until its agent has adopted it.
    lease_ms: Option<u64>,
    /// Pieces of work under way at once, of each reactor.
    concurrency: Option<usize>,
    /// The agenda is looked at this often even where nothing wakes the reactors.
    sweep_ms: Option<u64>,
    pub(crate) timers: TimersEntry,
    pub(crate) connectors: BTreeMap<ConnectorName, ConnectorEntry>,
    pub(crate) agents: BTreeMap<App, AgentEntry>,
}

/// The settings of an upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectorEntry {
    pub(crate) http: Option<HttpEndpoints>,
    /// Headers with each request, by name. Words in braces stand for values of the call.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Headers whose values come from environment variables: the variables, by name of the header.
    #[serde(default)]
    pub(crate) headers_env: BTreeMap<String, String>,
    /// The program and its arguments.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) pubsub: Option<PubsubEntry>,
    pub(crate) cloud_tasks: Option<CloudTasksEntry>,
    /// More environment variables of the worker that the program inherits.
    #[serde(default)]
    pub(crate) env: Vec<String>,
    /// Calls under way at once.
    #[serde(default = "sixteen")]
    pub(crate) concurrency: usize,
}

/// An agent that drives runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentEntry {
    pub(crate) url: Option<String>,
    /// Who is there; by default an endpoint of the agent's own.
    pub(crate) kind: Option<AgentKind>,
    /// The program that drives a run, and its arguments.
    pub(crate) command: Option<Vec<String>>,
    /// Variables of the environment that the program has, too.
    #[serde(default)]
    pub(crate) env: Vec<String>,
    /// The method of the agent's class that Agent Engine is to call.
    pub(crate) method: Option<String>,
    /// The longest that the agent works on a run in one re-drive; by default an hour.
    timeout_ms: Option<u64>,
    /// Runs of the app that are re-driven at once; by default a quarter of the queue's places.
    concurrency: Option<usize>,
    /// The environment variable with the secret that requests are signed with.
    pub(crate) secret_env: Option<String>,
    /// Agents for the runs that these versions began. Each has settings of its own, and none of those beside it.
    #[serde(default)]
    pub(crate) versions: BTreeMap<AgentVersion, Self>,
}

/// How an agent is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AgentKind {
    Http,
    AgentEngine,
}

const fn sixteen() -> usize {
    16
}

/// The longest that an agent works on a run in one re-drive, where it says nothing else.
const WORK: Duration = Duration::from_hours(1);
/// The longest wait that can be set, in milliseconds: a week.
pub(crate) const WAIT_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// The shortest time between sweeps that are tasks, in milliseconds: each of them is a task of its own.
const TASKS_SWEEP_MS_MIN: u64 = 1_000;
/// Most calls or pieces of work under way at once.
const PLACES_MAX: usize = 10_000;

/// The configuration is not valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misconfigured {
    #[error("{path} cannot be read")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// No error repeats text of the file: it may have secrets.
    #[error("{path} makes no sense in line {line}: {problem}")]
    Nonsense {
        path: String,
        line: usize,
        problem: String,
    },
    #[error("connector '{connector}' is one of `http`, `command`, `pubsub` and `cloud_tasks`")]
    NotOneKind { connector: ConnectorName },
    #[error("`{of}` has either `url` or `command`")]
    NoAgent { of: String },
    #[error("`{key}` {problem}")]
    Invalid { key: String, problem: String },
    /// The value in place of the variable's name may be the secret itself, so it is not repeated.
    #[error("`{key}` names a variable of the environment that is not set, or empty")]
    NoVariable { key: String },
    #[error("{0}")]
    Log(String),
    #[error(transparent)]
    Address(tape_client::Error),
    #[cfg(feature = "pubsub")]
    #[error("`--wake pubsub` cannot be set up")]
    Pubsub(#[source] tape_reactors::PubsubError),
    #[error("`--jwks-url` cannot be used")]
    Keys(#[source] tape_identity::SourceError),
    #[error("'{of}' cannot be set up")]
    Http {
        of: String,
        #[source]
        source: tape_reactors::HttpError,
    },
}

impl Misconfigured {
    /// The error for the empty `command` of `of`.
    pub(crate) fn no_program(of: &str) -> Self {
        Self::Invalid {
            key: format!("{of}.command"),
            problem: "is empty: its first word is the program".to_owned(),
        }
    }
}

impl AgentEntry {
    fn check(&self, of: &str) -> Result<(), Misconfigured> {
        if let Some(given) = self.timeout_ms {
            within(&format!("{of}.timeout_ms"), given, &(1..=WAIT_MS_MAX))?;
        }
        if let Some(given) = self.concurrency {
            within(&format!("{of}.concurrency"), given, &(1..=PLACES_MAX))?;
        }
        self.check_versions(of)
    }

    fn check_versions(&self, of: &str) -> Result<(), Misconfigured> {
        // A setting that no agent has is a mistake. Without its secret, the requests of all versions would not be signed.
        let idle = !self.is_somewhere() && !self.versions.is_empty();
        if let Some(key) = self.settings().find(|_| idle) {
            return Err(Misconfigured::Invalid {
                key: format!("{of}.{key}"),
                problem: "is of no agent: beside it stands no `url` or `command`, and each of the `versions` has settings \
                          of its own"
                    .to_owned(),
            });
        }
        for (version, entry) in &self.versions {
            let of = format!("{of}.versions.{version}");
            if !entry.versions.is_empty() {
                return Err(Misconfigured::Invalid {
                    key: format!("{of}.versions"),
                    problem: "is within a version already".to_owned(),
                });
            }
            if self.secret_env.is_some() && entry.is_endpoint() && entry.secret_env.is_none() {
                return Err(Misconfigured::Invalid {
                    key: format!("{of}.secret_env"),
                    problem: "is not there, while the agent without a version has one: each has settings of its own"
                        .to_owned(),
                });
            }
            entry.check(&of)?;
        }
        Ok(())
    }

    /// Whether the entry says where an agent is.
    pub(crate) const fn is_somewhere(&self) -> bool {
        self.url.is_some() || self.command.is_some()
    }

    /// Whether the agent is an endpoint of its own, whose requests can be signed.
    const fn is_endpoint(&self) -> bool {
        self.url.is_some() && matches!(self.kind, None | Some(AgentKind::Http))
    }

    /// The keys of the settings that are given of an agent, beside where it is.
    fn settings(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("kind", self.kind.is_some()),
            ("env", !self.env.is_empty()),
            ("method", self.method.is_some()),
            ("timeout_ms", self.timeout_ms.is_some()),
            ("concurrency", self.concurrency.is_some()),
            ("secret_env", self.secret_env.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key)
    }

    /// The longest that the agent works on a run in one re-drive.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout_ms.map_or(WORK, Duration::from_millis)
    }
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, Misconfigured> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Misconfigured::Unreadable {
            path: shown.clone(),
            source,
        })?;
        Self::parse(&text, shown)
    }

    fn parse(text: &str, path: String) -> Result<Self, Misconfigured> {
        let file: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let before = before.unwrap_or_default();
            Misconfigured::Nonsense {
                path,
                line: before.matches('\n').count() + 1,
                problem: without_values(error.message(), before),
            }
        })?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<(), Misconfigured> {
        let claims = LEASE_MS_MIN..=LEASE_MS_MAX;
        for (key, given, allowed) in [
            ("claim_ms", self.claim_ms, claims.clone()),
            ("lease_ms", self.lease_ms, claims),
            ("timeout_ms", self.timeout_ms, 1..=WAIT_MS_MAX),
            ("sweep_ms", self.sweep_ms, 1..=WAIT_MS_MAX),
        ] {
            given.map_or(Ok(()), |given| within(key, given, &allowed))?;
        }
        if let Some(sweep) = self.timers.cloud_tasks.as_ref().and_then(|tasks| tasks.sweep_ms) {
            within(
                "timers.cloud_tasks.sweep_ms",
                sweep,
                &(TASKS_SWEEP_MS_MIN..=WAIT_MS_MAX),
            )?;
        }
        let places = 1..=PLACES_MAX;
        self.concurrency
            .map_or(Ok(()), |given| within("concurrency", given, &places))?;
        for (name, entry) in &self.connectors {
            within(
                &format!("connectors.{name}.concurrency"),
                entry.concurrency,
                &places,
            )?;
        }
        for (name, entry) in &self.agents {
            entry.check(&format!("agents.{name}"))?;
        }
        Ok(())
    }

    pub(crate) fn terms(&self) -> tape_reactors::Terms {
        let usual = tape_reactors::Terms::default();
        tape_reactors::Terms {
            claim: self.claim_ms.map_or(usual.claim, Duration::from_millis),
            timeout: self.timeout_ms.map_or(usual.timeout, Duration::from_millis),
        }
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease_ms
            .map_or(Duration::from_secs(30), Duration::from_millis)
    }

    /// How many runs of an agent are re-driven at once: its own bound, or one that leaves room for other agents where this one hangs.
    pub(crate) fn places(&self, agent: &AgentEntry) -> usize {
        let share = self.options().concurrency / 4;
        agent.concurrency.unwrap_or(share).max(1)
    }

    pub(crate) fn options(&self) -> tape_reactors::Options {
        let usual = tape_reactors::Options::default();
        tape_reactors::Options {
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            sweep: self.sweep_ms.map_or(usual.sweep, Duration::from_millis),
            ..usual
        }
    }
}

/// The precedence of the source of an argument.
fn said(matches: &ArgMatches, argument: &str) -> u8 {
    match matches.value_source(argument) {
        None => 0,
        Some(ValueSource::CommandLine) => 2,
        Some(_) => 1,
    }
}

/// The problem, without any value of the file, however it is written: any value may be a secret. The names of keys stay, and what was
/// expected.
fn without_values(message: &str, before: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let about_keys = ["unknown field ", "missing field ", "duplicate key"];
    if about_keys.iter().any(|begin| message.starts_with(begin)) {
        return message.to_owned();
    }
    // A value may contain these words itself: the last ones are the parser's.
    let wanted = message.rsplit_once(", expected ").map(|(_, wanted)| wanted);
    match (key_of_value(before), wanted) {
        (Some(key), Some(wanted)) => format!("`{key}` has another value than {wanted}"),
        (Some(key), None) => format!("`{key}` has a value that cannot be taken"),
        (None, Some(wanted)) => format!("expected {wanted}"),
        (None, None) => "what stands there is no TOML, or no value that can be taken".to_owned(),
    }
}

/// The key of a value, from the text before the value.
fn key_of_value(before: &str) -> Option<&str> {
    let before = before.trim_end().strip_suffix('=')?.trim_end();
    let key = before
        .rsplit(|c: char| c.is_whitespace() || "{,.".contains(c))
        .next()?;
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!key.is_empty() && key.chars().all(bare)).then_some(key)
}

fn within<T: PartialOrd + Display>(
    key: &str,
    given: T,
    allowed: &RangeInclusive<T>,
) -> Result<(), Misconfigured> {
    if allowed.contains(&given) {
        return Ok(());
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(Misconfigured::Invalid {
        key: key.to_owned(),
        problem: format!("is {given}: from {least} to {most} is allowed"),
    })
}

impl Flags {
    /// Ends the program where they are not valid.
    pub(crate) fn of_arguments() -> Self {
        let matches = without_empty_variables(Self::command()).get_matches();
        let flags = Self::from_arg_matches(&matches);
        let mut flags = flags.unwrap_or_else(|error| error.exit());
        // A platform sets PORT by itself. The setting of this program takes precedence, and a flag over a variable.
        if said(&matches, "listen") >= said(&matches, "port") {
            flags.port = flags.port.filter(|_| flags.listen.is_none());
        } else {
            flags.listen = None;
        }
        flags
    }

    /// The reactors to run.
    pub(crate) fn kinds(&self) -> &[Kind] {
        if self.only.is_empty() {
            Kind::value_variants()
        } else {
            &self.only
        }
    }

    /// Where to listen.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let everywhere = |port| SocketAddr::from(([0, 0, 0, 0], port));
        self.listen.or_else(|| self.port.map(everywhere))
    }
}
