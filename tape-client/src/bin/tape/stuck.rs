//! `tape stuck`.

use crate::name::path;
use crate::text::time;
use crate::{Context, Failure, show};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::effect::Status;
use tape_client::core::id::{App, Tenant};
use tape_client::core::run::{ObligationStatus, Run};
use tape_client::core::stream::{RunStatus, Summary};
use tape_client::{RunId, RunQuery};

/// Lists what waits for a person: why, and what can be done about it.
#[derive(Debug, Args)]
pub(crate) struct Stuck {
    /// Whose.
    #[arg(long, env = "TAPE_TENANT")]
    tenant: Tenant,
    /// Of this app alone.
    #[arg(long)]
    app: Option<App>,
    /// Most runs; each is read from its begin.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// One thing that waits for a person.
struct Matter {
    what: String,
    why: String,
    /// What can be done: what comes after `tape` on the command line.
    remedies: Vec<String>,
}

impl Stuck {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = RunQuery {
            app: self.app,
            status: Some(RunStatus::Stuck),
            ..RunQuery::all(self.tenant)
        };
        let (mut page, mut left) = (None, self.limit);
        while left > 0 {
            let runs = context.tape.runs(&query, page, left).await?;
            left = left.saturating_sub(u32::try_from(runs.runs.len()).unwrap_or(u32::MAX));
            for (run, summary) in runs.runs {
                let state = show::read(context, &run).await?.state;
                tell(context, &run, &summary, &matters(&run, &state))?;
            }
            page = runs.next;
            if page.is_none() {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn tell(
    context: &mut Context<'_>,
    run: &RunId,
    summary: &Summary,
    matters: &[Matter],
) -> Result<(), Failure> {
    let since = time(summary.changed_at);
    if context.json {
        for Matter { what, why, remedies } in matters {
            let line =
                json!({"run": path(run), "since": since, "what": what, "why": why, "remedies": remedies});
            context.value(&line)?;
        }
        return Ok(());
    }
    context.line(&format!("{}  since {since}", path(run)))?;
    for Matter { what, why, remedies } in matters {
        context.line(&format!("  {what}: {why}"))?;
        for remedy in remedies {
            context.line(&format!("    tape {remedy}"))?;
        }
    }
    Ok(())
}

fn matters(run: &RunId, state: &Run) -> Vec<Matter> {
    let run = path(run);
    let mut matters = Vec::new();
    let effects = state.effects().iter();
    for (id, effect) in effects.filter(|(_, effect)| effect.status == Status::Stuck) {
        matters.push(Matter {
            what: format!("effect {id} {} {}", effect.connector, effect.operation),
            why: effect.stuck.clone().unwrap_or_default(),
            remedies: ["--confirmed RESULT", "--failed", "--resend"]
                .map(|verdict| format!("settle {run} '{id}' {verdict} --reason WHY"))
                .into(),
        });
    }
    for obligation in state.obligations() {
        let ObligationStatus::Stuck { reason } = &obligation.status else {
            continue;
        };
        let (effect, copy) = (&obligation.id.effect, obligation.id.copy);
        let (of, duplicate) = match copy {
            0 => (String::new(), String::new()),
            n => (format!("duplicate {n} of "), format!(" --duplicate {n}")),
        };
        matters.push(Matter {
            what: format!(
                "undo of {of}effect {effect} {} {}",
                obligation.connector, obligation.operation
            ),
            why: reason.clone(),
            remedies: vec![
                format!("retry {run} --undo '{effect}'{duplicate} --reason WHY"),
                format!("settle {run} '{effect}' --undone{duplicate} --reason WHY"),
            ],
        });
    }
    if matters.is_empty() {
        matters.push(Matter {
            what: "the run".to_owned(),
            why: state.stuck().unwrap_or_default().to_owned(),
            remedies: vec![format!("retry {run} --reason WHY")],
        });
    }
    matters
}
