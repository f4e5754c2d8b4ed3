//! What a reaction is: when it acts, and what it does.

use crate::filter::{Filter, InvalidPredicate, Predicate};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use tape_core::agent_version::OWN;
use tape_core::id::{
    App, ConnectorName, GateName, InvalidName, Key, NameProblem, Operation, ReactionName, RelayId, RelayName,
    RunId, StreamId, Tenant, User, ValueName,
};
use tape_core::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use tape_core::payload::{InvalidPayload, Payload};
use tape_core::reaction;
use tape_core::subject::Pattern;
use tape_environment::Environment;

/// The form of definitions that this build writes and reads.
pub const FORM: u32 = 1;
/// Most labels of its own that a reaction gives the runs that it begins.
pub const LABELS_MAX: usize = 16;
/// Longest time for which a reaction waits for a stream to be quiet, in milliseconds: an hour.
pub const DEBOUNCE_MS_MAX: u64 = 3_600_000;
/// Most unfinished runs that a bound allows, and most runs of a rate.
pub const RUNS_MAX: u32 = 100_000;
/// The time that a rate is about, in milliseconds: from a second to a day.
pub const RATE_MS: RangeInclusive<u64> = 1_000..=86_400_000;
/// The word that stands for the run of the event.
const SAME: &str = "same";
/// How names of the relays of reactions begin.
const RELAYS: &str = "reaction:";

/// A reaction: a filter, and what happens for each entry that it chooses. It is kept as JSON in a value of its tenant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The form: [`FORM`].
    pub form: u32,
    /// To what it reacts.
    pub when: When,
    /// What it does.
    pub then: Then,
    /// Where it begins when it is carried for the first time.
    #[serde(default)]
    pub start: Begins,
    /// It acts on an entry only where no other that it chooses follows in the same stream within so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce_ms: Option<u64>,
    /// Most runs of it that are unfinished at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Most runs that it begins in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How often it may be among the reactions that led to an entry that it reacts to. It reacts to nothing that it caused itself where this is
    /// zero.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeats: u32,
    /// Whether it rests. It then keeps its place, and catches up later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Which entries a reaction chooses.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Their subjects.
    pub pattern: Pattern,
    /// What must be true of them, in CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate: Option<String>,
}

/// What a reaction does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Then {
    /// Begins a run, with the event as its input.
    Begin {
        /// Its app.
        app: App,
        /// Its user; `reaction` where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<User>,
        /// Labels that it gets beside those that name the reaction.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<Key, String>,
    },
    /// Signals a gate, with the event as the answer.
    Signal {
        /// The gate.
        gate: GateName,
        /// Of which run.
        run: Target,
    },
    /// Has a worker carry out an operation of a connector, by a run of the journal's own app.
    Outbox {
        /// The connector.
        connector: ConnectorName,
        /// The operation.
        operation: Operation,
        /// Whether the upstream would act twice if it were asked twice. Then a worker never asks again before the outcome is known.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        non_idempotent: bool,
        /// Its arguments; the event where there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<Box<RawValue>>,
    },
}

/// The run whose gate is signalled: `same`, or a run's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// That of the event.
    Same,
    /// A run of the tenant.
    Run(RunId),
}

/// Where a reaction begins that was never carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begins {
    /// With entries that are written from then on.
    #[default]
    Now,
    /// With the first entry of the feed.
    Beginning,
}

/// So many runs in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Runs.
    pub count: u32,
    /// Milliseconds, whenever they begin.
    pub per_ms: u64,
}

