//! The final report: the agent's record and the bank's acts, side by side, and the verdict.

use crate::book::amount;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tape_client::RunId;
use tape_client::core::entry::gate::AnsweredBy;
use tape_client::core::entry::{Entry, EntryBody};
use tape_client::core::id::EffectId;
use tape_client::core::payload::Payload;
use tape_examples::ledger::Line;
use tape_examples::model::Asked;
use tape_examples::notes::Note;
use tape_examples::record::Record;

/// Characters of the left column.
const LEFT: usize = 66;

/// Two columns.
pub(crate) struct Table {
    rows: Vec<(String, String)>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (left, right) in &self.rows {
            writeln!(f, "  {}", format!("{left:<LEFT$} {right}").trim_end())?;
        }
        Ok(())
    }
}

/// The journal of a run beside the bank's ledger; each act of the bank stands beside its confirmation.
pub(crate) fn journal(record: &Record, run: &RunId, ledger: &[Line]) -> Table {
    let mut rows = vec![("JOURNAL".to_owned(), "THE BANK'S OWN LEDGER".to_owned())];
    let by_key: BTreeMap<&str, &Line> = ledger
        .iter()
        .filter_map(|line| Some((line.key.as_deref()?, line)))
        .collect();
    let (mut acts, mut shown) = (BTreeMap::new(), BTreeSet::new());
    let mut hidden: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &record.entries {
        if let EntryBody::EffectBegun(begun) = &entry.body {
            acts.insert(
                begun.effect.clone(),
                act(begun.spec.operation.as_str(), &json(&begun.spec.args)),
            );
        }
        let Some(text) = text(entry, &acts) else {
            *hidden.entry(entry.body.kind()).or_default() += 1;
            continue;
        };
        let done = match &entry.body {
            EntryBody::EffectConfirmed(confirmed) => {
                by_key.get(confirmed.effect.idempotency_key(run).as_str())
            }
            _ => None,
        };
        shown.extend(done.map(|line| line.n));
        rows.push((
            format!("{:>3}  {text}", entry.seq.0),
            done.map(|line| ledger_line(line)).unwrap_or_default(),
        ));
    }
    let others = ledger.iter().filter(|line| !shown.contains(&line.n));
    rows.extend(others.map(|line| (String::new(), ledger_line(line))));
    rows.extend(not_shown(&hidden).map(|text| (text, String::new())));
    Table { rows }
}

/// The internal entries that are not shown, counted by kind.
fn not_shown(hidden: &BTreeMap<&str, usize>) -> Option<String> {
    let count: usize = hidden.values().sum();
    let kinds: Vec<String> = hidden.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    (count > 0).then(|| format!("{count} more entries are not shown: {}", kinds.join(", ")))
}

/// Notes beside the bank's ledger.
pub(crate) fn notes(notes: &[Note], ledger: &[Line]) -> Table {
    let mut rows = vec![("THE AGENT'S NOTES".to_owned(), "THE BANK'S OWN LEDGER".to_owned())];
    let mut times = BTreeMap::new();
    let right: Vec<String> = ledger
        .iter()
        .map(|line| {
            let times = times
                .entry((&line.operation, line.content.to_string()))
                .or_insert(0);
            *times += 1;
            let again = if *times > 1 { "   <-- AGAIN" } else { "" };
            format!("{}{again}", ledger_line(line))
        })
        .collect();
    let left: Vec<String> = notes
        .iter()
        .enumerate()
        .map(|(n, note)| format!("{:>3}  {}", n + 1, noted(note)))
        .collect();
    for n in 0..left.len().max(right.len()) {
        rows.push((
            left.get(n).cloned().unwrap_or_default(),
            right.get(n).cloned().unwrap_or_default(),
        ));
    }
    Table { rows }
}

fn noted(note: &Note) -> String {
    match note.step.as_str() {
        "decision" => format!("decision: {}", note.value["text"].as_str().unwrap_or_default()),
        step => match note.value["receipt"].as_str() {
            Some(receipt) => format!("done: {receipt}"),
            None => step.to_owned(),
        },
    }
}

fn ledger_line(line: &Line) -> String {
    format!("#{} {}", line.n, act(&line.operation, &line.content))
}

fn act(operation: &str, args: &Value) -> String {
    let subject = ["account", "reference", "day", "currency"]
        .iter()
        .find_map(|name| args[name].as_str());
    let subject = subject.unwrap_or("?");
    if args["amount_micro"].is_null() {
        return format!("{operation} {subject}");
    }
    let currency = args["currency"].as_str().unwrap_or("USD");
    format!(
        "{operation} {subject}  {} {currency}",
        amount(&args["amount_micro"])
    )
}

