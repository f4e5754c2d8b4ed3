//! The outcome of a run, and the difference between two outcomes.

use super::upstream::Upstream;
use crate::run::RunResult;
use std::collections::BTreeMap;
use tape_core::entry::EntryBody;
use tape_core::payload::Payload;

/// What a run decided and did, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Each by its name: a decision, an effect, an act of the upstream.
    facts: BTreeMap<String, String>,
    result: RunResult,
}

impl Outcome {
    pub(super) fn of(result: RunResult, entries: &[EntryBody], upstream: &Upstream) -> Self {
        let mut facts: BTreeMap<String, String> = entries.iter().filter_map(fact).collect();
        let acts = upstream.acts().into_iter();
        facts.extend(acts.map(|(key, did)| (format!("the act under key {key}"), did.to_string())));
        Self { facts, result }
    }

    /// The first difference of `found`.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
        for (name, expected) in &self.facts {
            match found.facts.get(name) {
                None => return Some(format!("{name} is missing, which was {expected}")),
                Some(now) if now != expected => return Some(format!("{name} was {expected} and is {now}")),
                Some(_) => {}
            }
        }
        let more = found
            .facts
            .iter()
            .find(|(name, _)| !self.facts.contains_key(*name));
        if let Some((name, now)) = more {
            return Some(format!("{name} is there, which was not: {now}"));
        }
        (self.result != found.result).then(|| {
            format!(
                "the run ended as {:?} and ends as {:?}",
                self.result, found.result
            )
        })
    }
}

/// The part of an entry that must be the same in each drive.
fn fact(body: &EntryBody) -> Option<(String, String)> {
    match body {
        EntryBody::DecisionRecorded(decision) => {
            let asked = serde_json::to_string(&decision.fingerprint).unwrap_or_default();
            let what = format!("{} to {asked}", text(&decision.response));
            Some((format!("decision {}", decision.position), what))
        }
        EntryBody::EffectBegun(begun) => {
            let spec = &begun.spec;
            let what = format!("{}.{} {}", spec.connector, spec.operation, text(&spec.args));
            Some((format!("effect {}", begun.effect), what))
        }
        EntryBody::EffectConfirmed(confirmed) => Some((
            format!("the result of effect {}", confirmed.effect),
            text(&confirmed.result),
        )),
        EntryBody::EffectFailed(failed) => Some((
            format!("the failure of effect {}", failed.effect),
            failed.error.clone(),
        )),
        _ => None,
    }
}

fn text(payload: &Payload) -> String {
    payload.bytes().map_or_else(
        || "(erased)".to_owned(),
        |bytes| String::from_utf8_lossy(bytes).into_owned(),
    )
}
