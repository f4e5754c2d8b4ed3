//! `tape stuck`.

use crate::name::path;
use crate::text::time;
use crate::{Context, Failure, show};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::core::effect::{Status, Unreached};
use tape_client::core::id::{App, EffectId, GateName, Tenant};
use tape_client::core::run::{Effect, Gate, Obligation, ObligationStatus, Run};
use tape_client::core::stream::{RunStatus, Stream as _, Summary};
use tape_client::{RunId, RunQuery};

/// Lists what waits for a person: why, and what can be done about it. Gates that are open are among it.
#[derive(Debug, Args)]
pub(crate) struct Stuck {
    /// Whose.
    #[arg(long, env = "TAPE_TENANT")]
    tenant: Tenant,
    /// Of this app alone.
    #[arg(long)]
    app: Option<App>,
    /// Most runs that are looked at, of those that are stuck, wait and run; each is read from its begin.
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

/// Where something may wait for a person; gates are open while a run waits, or goes on with something else.
const STATUSES: [RunStatus; 4] = [
    RunStatus::Stuck,
    RunStatus::Suspended,
    RunStatus::Running,
    RunStatus::Compensating,
];

impl Stuck {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        for status in STATUSES {
            let query = RunQuery {
                app: self.app.clone(),
                status: Some(status),
                ..RunQuery::all(self.tenant.clone())
            };
            list(context, &query, self.limit).await?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(context: &mut Context<'_>, query: &RunQuery, limit: u32) -> Result<(), Failure> {
    let (mut page, mut left) = (None, limit);
    while left > 0 {
        let runs = context.tape.runs(query, page, left).await?;
        left = left.saturating_sub(u32::try_from(runs.runs.len()).unwrap_or(u32::MAX));
        for (run, summary) in runs.runs {
            let state = show::read(context, &run).await?.state;
            let matters = matters(&run, &state);
            if !matters.is_empty() {
                tell(context, &run, &summary, &matters)?;
            }
        }
        page = runs.next;
        if page.is_none() {
            break;
        }
    }
    Ok(())
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
    let effects = state.effects().iter().filter_map(|(id, it)| effect(&run, id, it));
    let undos = state.obligations().iter().filter_map(|it| undo(&run, it));
    let mut matters: Vec<Matter> = effects.chain(undos).collect();
    // The reason of the run itself is told first, and is none of theirs.
    let own = state
        .stuck()
        .filter(|why| matters.iter().all(|matter| matter.why != *why));
    matters.extend(own.map(|why| Matter {
        what: "the run".to_owned(),
        why: why.to_owned(),
        remedies: vec![format!("retry {run} --seen {} --reason WHY", state.seq())],
    }));
    matters.extend(state.effects().iter().filter_map(|(id, it)| away(id, it)));
    matters.extend(state.obligations().iter().filter_map(undo_away));
    matters.extend(state.gates().iter().filter_map(|(name, it)| gate(&run, name, it)));
    matters
}

fn effect(run: &str, id: &EffectId, effect: &Effect) -> Option<Matter> {
    (effect.status == Status::Stuck).then(|| Matter {
        what: format!("effect {id} {} {}", effect.connector, effect.operation),
        why: effect.stuck.clone().unwrap_or_default(),
        remedies: ["--confirmed RESULT", "--failed", "--resend"]
            .map(|verdict| {
                let attempt = effect.attempt;
                format!("settle {run} '{id}' {verdict} --attempt {attempt} --reason WHY")
            })
            .into(),
    })
}

fn undo(run: &str, obligation: &Obligation) -> Option<Matter> {
    let ObligationStatus::Stuck { reason } = &obligation.status else {
        return None;
    };
    let (effect, copy, attempt) = (&obligation.id.effect, obligation.id.copy, obligation.attempt);
    let (of, duplicate) = match copy {
        0 => (String::new(), String::new()),
        n => (format!("duplicate {n} of "), format!(" --duplicate {n}")),
    };
    Some(Matter {
        what: format!(
            "undo of {of}effect {effect} {} {}",
            obligation.connector, obligation.operation
        ),
        why: reason.clone(),
        remedies: vec![
            format!("retry {run} --undo '{effect}'{duplicate} --attempt {attempt} --reason WHY"),
            format!("settle {run} '{effect}' --undone{duplicate} --attempt {attempt} --reason WHY"),
        ],
    })
}

/// An effect whose upstream is not reached: it goes on by itself once that is.
fn away(id: &EffectId, effect: &Effect) -> Option<Matter> {
    let what = format!("effect {id} {} {}", effect.connector, effect.operation);
    unreached(what, &effect.unreached)
}

fn undo_away(obligation: &Obligation) -> Option<Matter> {
    let effect = &obligation.id.effect;
    let what = format!(
        "undo of effect {effect} {} {}",
        obligation.connector, obligation.operation
    );
    unreached(what, &obligation.unreached)
}

fn unreached(what: String, unreached: &Unreached) -> Option<Matter> {
    let why = unreached.why.as_ref()?;
    let times = unreached.in_a_row;
    Some(Matter {
        what,
        why: format!("its upstream was not reached {times} times in a row: {why}"),
        remedies: Vec::new(),
    })
}

fn gate(run: &str, name: &GateName, gate: &Gate) -> Option<Matter> {
    let Gate::Open { deadline, opened, .. } = gate else {
        return None;
    };
    let until = deadline.map(|at| format!(" until {}", time(at)));
    Some(Matter {
        what: format!("gate {name}"),
        why: format!("it waits for an answer{}", until.unwrap_or_default()),
        remedies: vec![
            format!("approve {run} '{name}' --seen {opened} --reason WHY"),
            format!("approve {run} '{name}' --seen {opened} --deny --reason WHY"),
        ],
    })
}
