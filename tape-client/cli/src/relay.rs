//! `tape relay`: where relays are, what a person does about them, and what they have on record.

mod control;
mod list;
mod parts;
mod record;
mod status;

use crate::consent::Weight;
use crate::name::misused;
use crate::{Context, Failure};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use tape_client::Error;
use tape_client::core::id::{RelayId, RelayStream, Tenant};

/// Shows where relays are in the feed, stops them or puts them elsewhere, and shows what they have on record.
///
/// A relay sends the feed to another system. It is named TENANT/NAME where it sends the entries of one tenant, and '*/NAME' where it sends
/// those of all tenants; in each part `%`, `/`, `.`, `*`, `>` and space are percent-encoded.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(list::List),
    Status(status::Status),
    Reset(control::Reset),
    Disable(control::Disable),
    Enable(control::Enable),
    Forget(control::Forget),
    Refused(record::Refused),
    Receipts(record::Receipts),
    Receipt(record::Receipt),
}

impl Relay {
    pub(crate) const fn weight(&self) -> Weight {
        match self.what {
            What::List(_) | What::Status(_) | What::Refused(_) | What::Receipts(_) => Weight::Light,
            What::Disable(_) | What::Enable(_) | What::Receipt(_) => Weight::Decides,
            What::Reset(_) | What::Forget(_) => Weight::Final,
        }
    }

    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        match self.what {
            What::List(command) => command.run(context).await,
            What::Status(command) => command.run(context).await,
            What::Reset(command) => command.run(context).await,
            What::Disable(command) => command.run(context).await,
            What::Enable(command) => command.run(context).await,
            What::Forget(command) => command.run(context).await,
            What::Refused(command) => command.run(context).await,
            What::Receipts(command) => command.run(context).await,
            What::Receipt(command) => command.run(context).await,
        }
    }
}

/// The failure for a relay that has no parts.
fn unknown(relay: &RelayId) -> Failure {
    Failure::Tape(Error::Invalid {
        what: "relay",
        problem: format!("no process has carried a part of {relay} yet"),
    })
}

/// The stream of a relay in a tenant, which a relay of one tenant has only in that one.
fn stream(relay: &RelayId, tenant: Option<&Tenant>) -> Result<RelayStream, Failure> {
    let Some(tenant) = tenant.or(relay.tenant.as_ref()) else {
        let problem = format!("has to be said with --tenant: {relay} has a record in each tenant");
        return Err(misused(problem));
    };
    let stream = RelayStream::of(relay, tenant);
    stream.ok_or_else(|| misused(format!("is '{tenant}', and {relay} is of another")))
}
