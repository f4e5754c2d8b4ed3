//! `tape stuck`.

use crate::age::{Age, age};
use crate::list::{self, Pages};
use crate::name::{path, tenant};
use crate::remedy::Remedy;
use crate::text::time;
use crate::{Context, Failure, overdue, show};
use clap::Args;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use tape_client::core::causes::Causes;
use tape_client::core::decider::Decider as _;
use tape_client::core::effect::{Status, Unreached};
use tape_client::core::id::{App, EffectId, GateName, Seq, Tenant};
use tape_client::core::run::{Effect, Gate, Obligation, ObligationStatus, Run};
use tape_client::core::status::{RunStatus, Summary};
use tape_client::{Error, RunId, RunQuery};

/// Lists everything that waits for a person, why, and what can be done about it. This includes open gates, and work that was due long ago,
/// such as work of a connector that no process has.
#[derive(Debug, Args)]
pub(crate) struct Stuck {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// Only runs of this app.
    #[arg(long)]
    app: Option<App>,
    /// Most runs to look at in each of the statuses stuck, suspended, running and compensating; each run is read from its beginning.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Also lists work that was due longer ago than this and that no worker has: a number with d, h, m or s.
    #[arg(long, value_name = "DURATION", value_parser = age, default_value = "5m")]
    overdue: Age,
}

/// One thing that waits for a person.
pub(crate) struct Matter {
    pub(crate) what: String,
    pub(crate) why: String,
    /// What can be done: what comes after `tape` on the command line.
    pub(crate) remedies: Vec<Remedy>,
}

/// The statuses in which something may wait for a person. A gate may be open while a run waits or does something else.
const STATUSES: [RunStatus; 4] = [
    RunStatus::Stuck,
    RunStatus::Suspended,
    RunStatus::Running,
    RunStatus::Compensating,
];

impl Stuck {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let (mut listed, mut cut) = (0, Vec::new());
        for status in STATUSES {
            let query = RunQuery {
                app: self.app.clone(),
                statuses: BTreeSet::from([status]),
                ..RunQuery::all(self.tenant.clone())
            };
            let looked = self.look(context, &query).await?;
            listed += looked.matters;
            if looked.cut {
                cut.push(status.as_str());
            }
        }
        let limit = self.limit;
        let cut = (!cut.is_empty()).then(|| {
            let cut = cut.join(", ");
            format!(
                "only the newest {limit} runs were looked at of those that are {cut}; --limit N looks at more"
            )
        });
        list::end(context, listed, cut.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }

    async fn look(&self, context: &mut Context<'_>, query: &RunQuery) -> Result<Looked, Failure> {
        let (mut pages, mut left, mut listed) = (Pages::of(query), self.limit, 0);
        while left > 0
            && let Some(page) = pages.next(context, left).await?
        {
            left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
            for (run, summary) in page.items {
                let matters = match show::read(context, &run).await {
                    Ok(reading) => self.matters(context, &run, &reading.state),
                    // A run that cannot be read must not hide the others.
                    Err(Failure::Tape(error @ Error::Damaged { .. })) => vec![damaged(&run, &error)],
                    Err(failure) => return Err(failure),
                };
                if !matters.is_empty() {
                    tell(context, &run, &summary, &matters)?;
                }
                listed += matters.len();
            }
        }
        let cut = !pages.is_over();
        Ok(Looked { matters: listed, cut })
    }

    fn matters(&self, context: &Context<'_>, run: &RunId, state: &Run) -> Vec<Matter> {
        let millis = u64::try_from(self.overdue.duration.as_millis()).unwrap_or(u64::MAX);
        let due_by = context.tape.now().minus_millis(millis);
        let mut matters = matters(run, state);
        matters.extend(overdue::matters(run, state, due_by));
        matters
    }
}

/// The runs in a status that were looked at.
struct Looked {
    matters: usize,
    cut: bool,
}

/// A run that cannot be read.
fn damaged(run: &RunId, error: &Error) -> Matter {
    Matter {
        what: "the run".to_owned(),
        why: format!("it is damaged: {}", Causes(error)),
        remedies: vec![Remedy::new("verify").name(path(run))],
    }
}

fn tell(
    context: &mut Context<'_>,
    run: &RunId,
    summary: &Summary,
    matters: &[Matter],
) -> Result<(), Failure> {
    let since = time(summary.changed_at);
    if context.print.json {
        for Matter { what, why, remedies } in matters {
            let remedies: Vec<String> = remedies.iter().map(Remedy::to_string).collect();
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
    // The run's own reason is listed too, unless one of its effects or undos has the same reason.
    let own = state
        .stuck()
        .filter(|why| matters.iter().all(|matter| matter.why != *why));
    matters.extend(own.map(|why| Matter {
        what: "the run".to_owned(),
        why: why.to_owned(),
        remedies: vec![because(
            Remedy::new("retry").name(&run).option("--seen", state.seq()),
        )],
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
        remedies: verdicts(run, id, effect),
    })
}

/// The verdicts that a person can give on an effect.
pub(crate) fn verdicts(run: &str, id: &EffectId, effect: &Effect) -> Vec<Remedy> {
    ["--confirmed RESULT", "--failed", "--resend"]
        .map(|verdict| {
            let settle = Remedy::new("settle").name(run).name(id).words(verdict);
            because(settle.option("--attempt", effect.attempt))
        })
        .into()
}

fn undo(run: &str, obligation: &Obligation) -> Option<Matter> {
    let ObligationStatus::Stuck { reason } = &obligation.status else {
        return None;
    };
    let effect = &obligation.id.effect;
    let of = match obligation.id.copy {
        0 => String::new(),
        n => format!("duplicate {n} of "),
    };
    let again = Remedy::new("retry").name(run).option("--undo", effect);
    Some(Matter {
        what: format!(
            "undo of {of}effect {effect} {} {}",
            obligation.connector, obligation.operation
        ),
        why: reason.clone(),
        remedies: vec![pinned(again, obligation), undone(run, obligation)],
    })
}

/// The verdict that it was undone by hand.
pub(crate) fn undone(run: &str, obligation: &Obligation) -> Remedy {
    let settle = Remedy::new("settle").name(run).name(&obligation.id.effect);
    pinned(settle.words("--undone"), obligation)
}

/// The remedy, bound to the current attempt of the obligation.
fn pinned(remedy: Remedy, obligation: &Obligation) -> Remedy {
    let remedy = match obligation.id.copy {
        0 => remedy,
        n => remedy.option("--duplicate", n),
    };
    because(remedy.option("--attempt", obligation.attempt))
}

/// An effect whose upstream is not reached. It continues by itself once the upstream is reached.
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
        remedies: answers(run, name, *opened).into(),
    })
}

/// The answers that a person can give to a gate that the entry `opened` opened.
pub(crate) fn answers(run: &str, gate: &GateName, opened: Seq) -> [Remedy; 2] {
    let approve = || {
        Remedy::new("approve")
            .name(run)
            .name(gate)
            .option("--seen", opened)
    };
    [because(approve()), because(approve().words("--deny"))]
}

pub(crate) fn because(remedy: Remedy) -> Remedy {
    remedy.words("--reason WHY")
}
