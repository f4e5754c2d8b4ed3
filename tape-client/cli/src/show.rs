//! `tape show`.

use crate::name::{RunPath, path};
use crate::text::{clock, counted, time};
use crate::timeline::{JsonEntry, Line};
use crate::{Context, Failure, driver};
use clap::Args;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use std::process::ExitCode;
use tape_client::core::codec::decode;
use tape_client::core::decider::Decider as _;
use tape_client::core::effect::{Semantics, Status};
use tape_client::core::entry::{Entry, EntryBody};
use tape_client::core::id::{EffectId, StreamId};
use tape_client::core::replay::Replay;
use tape_client::core::reply::{Missing, Rejection};
use tape_client::core::run::{ObligationStatus, Run};
use tape_client::{Error, RunId};

/// Shows a run as a timeline: decisions, effects, gates, spend.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The run.
    run: RunPath,
}

/// A run, read once.
pub(crate) struct Reading {
    entries: Vec<Entry>,
    pub(crate) state: Run,
    replay: Replay,
}

impl Reading {
    /// How many effects have happened, and how many more may have, including those that were undone since. Read-only effects do not count.
    pub(crate) fn acts(&self) -> (u64, u64) {
        let (mut happened, mut doubtful) = (0, 0);
        for (id, record) in self.replay.effects() {
            if record.spec.semantics == Semantics::ReadOnly {
                continue;
            }
            let doubt = || self.state.effects().get(&id).is_some_and(|effect| effect.doubt);
            match record.status {
                Status::Confirmed => happened += 1,
                Status::Started | Status::Unknown => doubtful += 1,
                Status::Stuck => doubtful += u64::from(record.attempt > 0),
                Status::Pending => doubtful += u64::from(doubt()),
                Status::Failed => {}
            }
        }
        (happened, doubtful)
    }

    /// The status of an effect, or that of its undo once that is due, stuck or done.
    fn standing(&self, effect: &EffectId, status: Status) -> &'static str {
        let undone = self.entries.iter().any(|entry| match &entry.body {
            EntryBody::ObligationDone(done) => done.obligation.effect == *effect && done.obligation.copy == 0,
            _ => false,
        });
        let undo = self
            .state
            .obligations()
            .iter()
            .find(|undo| undo.id.effect == *effect && undo.id.copy == 0);
        match undo.map(|undo| &undo.status) {
            _ if undone => "undone",
            None | Some(ObligationStatus::Armed) => status.as_str(),
            Some(ObligationStatus::Due { .. } | ObligationStatus::Started { .. }) => "being undone",
            Some(ObligationStatus::Stuck { .. }) => "undo stuck",
        }
    }
}

