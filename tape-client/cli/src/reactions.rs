//! `tape reactions`.

mod add;
mod change;
mod kept;
mod list;

use crate::name::tenant;
use crate::{Context, Failure};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use tape_client::core::id::{ReactionName, Tenant};

/// What the journal does by itself where an entry is written. `tape-relay --reactions TENANT` carries the reactions of a tenant.
#[derive(Debug, Subcommand)]
pub(crate) enum Reactions {
    /// Adds a reaction.
    Add(Box<add::Add>),
    /// Lists the reactions of a tenant, those that rest and those that are not valid too.
    List(list::List),
    /// Has a reaction rest: it keeps its place.
    Pause(Named),
    /// Has a reaction go on from its place, so that it catches up.
    Resume(Named),
    /// Removes a reaction and its place. What it began stays.
    Remove(Named),
}

/// A reaction of a tenant.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The reaction.
    name: ReactionName,
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
}

impl Reactions {
    /// Whether it changes nothing.
    pub(crate) const fn only_looks(&self) -> bool {
        matches!(self, Self::List(_))
    }

    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        match self {
            Self::Add(add) => add.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Pause(named) => change::rest(context, named, true).await,
            Self::Resume(named) => change::rest(context, named, false).await,
            Self::Remove(named) => change::remove(context, named).await,
        }?;
        Ok(ExitCode::SUCCESS)
    }
}
