//! The file of relays.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tape_core::id::RelayId;
use tape_core::limits::{LEASE_MS_MIN, RELAY_LEASE_MS_MAX};
use tape_core::subject::Pattern;
use tape_relay::{Settings, Start};

/// The longest wait that can be set, in milliseconds: a day.
const WAIT_MS_MAX: u64 = 24 * 3_600_000;
/// The longest time after which a sink that fails is disabled, in milliseconds: a year.
const DISABLE_MS_MAX: u64 = 365 * WAIT_MS_MAX;

/// The largest window that can be set, in events.
const WINDOW_EVENTS_MAX: u64 = 1_048_576;

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The relays, by their names.
    #[serde(default)]
    pub(crate) relays: BTreeMap<RelayId, Entry>,
}

/// A relay.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The subjects of the entries that it sends; all where none is given.
    pub(crate) pattern: Option<Pattern>,
    /// What must be true of an entry, in CEL.
    pub(crate) predicate: Option<String>,
    /// Where it begins: `now` (the default) or `beginning`.
    #[serde(default)]
    start: Begin,
    /// The `source` of events.
    pub(crate) source: Option<String>,
    /// What events have of payloads.
    #[serde(default)]
    pub(crate) payload: Payload,
    /// JSON pointers to values that are replaced, where `payload` is `redact`.
    #[serde(default)]
    pub(crate) redact: Vec<String>,
    /// What becomes of payloads to which none of these pointers leads: `omit` (the default) or `include`.
    pub(crate) redact_unmatched: Option<Unmatched>,
    /// The largest event, in bytes.
    pub(crate) event_bytes_max: Option<usize>,
    lease_ms: Option<u64>,
    move_ms: Option<u64>,
    backoff_max_ms: Option<u64>,
    disable_after_ms: Option<u64>,
    /// Zero for never.
    refuse_after_ms: Option<u64>,
    window_events: Option<u64>,
    pub(crate) json_lines: Option<JsonLines>,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) pubsub: Option<Pubsub>,
    /// Events go nowhere: for measurements.
    #[serde(default)]
    pub(crate) null: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Begin {
    #[default]
    Now,
    Beginning,
}

/// What events have of payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payload {
    #[default]
    Include,
    Omit,
    Redact,
}

/// What becomes of payloads in which nothing is to be replaced.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unmatched {
    Omit,
    Include,
}

/// A file of JSON lines.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonLines {
    pub(crate) path: PathBuf,
    /// A file over this size is closed, and a new one begun.
    pub(crate) bytes_max: Option<u64>,
    /// A file over this age is closed, and a new one begun.
    pub(crate) age_max_ms: Option<u64>,
}

/// An endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// Variables of the environment with the secrets that sign, the newest first.
    pub(crate) secrets_env: Vec<String>,
    /// Whether the network to the endpoint is trusted without TLS.
    #[serde(default)]
    pub(crate) insecure: bool,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) concurrency: Option<usize>,
    /// The statuses that refuse an event for good.
    pub(crate) refused: Option<Vec<u16>>,
}

/// A topic of Google Cloud Pub/Sub.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(feature = "pubsub"),
    expect(dead_code, reason = "read to refuse it by its name")
)]
pub(crate) struct Pubsub {
    /// `projects/PROJECT/topics/TOPIC`.
    pub(crate) topic: String,
    /// Whether messages have the stream of their event as their ordering key; by default they have.
    #[serde(default = "yes")]
    pub(crate) ordered: bool,
    /// A regional endpoint. Several publishers keep the order only if all of them publish in one region.
    pub(crate) endpoint: Option<String>,
    /// Whether the data of a message is the whole event as JSON, instead of the event's data.
    #[serde(default)]
    pub(crate) structured: bool,
}

const fn yes() -> bool {
    true
}