impl Show {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let run = self.run.0;
        let reading = read(context, &run).await?;
        let stream = StreamId::Run(run.clone());
        if context.print.json {
            let entries = reading.entries.iter().map(|entry| JsonEntry::of(&stream, entry));
            let driver = context.tape.driver(&run).await?;
            context.value(&Shown {
                driver: driver.as_ref().map(driver::json),
                run: path(&run),
                status: reading.state.status().as_str(),
                budgets: json!(budgets(&reading.state)),
                effects: json!(effects(&run, &reading)),
                entries: entries.collect(),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        head(context, &run, &reading).await?;
        for entry in &reading.entries {
            let (seq, at, line) = (entry.seq.0, clock(entry.at), Line::of(&stream, entry));
            context.line(&format!("{seq:>5}  {at}  {}", line.text()))?;
        }
        effect_table(context, &run, &reading)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A run as JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    run: String,
    status: &'static str,
    driver: Option<Value>,
    budgets: Value,
    effects: Value,
    entries: Vec<JsonEntry<'a>>,
}

pub(crate) async fn read(context: &Context<'_>, run: &RunId) -> Result<Reading, Failure> {
    let damaged = |source: tape_client::Source| Error::Damaged { source };
    let (mut entries, mut state, mut replay) = (Vec::new(), Run::default(), Replay::default());
    let mut pages = context.tape.journal(run);
    while let Some(page) = pages.next().await {
        for stored in page? {
            let entry = decode(&stored).map_err(|error| damaged(error.into()))?;
            state.apply(&entry).map_err(|error| damaged(error.into()))?;
            replay
                .apply(entry.clone())
                .map_err(|error| damaged(error.into()))?;
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        return Err(Error::Rejected(Box::new(Rejection::not_found(Missing::Run))).into());
    }
    Ok(Reading {
        entries,
        state,
        replay,
    })
}

async fn head(context: &mut Context<'_>, run: &RunId, reading: &Reading) -> Result<(), Failure> {
    let Reading { entries, state, .. } = reading;
    context.line(&format!("run      {}", path(run)))?;
    let stuck = state
        .stuck()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    context.line(&format!("status   {}{stuck}", state.status().as_str()))?;
    if let Some(driver) = context.tape.driver(run).await?.as_ref().and_then(driver::text) {
        context.line(&format!("driver   {driver}"))?;
    }
    let summary = state.summary();
    if let (Some(summary), Some(last)) = (&summary, entries.last()) {
        let seconds = last.at.millis_since(summary.begun_at) / 1000;
        let begun = time(summary.begun_at);
        context.line(&format!("begun    {begun} UTC, last entry {seconds} s later"))?;
    }
    if state.is_retired() {
        let dropped = state.seq().0 - entries.len() as u64;
        context.line(&format!(
            "retired  {} dropped",
            counted(dropped, "entry", "entries")
        ))?;
    }
    let labels = summary.iter().flat_map(|summary| &summary.labels);
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        context.line(&format!("labels   {}", labels.join(" ")))?;
    }
    for (name, budget) in state.budgets() {
        let (spent, reserved, limit) = (budget.spent, budget.reserved, budget.limit);
        let currency = &budget.currency;
        context.line(&format!(
            "budget   {name}: {spent} spent, {reserved} reserved of {limit} {currency}"
        ))?;
    }
    context.line("")
}

fn effect_table(context: &mut Context<'_>, run: &RunId, reading: &Reading) -> Result<(), Failure> {
    let effects = effects(run, reading);
    if !effects.is_empty() {
        context.line("")?;
        context.line("effects")?;
    }
    for effect in effects {
        let text = |field: &str| effect[field].as_str().unwrap_or_default().to_owned();
        let why = text("why");
        let why = if why.is_empty() { why } else { format!("  {why}") };
        let (id, what) = (
            text("effect"),
            format!("{} {}", text("connector"), text("operation")),
        );
        let (status, attempt, key) = (text("status"), &effect["attempts"], text("key"));
        context.line(&format!(
            "  {id:<12} {what:<24} {status:<10} attempts {attempt}  key {key}{why}"
        ))?;
    }
    Ok(())
}

fn effects(run: &RunId, reading: &Reading) -> Vec<Value> {
    let effect = |(id, record): (EffectId, &tape_client::core::replay::EffectRecord)| {
        json!({
            "effect": id.to_string(),
            "key": id.idempotency_key(run),
            "connector": record.spec.connector,
            "operation": record.spec.operation,
            "semantics": record.spec.semantics,
            "mode": record.spec.mode,
            "business_key": record.spec.business_key,
            "status": reading.standing(&id, record.status),
            "attempts": record.attempt,
            "why": record.why,
        })
    };
    reading.replay.effects().map(effect).collect()
}

fn budgets(state: &Run) -> Value {
    let budget = |(name, budget): (
        &tape_client::core::id::BudgetName,
        &tape_client::core::run::Budget,
    )| {
        let budget = json!({"currency": budget.currency, "limit": budget.limit, "spent": budget.spent,
            "reserved": budget.reserved, "parent": budget.parent});
        (name.to_string(), budget)
    };
    state.budgets().iter().map(budget).collect()
}
