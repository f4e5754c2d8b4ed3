//! The types of effects: what an effect is, how it is run, and what an upstream can answer about it.

use crate::budget::Spend;
use crate::entry::words::Words;
use crate::id::{BusinessKey, ConnectorName, Holder, Operation, Seq};
use crate::limits::{PREVIEW_BYTES_MAX, UNREACHED_BACKOFF_MS_MAX, UNREACHED_BACKOFF_MS_MIN};
use crate::payload::{ERASED, Payload};
use serde::{Deserialize, Serialize};

/// What happens if the same effect is sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// The upstream knows the effect key and acts once, however often it is sent. Its answer to one attempt holds for all attempts: if it
    /// says that the act failed for good, no attempt acted. An upstream that cannot promise this is [`Self::NonIdempotent`].
    Idempotent,
    /// The upstream would act twice.
    NonIdempotent,
    /// The upstream does not change.
    ReadOnly,
}

/// How an effect is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The driver itself, between two commits.
    Inline,
    /// A worker that takes it from the outbox.
    Outbox,
}

/// What an effect is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectSpec {
    /// The upstream.
    pub connector: ConnectorName,
    /// What is asked of it.
    pub operation: Operation,
    /// What happens if it is sent twice.
    pub semantics: Semantics,
    /// Who runs it.
    pub mode: Mode,
    /// The arguments.
    pub args: Payload,
    /// The business operation's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_key: Option<BusinessKey>,
    /// How to undo it once it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// What is reserved for it in budgets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserve: Vec<Spend>,
    /// How often it is tried and asked about.
    #[serde(default, skip_serializing_if = "EffectPolicy::is_default")]
    pub policy: EffectPolicy,
}

/// How to undo a confirmed effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// What is asked of the same connector.
    pub operation: Operation,
    /// The arguments.
    pub args: Payload,
}

/// How often an effect is tried, asked about and undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectPolicy {
    /// Most attempts that end in a definite, retryable failure; then the effect fails for good. It also fails if an observation finds it
    /// absent after so many attempts. It is also the most attempts at undoing; then the undo is stuck. Each attempt at undoing counts, also
    /// if its answer was lost or its worker vanished, unless the upstream was not reached.
    pub attempts_max: u32,
    /// Most observations that end inconclusive, and most in a row whose workers vanish; then it is stuck. The counts start anew when the
    /// effect is sent again.
    pub observations_max: u32,
    /// The first backoff, in milliseconds; it doubles each time.
    pub backoff_ms: u64,
    /// The longest backoff, in milliseconds.
    pub backoff_max_ms: u64,
    /// Whether a non-idempotent effect may be sent again, without a person, once an observation says that it is absent.
    pub resend_absent: bool,
}

impl Default for EffectPolicy {
    /// 10 attempts, 10 observations, backoff from 500 ms to 1 minute, no resend without a person.
    fn default() -> Self {
        Self {
            attempts_max: 10,
            observations_max: 10,
            backoff_ms: 500,
            backoff_max_ms: 60_000,
            resend_absent: false,
        }
    }
}

impl EffectPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The wait after the n-th failure, from 1, in milliseconds: doubled each time. It has no jitter, since the rules use no randomness.
    /// The limits of reactors, and the share that each of their copies takes, spread work that becomes due at once.
    #[must_use]
    pub fn backoff_after(&self, n: u32) -> u64 {
        let doublings = n.saturating_sub(1).min(40);
        self.backoff_ms
            .saturating_mul(1 << doublings)
            .min(self.backoff_max_ms)
    }

    /// The wait after the upstream was not reached for the n-th time in a row, from 1, in milliseconds. Nothing bounds how often that
    /// happens, so it is at least [`UNREACHED_BACKOFF_MS_MIN`] and may grow to [`UNREACHED_BACKOFF_MS_MAX`], whatever the policy says.
    #[must_use]
    pub fn backoff_unreached(&self, n: u32) -> u64 {
        let slower = Self {
            backoff_ms: self.backoff_ms.max(UNREACHED_BACKOFF_MS_MIN),
            backoff_max_ms: self.backoff_max_ms.max(UNREACHED_BACKOFF_MS_MAX),
            ..*self
        };
        slower.backoff_after(n)
    }
}

/// How often an upstream was not reached. Such attempts and observations do not count towards any bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// Attempts that did not reach it.
    pub attempts: u32,
    /// Attempts or observations in a row that did not reach it, the newest among them.
    pub in_a_row: u32,
    /// Why it was not reached the last time, cut to [`PREVIEW_BYTES_MAX`]; none once it was reached.
    pub why: Option<String>,
    /// The entry that has the reason.
    #[serde(default)]
    said_in: Seq,
}

impl Unreached {
    /// An attempt did not reach it.
    pub(crate) fn attempt(&mut self, why: &str, entry: Seq) {
        self.attempts = self.attempts.saturating_add(1);
        self.observation(why, entry);
    }

    /// An observation did not reach it.
    pub(crate) fn observation(&mut self, why: &str, entry: Seq) {
        self.said_in = entry;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.why = Some(why[..why.floor_char_boundary(PREVIEW_BYTES_MAX)].to_owned());
    }

    /// Erases the reason if it is from one of these entries.
    pub(crate) fn erase(&mut self, entries: &[Seq]) {
        if let Some(why) = self.why.as_mut().filter(|_| entries.contains(&self.said_in)) {
            ERASED.clone_into(why);
        }
    }

    /// The upstream was reached.
    pub(crate) fn over(&mut self) {
        (self.in_a_row, self.why) = (0, None);
    }
}

/// Where an effect stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its first or next attempt; it has not happened, as far as is known.
    Pending,
    /// The upstream is being called, or was when its caller vanished.
    Started,
    /// It happened.
    Confirmed,
    /// It did not happen and will not.
    Failed,
    /// It is unknown whether it happened.
    Unknown,
    /// A person must decide.
    Stuck,
}

impl Status {
    /// Its name as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Started => "started",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Stuck => "stuck",
        }
    }

    /// Whether its outcome is final.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed)
    }
}

/// Who settled an effect or an obligation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "who", rename_all = "snake_case")]
pub enum SettledBy {
    /// The driver, inline.
    Driver,
    /// A worker that dispatched it.
    Worker {
        /// The worker.
        holder: Holder,
    },
    /// A worker that asked the upstream.
    Observer {
        /// The worker.
        holder: Holder,
    },
    /// A person; the entry's principal says who.
    Person {
        /// Why.
        reason: String,
    },
    /// The rules themselves, as when a run fails before an effect was ever sent.
    Rule {
        /// The rule, in words.
        reason: String,
    },
}

impl SettledBy {
    /// The words of a person. The texts of the rules are not erasable.
    pub(crate) fn words_mut(&mut self) -> Option<&mut dyn Words> {
        match self {
            Self::Person { reason } => Some(reason),
            Self::Driver | Self::Worker { .. } | Self::Observer { .. } | Self::Rule { .. } => None,
        }
    }
}

/// What the upstream says about an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It happened once.
    Found,
    /// It did not happen, and no earlier attempt can still arrive.
    Absent,
    /// It happened more than once.
    Duplicate,
    /// The upstream could not say.
    Inconclusive,
    /// The upstream was not reached, and so was not asked.
    Unreached,
}
