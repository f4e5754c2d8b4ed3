//! `tape key`.

use crate::name::{path, tenant};
use crate::remedy::Remedy;
use crate::text::time;
use crate::{Context, Failure};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::Error;
use tape_client::core::id::{BusinessKey, ConnectorName, Tenant};
use tape_client::core::reply::{Missing, Rejection};

/// Says which effect has a business key, and since when. Exits with 1 where the key is not taken.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// The connector.
    connector: ConnectorName,
    /// The business key.
    key: BusinessKey,
}

impl Key {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let owner = context.tape.key_owner(&self.tenant, &self.connector, &self.key);
        let not_taken = || Error::Rejected(Box::new(Rejection::not_found(Missing::BusinessKey)));
        let owner = owner.await?.ok_or_else(not_taken)?;
        let (run, effect, taken) = (path(&owner.run), owner.effect, time(owner.taken_at));
        let remedy = Remedy::new("show").name(&run);
        let value = json!({"run": run, "effect": effect.to_string(), "taken": taken, "remedies": [remedy.to_string()]});
        context.say(&value, &format!("{taken}  {run}  effect {effect}"))?;
        context.note(&format!("  tape {remedy}"))?;
        Ok(ExitCode::SUCCESS)
    }
}
