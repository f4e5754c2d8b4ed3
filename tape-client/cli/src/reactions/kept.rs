//! Definitions as the journal keeps them.

use super::Named;
use crate::{Context, Failure};
use serde_json::json;
use tape_client::{Error, Value, Versioned};
use tape_relay::reactions::{Definition, InvalidDefinition, value_name};

/// The value that keeps the definition of a reaction.
pub(super) fn value(context: &Context<'_>, named: &Named) -> Value {
    context.tape.value(named.tenant.clone(), value_name(&named.name))
}

/// The definition of a reaction that is there, and its version.
pub(super) async fn definition(context: &Context<'_>, named: &Named) -> Result<(u64, Definition), Failure> {
    let kept = value(context, named).get().await?;
    let Some(Versioned {
        version,
        value: Some(kept),
    }) = kept
    else {
        return Err(absent(named));
    };
    let definition = Definition::read(&named.tenant, &kept);
    Ok((version, definition.map_err(|problem| invalid(&problem))?))
}

/// Says what a reaction is now.
pub(super) fn say(context: &mut Context<'_>, named: &Named, version: u64, what: &str) -> Result<(), Failure> {
    let (name, tenant) = (named.name.as_str(), named.tenant.as_str());
    let value = json!({ "reaction": name, "tenant": tenant, "version": version, "is": what });
    context.say(&value, &format!("{name} of {tenant}: {what}, version {version}"))
}

pub(super) fn invalid(problem: &InvalidDefinition) -> Failure {
    misused(problem.to_string())
}

pub(super) fn absent(named: &Named) -> Failure {
    misused(format!("'{}' is none of tenant '{}'", named.name, named.tenant))
}

pub(super) const fn misused(problem: String) -> Failure {
    Failure::Misused(Error::Invalid {
        what: "reaction",
        problem,
    })
}
