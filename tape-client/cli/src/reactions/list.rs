//! `tape reactions list`.

use super::Named;
use crate::name::tenant;
use crate::text::time;
use crate::{Context, Failure, list};
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;
use tape_client::core::id::{Tenant, ValueName};
use tape_client::core::reaction::VALUES;
use tape_client::{Error, ValueQuery, ValueSummary};
use tape_relay::reactions::{Definition, Target, Then, reaction_of};

/// Values that are read at a time.
const PAGE: u32 = 256;

/// A tenant's reactions.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
}

impl List {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let prefix = ValueName::new(VALUES).map_err(Error::from)?;
        let query = ValueQuery {
            tenant: self.tenant,
            prefix: Some(prefix),
        };
        let (mut pages, mut listed) = (list::Pages::of(&query), 0);
        while let Some(page) = pages.next(context, PAGE).await? {
            for damaged in &page.damaged {
                list::tell_damaged(context, damaged)?;
            }
            for value in page.items.into_iter().filter(|value| !value.deleted) {
                let Some(name) = reaction_of(&value.name) else {
                    continue;
                };
                let tenant = query.tenant.clone();
                tell(context, &Named { name, tenant }, &value).await?;
                listed += 1;
            }
        }
        list::end(context, listed, None)
    }
}

async fn tell(context: &mut Context<'_>, named: &Named, found: &ValueSummary) -> Result<(), Failure> {
    let kept = super::kept::definition(context, named).await;
    let (changed, name) = (time(found.changed_at), named.name.as_str());
    let mut value = json!({ "reaction": name, "version": found.version, "changed": changed });
    let text = match kept {
        Ok((version, definition)) => {
            value["version"] = json!(version);
            value["definition"] = serde_json::to_value(&definition).map_err(std::io::Error::from)?;
            described(&definition)
        }
        Err(Failure::Misused(Error::Invalid { problem, .. })) => {
            value["problem"] = json!(problem);
            format!("not valid: {problem}")
        }
        Err(failure) => return Err(failure),
    };
    context.say(&value, &format!("{changed}  {name}  {text}"))
}

/// A definition in words.
fn described(definition: &Definition) -> String {
    let mut text = if definition.paused { "rests  " } else { "" }.to_owned();
    // Writing to a text does not fail.
    let _ = write!(text, "when {}", definition.when.pattern);
    if let Some(predicate) = &definition.when.predicate {
        let _ = write!(text, " and {predicate}");
    }
    let _ = match &definition.then {
        Then::Begin { app, .. } => write!(text, "  begins {app}"),
        Then::Signal { gate, run } => match run {
            Target::Same => write!(text, "  signals {gate} of the same run"),
            Target::Run(run) => write!(text, "  signals {gate} of {run}"),
        },
        Then::Outbox {
            connector, operation, ..
        } => write!(text, "  asks {connector} to {operation}"),
    };
    let bounds = [
        definition
            .debounce_ms
            .map(|millis| format!("after {millis} ms of quiet")),
        definition
            .concurrency
            .map(|most| format!("at most {most} at a time")),
        definition
            .rate
            .map(|rate| format!("at most {} in {} ms", rate.count, rate.per_ms)),
        (definition.repeats > 0).then(|| format!("repeats {} times", definition.repeats)),
    ];
    for bound in bounds.into_iter().flatten() {
        let _ = write!(text, ", {bound}");
    }
    text
}
