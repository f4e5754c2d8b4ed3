//! `tape values`.

use crate::name::tenant;
use crate::text::time;
use crate::{Context, Failure, list};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::id::{StreamId, Tenant, ValueName};
use tape_client::{ValueQuery, ValueSummary};

/// Lists watchable values in the order of their names, deleted ones too: when each last changed, its version, and the full name of its
/// stream.
#[derive(Debug, Args)]
pub(crate) struct Values {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// Only values whose names begin with this.
    #[arg(long, value_name = "PREFIX")]
    name: Option<ValueName>,
    /// Most values to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Values {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = ValueQuery {
            tenant: self.tenant,
            prefix: self.name,
        };
        let tenant = query.tenant.clone();
        let tell = |context: &mut Context<'_>, found| tell(context, tenant.clone(), found);
        list::all(context, &query, self.limit, tell).await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(context: &mut Context<'_>, tenant: Tenant, found: ValueSummary) -> Result<(), Failure> {
    let ValueSummary {
        name,
        version,
        changed_at,
        deleted,
    } = found;
    let changed = time(changed_at);
    let stream = StreamId::Value {
        tenant,
        name: name.clone(),
    };
    let stream = stream.to_string();
    let value =
        json!({"stream": stream, "value": name, "version": version, "changed": changed, "deleted": deleted});
    let gone = if deleted { "  deleted" } else { "" };
    context.say(&value, &format!("{changed}  version {version}  {stream}{gone}"))
}
