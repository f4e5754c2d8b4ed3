//! `tape gates`.

use crate::name::{path, tenant};
use crate::remedy::Remedy;
use crate::stuck::answers;
use crate::text::time;
use crate::{Context, Failure, list};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::id::{App, Tenant};
use tape_client::{GateQuery, OpenGate};

/// Lists the gates that wait for an answer, over all unfinished runs of a tenant, and the commands that answer them. Gates of the newest
/// runs come first.
#[derive(Debug, Args)]
pub(crate) struct Gates {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// Only gates of runs of this app.
    #[arg(long)]
    app: Option<App>,
    /// Most gates to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Gates {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = GateQuery {
            tenant: self.tenant,
            app: self.app,
        };
        list::all(context, &query, self.limit, tell).await?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(context: &mut Context<'_>, open: OpenGate) -> Result<(), Failure> {
    let run = path(&open.run);
    let remedies = answers(&run, &open.gate, open.opened);
    let (opened, deadline) = (time(open.opened_at), open.deadline.map(time));
    if context.print.json {
        let remedies = remedies.iter().map(Remedy::to_string);
        let remedies: Vec<String> = remedies.collect();
        return context.value(
            &json!({"run": run, "gate": open.gate, "opened": opened, "seq": open.opened.0,
            "deadline": deadline, "suspended": open.suspended, "remedies": remedies}),
        );
    }
    let until = deadline.map(|at| format!("  until {at}")).unwrap_or_default();
    let suspended = if open.suspended { "  suspended" } else { "" };
    // The name of the gate is free text: it comes last, so that it cannot imitate what stands before it.
    context.line(&format!("{opened}  {run}{until}{suspended}  gate {}", open.gate))?;
    for remedy in remedies {
        context.line(&format!("  tape {remedy}"))?;
    }
    Ok(())
}