fn json(payload: &Payload) -> Value {
    payload
        .bytes()
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

/// An entry as text; none for internal entries.
fn text(entry: &Entry, acts: &BTreeMap<EffectId, String>) -> Option<String> {
    let name = |effect: &EffectId| acts.get(effect).cloned().unwrap_or_else(|| effect.to_string());
    Some(match &entry.body {
        EntryBody::RunBegun(_) => "the run begins".to_owned(),
        EntryBody::LeaseAcquired(lease) if lease.recovery => {
            format!("recovery takes the run (epoch {})", lease.epoch)
        }
        EntryBody::LeaseAcquired(lease) => format!("an agent drives it (epoch {})", lease.epoch),
        EntryBody::SampleRecorded(sample) => format!("sample '{}'", sample.name),
        EntryBody::BudgetOpened(budget) => {
            format!("budget '{}' of {} micro-USD", budget.budget, budget.limit)
        }
        EntryBody::DecisionRecorded(decision) => {
            let text = json(&decision.response)["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            format!("decision {}: {text}", decision.position.k)
        }
        EntryBody::EffectBegun(begun) => format!("  intent   {}", name(&begun.effect)),
        EntryBody::EffectStarted(started) if started.attempt > 1 => {
            format!("  again    {}, the same key", name(&started.effect))
        }
        EntryBody::EffectUnknown(unknown) => format!("  unknown  {}", name(&unknown.effect)),
        EntryBody::EffectConfirmed(confirmed) => format!("  done     {}", name(&confirmed.effect)),
        EntryBody::EffectFailed(failed) => format!("  failed   {}", name(&failed.effect)),
        EntryBody::GateOpened(gate) => format!("  waits at the gate '{}'", gate.gate),
        EntryBody::GateAnswered(answer) => format!("  the gate is answered by {}", who(&answer.by)),
        EntryBody::RunCompleted(_) => "the run completes".to_owned(),
        _ => return None,
    })
}

fn who(by: &AnsweredBy) -> String {
    match by {
        AnsweredBy::Deadline => "its deadline".to_owned(),
        AnsweredBy::Signal { who, .. } | AnsweredBy::EarlierSignal { who, .. } => who
            .as_ref()
            .map_or_else(|| "a signal".to_owned(), ToString::to_string),
    }
}

/// The figures of the last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) acts: usize,
    pub(crate) done_twice: usize,
    pub(crate) asked_twice: usize,
    pub(crate) lost: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acts,
            done_twice,
            asked_twice,
            lost,
        } = self;
        write!(
            f,
            "acts={acts} done_twice={done_twice} asked_twice={asked_twice} lost={lost}"
        )
    }
}

/// How many acts were done, and how many of them more than once, by their content and not by their keys.
pub(crate) fn acts(ledger: &[Line]) -> (usize, usize) {
    let mut times = BTreeMap::new();
    for line in ledger {
        *times
            .entry((&line.operation, line.content.to_string()))
            .or_insert(0_usize) += 1;
    }
    (times.len(), times.values().filter(|times| **times > 1).count())
}

/// Judges a journal against the bank's ledger and the model's count.
pub(crate) fn judge(
    record: &Record,
    run: &RunId,
    ledger: &[Line],
    asked: &[Asked],
) -> anyhow::Result<Verdict> {
    let (acts, done_twice) = acts(ledger);
    let decisions = record.decisions()?;
    let again = |asked: &&Asked| {
        decisions
            .iter()
            .any(|d| d.k == asked.k && asked.again(d.at_us, d.epoch))
    };
    let asked_twice = asked.iter().filter(again).count();
    let begun = record.entries.iter().filter_map(|entry| match &entry.body {
        EntryBody::EffectBegun(begun) => Some(begun),
        _ => None,
    });
    let changing =
        begun.filter(|begun| begun.spec.semantics != tape_client::core::effect::Semantics::ReadOnly);
    let keys: Vec<String> = changing.map(|begun| begun.effect.idempotency_key(run)).collect();
    let lost = keys
        .iter()
        .filter(|key| !ledger.iter().any(|line| line.key.as_ref() == Some(*key)))
        .count();
    Ok(Verdict {
        acts,
        done_twice,
        asked_twice,
        lost,
    })
}