/// Why a definition cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDefinition {
    /// It is not a definition as this build knows it.
    #[error("it is no definition of a reaction: {0}")]
    Json(#[from] serde_json::Error),
    /// Its bytes were erased.
    #[error("its bytes were erased")]
    Erased,
    /// A newer build wrote it.
    #[error("`form` is {found}, this build knows {FORM}: a newer build wrote it")]
    Form {
        /// The form.
        found: u32,
    },
    /// A field makes no sense.
    #[error("`{field}` {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The predicate does not compile.
    #[error("`when.predicate` does not hold: {0}")]
    Predicate(#[from] InvalidPredicate),
    /// It is too large to be kept.
    #[error(transparent)]
    Size(#[from] InvalidPayload),
}

impl Definition {
    /// Reads a definition of a tenant, and checks everything but the predicate.
    ///
    /// # Errors
    /// [`InvalidDefinition`] names what is wrong.
    pub fn read(tenant: &Tenant, value: &Payload) -> Result<Self, InvalidDefinition> {
        let bytes = value.bytes().ok_or(InvalidDefinition::Erased)?;
        // A newer form may have fields that this build does not know: the number is read before.
        let Form { form } = serde_json::from_slice(bytes)?;
        if form != FORM {
            return Err(InvalidDefinition::Form { found: form });
        }
        let definition: Self = serde_json::from_slice(bytes)?;
        definition.check(tenant)?;
        Ok(definition)
    }

    /// The value that keeps it, with everything checked, the predicate too.
    ///
    /// # Errors
    /// [`InvalidDefinition`] names what is wrong.
    pub fn write(
        &self,
        tenant: &Tenant,
        environment: &Arc<dyn Environment>,
    ) -> Result<Payload, InvalidDefinition> {
        self.check(tenant)?;
        self.filter(environment)?;
        Ok(Payload::new(Payload::JSON, serde_json::to_vec(self)?)?)
    }

    /// The filter.
    ///
    /// # Errors
    /// [`InvalidDefinition::Predicate`].
    pub fn filter(&self, environment: &Arc<dyn Environment>) -> Result<Filter, InvalidDefinition> {
        let source = self.when.predicate.as_deref();
        let predicate = source.map(|source| Predicate::compile(source, environment));
        Ok(Filter::new(self.when.pattern.clone(), predicate.transpose()?))
    }

    fn check(&self, tenant: &Tenant) -> Result<(), InvalidDefinition> {
        if self.form != FORM {
            return Err(InvalidDefinition::Form { found: self.form });
        }
        if let Some(other) = self.when.pattern.tenant().filter(|of| of != tenant) {
            let problem = format!("chooses entries of '{other}' alone, and the reaction is of '{tenant}'");
            return Err(wrong("when.pattern", problem));
        }
        within("debounce_ms", self.debounce_ms, &(1..=DEBOUNCE_MS_MAX))?;
        within("concurrency", self.concurrency, &(1..=RUNS_MAX))?;
        within("rate.count", self.rate.map(|rate| rate.count), &(1..=RUNS_MAX))?;
        within("rate.per_ms", self.rate.map(|rate| rate.per_ms), &RATE_MS)?;
        match &self.then {
            Then::Begin { app, labels, .. } => check_begin(app, labels),
            Then::Signal { run, .. } => self.check_signal(tenant, run),
            Then::Outbox { .. } => Ok(()),
        }
    }

    fn check_signal(&self, tenant: &Tenant, target: &Target) -> Result<(), InvalidDefinition> {
        if self.concurrency.is_some() || self.rate.is_some() {
            let field = if self.concurrency.is_some() {
                "concurrency"
            } else {
                "rate"
            };
            let problem = "is for reactions that begin runs, and this one signals a gate";
            return Err(wrong(field, problem.to_owned()));
        }
        match target {
            Target::Run(run) if run.tenant != *tenant => {
                let problem = format!("is of '{}', and the reaction is of '{tenant}'", run.tenant);
                Err(wrong("then.signal.run", problem))
            }
            Target::Run(_) | Target::Same => Ok(()),
        }
    }
}

/// The form of a definition, whatever else it has.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

fn check_begin(app: &App, labels: &BTreeMap<Key, String>) -> Result<(), InvalidDefinition> {
    if app.as_str() == reaction::APP {
        let problem = format!("is '{app}', which is the journal's own app");
        return Err(wrong("then.begin.app", problem));
    }
    if labels.len() > LABELS_MAX {
        let problem = format!("has {} labels, the limit is {LABELS_MAX}", labels.len());
        return Err(wrong("then.begin.labels", problem));
    }
    for (key, value) in labels {
        if key.as_str().starts_with(OWN) {
            let problem = format!("has '{key}', and names that begin with '{OWN}' are the journal's own");
            return Err(wrong("then.begin.labels", problem));
        }
        if value.len() > TEXT_BYTES_MAX {
            let problem = format!(
                "has {} bytes for '{key}', the limit is {TEXT_BYTES_MAX}",
                value.len()
            );
            return Err(wrong("then.begin.labels", problem));
        }
    }
    Ok(())
}

fn within<T: PartialOrd + fmt::Display>(
    field: &'static str,
    given: Option<T>,
    allowed: &RangeInclusive<T>,
) -> Result<(), InvalidDefinition> {
    match given.filter(|given| !allowed.contains(given)) {
        Some(given) => {
            let (least, most) = (allowed.start(), allowed.end());
            Err(wrong(
                field,
                format!("is {given}: from {least} to {most} is allowed"),
            ))
        }
        None => Ok(()),
    }
}

const fn wrong(field: &'static str, problem: String) -> InvalidDefinition {
    InvalidDefinition::Field { field, problem }
}

impl FromStr for Target {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == SAME {
            return Ok(Self::Same);
        }
        let form = || InvalidName {
            what: "run",
            problem: NameProblem::Form {
                form: "tenant/app/user/session/invocation, or same",
            },
        };
        let (tenant, rest) = text.split_once('/').ok_or_else(form)?;
        match format!("{tenant}/run/{rest}").parse()? {
            StreamId::Run(run) => Ok(Self::Run(run)),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str(SAME),
            Self::Run(run) => run.fmt(f),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

/// The name of the value that keeps the definition of a reaction.
///
/// # Panics
/// Never: a name of a reaction is short enough.
#[must_use]
pub fn value_name(reaction: &ReactionName) -> ValueName {
    const { assert!(reaction::VALUES.len() + tape_core::limits::REACTION_NAME_BYTES_MAX <= NAME_BYTES_MAX) };
    ValueName::new(format!("{}{reaction}", reaction::VALUES))
        .expect("it is short, and has no control characters")
}

/// The reaction whose definition a value keeps; none where it is another value.
#[must_use]
pub fn reaction_of(value: &ValueName) -> Option<ReactionName> {
    let name = value.as_str().strip_prefix(reaction::VALUES)?;
    ReactionName::new(name).ok()
}

/// The relay that carries a reaction.
///
/// # Panics
/// Never: a name of a reaction is short enough.
#[must_use]
pub fn relay_id(tenant: &Tenant, reaction: &ReactionName) -> RelayId {
    const { assert!(RELAYS.len() + tape_core::limits::REACTION_NAME_BYTES_MAX <= NAME_BYTES_MAX) };
    RelayId {
        tenant: Some(tenant.clone()),
        name: RelayName::new(format!("{RELAYS}{reaction}"))
            .expect("it is short, and has no control characters"),
    }
}

/// The reaction that a relay carries; none where it is another relay.
#[must_use]
pub fn carried_by(relay: &RelayId) -> Option<(Tenant, ReactionName)> {
    let name = relay.name.as_str().strip_prefix(RELAYS)?;
    Some((relay.tenant.clone()?, ReactionName::new(name).ok()?))
}
