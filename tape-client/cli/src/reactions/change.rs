//! `tape reactions pause`, `resume`, `remove`.

use super::{Named, kept};
use crate::{Context, Failure};
use std::sync::Arc;
use tape_client::environment::machine;

/// Has a reaction rest, or go on.
pub(super) async fn rest(context: &mut Context<'_>, named: Named, paused: bool) -> Result<(), Failure> {
    let (version, mut definition) = kept::definition(context, &named).await?;
    let what = if paused { "rests" } else { "goes on" };
    if definition.paused == paused {
        return kept::say(context, &named, version, what);
    }
    definition.paused = paused;
    let written = definition.write(&named.tenant, &Arc::clone(&machine()));
    let written = written.map_err(|problem| kept::invalid(&problem))?;
    let version = kept::value(context, &named)
        .compare_and_set(version, written)
        .await?;
    kept::say(context, &named, version, what)
}

/// Removes a reaction, also one that is not valid. The process that carries it forgets its place.
pub(super) async fn remove(context: &mut Context<'_>, named: Named) -> Result<(), Failure> {
    let value = kept::value(context, &named);
    let Some(found) = value.get().await?.filter(|found| found.value.is_some()) else {
        return Err(kept::absent(&named));
    };
    let version = value.delete(Some(found.version)).await?;
    kept::say(context, &named, version, "removed")
}
