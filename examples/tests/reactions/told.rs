//! What the journal says in the end, read once from its beginning.

use crate::world::{World, acme};
use anyhow::Result;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use tape_client::core::chain::Verifier;
use tape_client::core::codec::{StoredEntry, decode};
use tape_client::core::entry::EntryBody;
use tape_client::core::id::{RunId, Seq, StreamId};
use tape_client::core::reaction::Origin;
use tape_client::core::time::Timestamp;
use tape_client::{FeedPage, JournalError, Tail};
use tape_examples::retry::until_it_works;

/// A run that a reaction began.
pub(crate) struct Told {
    pub(crate) origin: Origin,
    /// Its input.
    pub(crate) event: serde_json::Value,
    pub(crate) team: Option<String>,
    pub(crate) begun: Timestamp,
    pub(crate) completed: Option<Timestamp>,
}

#[derive(Default)]
pub(crate) struct Journaled {
    /// Entries of values: their names as events have them, with their times, by stream.
    pub(crate) values: BTreeMap<StreamId, Vec<(Seq, Timestamp)>>,
    pub(crate) runs: BTreeMap<RunId, Told>,
    /// Reasons, by the stream of the relay.
    pub(crate) refused: BTreeMap<String, Vec<String>>,
}

/// Reads the feed of the tenant, and verifies the chain of each stream.
pub(crate) async fn read(world: &World) -> Journaled {
    until_it_works(|| try_to_read(world)).await.unwrap()
}

async fn try_to_read(world: &World) -> Result<Journaled> {
    let mut tail = Tail::new("acme.>".parse()?);
    (tail.tenant, tail.from_start, tail.follow) = (Some(acme()), true, false);
    let mut pages = world.journal.tail(&tail);
    let (mut told, mut chains) = (Journaled::default(), BTreeMap::new());
    while let Some(page) = pages.next().await {
        let page: Result<FeedPage, JournalError> = page;
        for (stream, entry) in page?.entries {
            let chain = chains
                .entry(stream.clone())
                .or_insert_with(|| Verifier::new(&stream, None));
            chain.check(&entry)?;
            told.note(stream, &entry)?;
        }
    }
    Ok(told)
}

impl Journaled {
    fn note(&mut self, stream: StreamId, stored: &StoredEntry) -> Result<()> {
        let entry = decode(stored)?;
        match (entry.body, stream) {
            (EntryBody::ValuePut(_), stream @ StreamId::Value { .. }) => {
                self.values.entry(stream).or_default().push((entry.seq, entry.at));
            }
            (EntryBody::RunBegun(begun), StreamId::Run(run)) => {
                let Some(origin) = Origin::of(&begun.labels)? else {
                    return Ok(());
                };
                let team = begun.labels.iter().find(|(key, _)| key.as_str() == "team");
                let told = Told {
                    origin,
                    event: serde_json::from_slice(begun.input.bytes().map_or(&[], |bytes| bytes))?,
                    team: team.map(|(_, team)| team.clone()),
                    begun: entry.at,
                    completed: None,
                };
                assert!(self.runs.insert(run, told).is_none(), "a run begins once");
            }
            (EntryBody::RunCompleted(_), StreamId::Run(run)) => {
                if let Some(told) = self.runs.get_mut(&run) {
                    told.completed = Some(entry.at);
                }
            }
            (EntryBody::RelayRefused(refused), stream) => {
                let reasons = self.refused.entry(stream.to_string()).or_default();
                reasons.push(refused.reason);
            }
            _ => {}
        }
        Ok(())
    }

    /// The runs of a reaction.
    pub(crate) fn runs_of(&self, reaction: &str) -> impl Iterator<Item = &Told> {
        self.runs
            .values()
            .filter(move |told| told.origin.reaction.as_str() == reaction)
    }

    pub(crate) fn summary(&self) -> String {
        let count = |reaction: &str| format!("{reaction}={}", self.runs_of(reaction).count());
        let counts = crate::definitions::ALL.map(count);
        format!("runs begun: {}", counts.join(" "))
    }
}
