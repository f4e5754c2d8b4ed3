//! `tape queues`.

use crate::name::{misused, tenant};
use crate::text::time;
use crate::{Context, Failure, list};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::QueueSummary;
use tape_client::core::id::Tenant;

/// Says how much work is due in each queue, and since when the oldest of it is: whether the reactors keep up.
///
/// Only the work that is due longest is counted, of all tenants together. A count that may be too small says so. Work that was just done may
/// still be counted.
#[derive(Debug, Args)]
pub(crate) struct Queues {
    /// Only the work of this tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant, required_unless_present = "all")]
    tenant: Option<Tenant>,
    /// The work of all tenants.
    #[arg(long)]
    all: bool,
}

impl Queues {
    /// A tenant of the environment does not count where all tenants are named.
    pub(crate) fn forget_tenant(&mut self) {
        if self.all {
            self.tenant = None;
        }
    }

    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        if self.all && self.tenant.is_some() {
            let problem = "is one, and --all means all of them: say one of the two";
            return Err(misused(problem.to_owned()));
        }
        let queues = context.tape.queues(self.tenant.as_ref()).await?;
        for queue in &queues {
            tell(context, queue)?;
        }
        let cut = queues.iter().any(|queue| queue.more);
        let why = "where there are more, only the work that is due longest was counted";
        list::end(context, queues.len(), cut.then_some(why))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(context: &mut Context<'_>, summary: &QueueSummary) -> Result<(), Failure> {
    let QueueSummary { queue, due, more, .. } = summary;
    let oldest = summary.oldest_due.map(time);
    let value = json!({"queue": queue.as_str(), "due": due, "more": more, "oldest": oldest});
    let since = oldest.map(|at| format!(", the oldest since {at}"));
    let or_more = if *more { " or more" } else { "" };
    let text = format!(
        "{:<12}  {due}{or_more} due{}",
        queue.as_str(),
        since.unwrap_or_default()
    );
    context.say(&value, &text)
}
