//! The outcome of a run, and the difference between two outcomes.

use super::upstream::Upstream;
use crate::run::RunResult;
use std::collections::BTreeMap;
use tape_core::entry::EntryBody;
use tape_core::payload::Payload;

/// The shortest text of a sample that is looked for in other texts.
const SAMPLE_CHARS_MIN: usize = 6;

/// What a run decided and did, and how it ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Each by its name: a decision, an effect, an act of the upstream.
    facts: BTreeMap<String, String>,
    result: RunResult,
}

impl Outcome {
    pub(super) fn of(result: RunResult, entries: &[EntryBody], upstream: &Upstream) -> Self {
        let samples = Samples::of(entries);
        let mut facts: BTreeMap<String, String> = entries.iter().filter_map(fact).collect();
        let acts = upstream.acts().into_iter();
        facts.extend(acts.map(|(key, did)| (format!("the act under key {key}"), did.to_string())));
        for told in facts.values_mut() {
            *told = samples.named(told);
        }
        Self {
            facts,
            result: samples.named_in(result),
        }
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

/// Random values and times that the agent sampled. They differ in each drive from the start.
struct Samples(Vec<(String, String)>);

impl Samples {
    fn of(entries: &[EntryBody]) -> Self {
        let samples = entries.iter().filter_map(|body| match body {
            EntryBody::SampleRecorded(sample) => {
                let value = text(&sample.value).trim_matches('"').to_owned();
                let name = format!("<sample {}#{}>", sample.scope, sample.n);
                // A shorter value may occur in other texts by chance.
                (value.len() >= SAMPLE_CHARS_MIN).then_some((value, name))
            }
            _ => None,
        });
        Self(samples.collect())
    }

    /// A text with the names of samples in place of their values.
    fn named(&self, text: &str) -> String {
        let named = |text: String, (value, name): &(String, String)| text.replace(value, name);
        self.0.iter().fold(text.to_owned(), named)
    }

    fn named_in(&self, result: RunResult) -> RunResult {
        match result {
            RunResult::Completed(output) => {
                let named = self.named(&text(&output));
                RunResult::Completed(Payload::kept(output.content_type(), named))
            }
            RunResult::Failed { error } => RunResult::Failed {
                error: self.named(&error),
            },
            other => other,
        }
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
