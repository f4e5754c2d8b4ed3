//! `tape retention`.

use crate::age::{Age, age};
use crate::name::{path, tenant};
use crate::text::counted;
use crate::{Context, Failure};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::Retirement;
use tape_client::core::id::Tenant;

/// Drops the entries of runs that ended long ago. One entry of each run stays. It has how the run ended, so that beginning the run again
/// still returns that, and the end of its chain. Exits with 1 if a run could not be retired.
///
/// The remaining entry has the run's name, its labels, how and when it ended, and its output. Business keys stay with the effects that took
/// them. The command may be interrupted, repeated and run several times at once. A published head of a dropped entry can no longer be
/// verified: publish the heads that `tape verify` prints afterwards.
#[derive(Debug, Args)]
pub(crate) struct Retention {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// How long ago runs must have ended: a number with d, h, m or s, such as 90d.
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Age,
    /// Why, for the record.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Prints what would be dropped, and drops nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What was done so far.
#[derive(Default)]
struct Count {
    runs: u64,
    entries: u64,
    left: u64,
}

impl Retention {
    pub(crate) const fn only_looks(&self) -> bool {
        self.dry_run
    }

    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        if !self.only_looks() {
            let (tenant, age) = (&self.tenant, &self.older_than.given);
            let what = format!(
                "drops for good all entries but the last of the runs of {tenant} that ended more than {age} ago; --dry-run counts them"
            );
            context.consent.ask(&what)?;
        }
        let retirement = Retirement {
            tenant: self.tenant.clone(),
            older_than: self.older_than.duration,
            // A dry run writes none.
            reason: self.reason.clone().unwrap_or_else(|| "dry run".to_owned()),
            dry_run: self.dry_run,
        };
        let (mut count, mut page) = (Count::default(), None);
        loop {
            let retired = context.tape.retire(&retirement, page).await?;
            count.runs += retired.runs;
            count.entries += retired.entries;
            for (run, problem) in retired.left {
                count.left += 1;
                let name = path(&run);
                let line = json!({"run": name, "left": problem});
                context.say(&line, &format!("LEFT  {name}  {problem}"))?;
            }
            page = retired.next;
            if page.is_none() {
                break;
            }
        }
        // Space is reclaimed for all tenants.
        while !self.dry_run && context.tape.reclaim().await? {}
        count.say(context, self.dry_run)?;
        Ok(if count.left == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Count {
    fn say(&self, context: &mut Context<'_>, dry_run: bool) -> Result<(), Failure> {
        let Self { runs, entries, left } = *self;
        let line = json!({"runs": runs, "entries": entries, "left": left, "dry_run": dry_run});
        let (runs, entries) = (counted(runs, "run", "runs"), counted(entries, "entry", "entries"));
        let did = if dry_run { "would be retired" } else { "retired" };
        let left = match left {
            0 => String::new(),
            left => format!(", {} left", counted(left, "run", "runs")),
        };
        context.say(&line, &format!("{runs} {did}, {entries} dropped{left}"))
    }
}