/// The configuration is not valid. No text repeats a value of the file that may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misconfigured {
    #[error("{path} cannot be read")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} makes no sense{}: {problem}", .line.map(|line| format!(" in line {line}")).unwrap_or_default())]
    Nonsense {
        path: String,
        line: Option<usize>,
        problem: String,
    },
    #[error("there is no relay to carry: name a file with relays by --config")]
    NoRelay,
    #[error("the file has no relay '{relay}'; it has {known}")]
    Unknown { relay: RelayId, known: String },
    #[error("relay '{relay}' needs exactly one of `json_lines`, `webhook`, `pubsub` and `null`")]
    Sinks { relay: RelayId },
    #[cfg(not(feature = "pubsub"))]
    #[error("relay '{relay}' has `pubsub`, and this build has no Pub/Sub: build with the feature `pubsub`")]
    NoPubsub { relay: RelayId },
    #[error("relay '{relay}': `{key}` {problem}")]
    Invalid {
        relay: RelayId,
        key: &'static str,
        problem: String,
    },
    #[error("{0}")]
    Log(String),
    #[error("no journal is named: say which by --store or TAPE_STORE")]
    NoStore,
    #[error(transparent)]
    Address(tape_client::Error),
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, Misconfigured> {
        let at = || path.display().to_string();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| Misconfigured::Unreadable { path: at(), source })?;
        toml::from_str(&text).map_err(|error: toml::de::Error| Misconfigured::Nonsense {
            path: at(),
            line: error
                .span()
                .map(|span| 1 + text[..span.start].matches('\n').count()),
            problem: error.message().lines().next().unwrap_or_default().to_owned(),
        })
    }
}

impl Entry {
    /// How the relay works.
    pub(crate) fn settings(&self, relay: &RelayId) -> Result<Settings, Misconfigured> {
        let usual = Settings::default();
        let within = |key, given: Option<u64>, allowed: RangeInclusive<u64>, usual: Duration| match given {
            None => Ok(usual),
            Some(given) => check(relay, key, given, &allowed).map(|()| Duration::from_millis(given)),
        };
        let disable_after = match self.disable_after_ms {
            Some(given) => {
                check(relay, "disable_after_ms", given, &(1_000..=DISABLE_MS_MAX))?;
                Some(Duration::from_millis(given))
            }
            None => self
                .webhook
                .as_ref()
                .map(|_| tape_relay::sinks::webhook::DEFAULT_DISABLED_AFTER),
        };
        let refuse_after = match self.refuse_after_ms {
            Some(0) => None,
            Some(given) => {
                check(relay, "refuse_after_ms", given, &(1_000..=DISABLE_MS_MAX))?;
                Some(Duration::from_millis(given))
            }
            None => usual.refuse_after,
        };
        let window_events = self.window_events.unwrap_or(usual.window_events);
        check(relay, "window_events", window_events, &(1..=WINDOW_EVENTS_MAX))?;
        Ok(Settings {
            start: match self.start {
                Begin::Now => Start::Now,
                Begin::Beginning => Start::Beginning,
            },
            lease: within(
                "lease_ms",
                self.lease_ms,
                LEASE_MS_MIN..=RELAY_LEASE_MS_MAX,
                usual.lease,
            )?,
            move_every: within("move_ms", self.move_ms, 0..=WAIT_MS_MAX, usual.move_every)?,
            backoff_max: within(
                "backoff_max_ms",
                self.backoff_max_ms,
                1..=WAIT_MS_MAX,
                usual.backoff_max,
            )?,
            disable_after,
            refuse_after,
            window_events,
            ..usual
        })
    }
}

fn check<T: PartialOrd + Display>(
    relay: &RelayId,
    key: &'static str,
    given: T,
    allowed: &RangeInclusive<T>,
) -> Result<(), Misconfigured> {
    if allowed.contains(&given) {
        return Ok(());
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(Misconfigured::Invalid {
        relay: relay.clone(),
        key,
        problem: format!("is {given}: from {least} to {most} is allowed"),
    })
}
