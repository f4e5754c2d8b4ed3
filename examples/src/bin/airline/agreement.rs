//! Whether the airline's ledger and the journals agree, entry by entry, by the business key of each act.

use crate::verdict::Kept;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use tape_client::core::entry::EntryBody;
use tape_examples::ledger::Line;
use tape_examples::non_idempotent_upstream::UNDO;
use tape_examples::record::Record;

/// Most differences that are reported.
const TOLD: usize = 10;

/// An act that a journal says was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    /// Its business key.
    pub(crate) reference: String,
    pub(crate) operation: String,
    pub(crate) args: Value,
    /// Whether the journal says that it was undone, too.
    pub(crate) undone: bool,
}

/// The confirmed acts of a journal that have a business key, in order.
pub(crate) fn acts(record: &Record) -> Result<Vec<Act>> {
    let (mut begun, mut acts) = (BTreeMap::new(), Vec::new());
    for entry in &record.entries {
        match &entry.body {
            EntryBody::EffectBegun(begin) => {
                begun.insert(&begin.effect, &begin.spec);
            }
            EntryBody::EffectConfirmed(done) => {
                let spec = begun.get(&done.effect).context("an effect begins first")?;
                let Some(key) = &spec.business_key else { continue };
                let args = spec.args.bytes().context("arguments were erased")?;
                let act = Act {
                    reference: key.as_str().to_owned(),
                    operation: spec.operation.as_str().to_owned(),
                    args: serde_json::from_slice(args)?,
                    undone: false,
                };
                acts.push((&done.effect, act));
            }
            EntryBody::ObligationDone(done) => {
                let undone = acts
                    .iter_mut()
                    .filter(|(effect, _)| **effect == done.obligation.effect);
                undone.for_each(|(_, act)| act.undone = true);
            }
            _ => {}
        }
    }
    Ok(acts.into_iter().map(|(_, act)| act).collect())
}

/// The result of the comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Acts that both have.
    pub(crate) acts: usize,
    /// Acts that both have as undone.
    pub(crate) undone: usize,
    /// Acts that only one has, or that differ.
    pub(crate) differences: Vec<String>,
}

impl Agreement {
    /// Compares the journals with the ledger.
    pub(crate) fn of(kept: &[Kept], ledger: &[Line]) -> Self {
        let mut agreement = Self::default();
        let mut lines: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        for line in ledger {
            lines.entry(&line.reference).or_default().push(line);
        }
        for act in kept.iter().flat_map(|kept| &kept.acts) {
            let lines = lines.remove(act.reference.as_str()).unwrap_or_default();
            agreement.compare(act, &lines);
        }
        for (reference, lines) in lines {
            let did = lines.len();
            agreement.differ(format!(
                "{reference}: {did} lines in the ledger, confirmed by no journal"
            ));
        }
        for kept in kept {
            agreement.compare_order(kept, ledger);
        }
        agreement
    }

    fn compare(&mut self, act: &Act, lines: &[&Line]) {
        let reference = &act.reference;
        let (undos, acts): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.operation == UNDO);
        let [done] = acts[..] else {
            return self.differ(format!(
                "{reference}: confirmed once, {} times in the ledger",
                acts.len()
            ));
        };
        if (&done.operation, &done.content) != (&act.operation, &act.args) {
            return self.differ(format!("{reference}: done otherwise than it was asked for"));
        }
        let inverse = undos
            .iter()
            .filter(|undo| undo.n > done.n && undo.content["act"] == done.n);
        if undos.len() != usize::from(act.undone) || inverse.count() != undos.len() {
            let says = if act.undone { "undone" } else { "not undone" };
            return self.differ(format!(
                "{reference}: {says} by its journal, {} times in the ledger",
                undos.len()
            ));
        }
        self.acts += 1;
        self.undone += usize::from(act.undone);
    }

    /// The acts of a run are undone in reverse order.
    fn compare_order(&mut self, kept: &Kept, ledger: &[Line]) {
        let undone = kept.acts.iter().filter(|act| act.undone);
        let backwards: Vec<&str> = undone.rev().map(|act| act.reference.as_str()).collect();
        if backwards.is_empty() {
            return;
        }
        let of_run = |line: &&Line| {
            line.operation == UNDO && kept.acts.iter().any(|act| act.reference == line.reference)
        };
        let in_ledger = ledger.iter().filter(of_run).map(|line| line.reference.as_str());
        if !in_ledger.eq(backwards.iter().copied()) {
            self.differ(format!("{}: not undone in reverse", backwards[0]));
        }
    }

    fn differ(&mut self, difference: String) {
        self.differences.push(difference);
    }

    /// Checks that they agree.
    ///
    /// # Errors
    /// How they differ.
    pub(crate) fn check(&self) -> Result<()> {
        let told: Vec<&str> = self.differences.iter().take(TOLD).map(String::as_str).collect();
        ensure!(
            told.is_empty(),
            "the ledger and the journals differ in {} places: {}",
            self.differences.len(),
            told.join("; ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn act(reference: &str, undone: bool) -> Act {
        Act {
            reference: reference.to_owned(),
            operation: "book".to_owned(),
            args: json!({ "seat": 1 }),
            undone,
        }
    }

    fn kept(acts: &[Act]) -> Vec<Kept> {
        vec![Kept {
            acts: acts.to_vec(),
            ..Kept::default()
        }]
    }

    fn line(n: usize, reference: &str, operation: &str, content: Value) -> Line {
        Line {
            n,
            key: None,
            reference: reference.to_owned(),
            operation: operation.to_owned(),
            content,
            answer: Value::Null,
        }
    }

    fn booked(n: usize, reference: &str) -> Line {
        line(n, reference, "book", json!({ "seat": 1 }))
    }

    fn undone(n: usize, reference: &str, act: usize) -> Line {
        line(n, reference, UNDO, json!({ "act": act }))
    }

    #[track_caller]
    fn agrees(acts: &[Act], ledger: &[Line], expected: bool) {
        let agreement = Agreement::of(&kept(acts), ledger);
        assert_eq!(agreement.check().is_ok(), expected, "{agreement:?}");
    }

    #[test]
    fn each_act_is_in_both_once_and_alike() {
        let acts = [act("a", false), act("b", false)];
        agrees(&acts, &[booked(1, "a"), booked(2, "b")], true);
        agrees(&acts, &[booked(1, "a")], false);
        agrees(&acts, &[booked(1, "a"), booked(2, "b"), booked(3, "b")], false);
        agrees(&acts, &[booked(1, "a"), booked(2, "b"), booked(3, "c")], false);
        agrees(
            &acts,
            &[booked(1, "a"), line(2, "b", "book", json!({ "seat": 2 }))],
            false,
        );
    }

    #[test]
    fn what_is_undone_is_undone_in_both_once_and_in_reverse() {
        let acts = [act("a", true), act("b", true)];
        let done = [booked(1, "a"), booked(2, "b")];
        let with = |undos: &[Line]| [&done[..], undos].concat();
        agrees(&acts, &with(&[undone(3, "b", 2), undone(4, "a", 1)]), true);
        agrees(&acts, &with(&[undone(3, "a", 1), undone(4, "b", 2)]), false);
        agrees(&acts, &with(&[undone(3, "b", 2)]), false);
        let twice = [undone(3, "b", 2), undone(4, "b", 2), undone(5, "a", 1)];
        agrees(&acts, &with(&twice), false);
        agrees(&[act("a", false)], &[booked(1, "a"), undone(2, "a", 1)], false);
    }
}
