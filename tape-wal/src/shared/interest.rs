//! Which waiting readers an entry concerns, found by the tokens of its subject.
//!
//! The cost of an entry is that of its tokens and of the readers that it concerns, however many others wait.

use crate::filter::Filter;
use std::collections::{BTreeMap, BTreeSet};
use tape_core::codec::kind;
use tape_core::id::Tenant;
use tape_store::contract::FeedEntry;

/// The number of a reader.
pub(super) type ReaderId = u64;

/// The filters of waiting readers.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// By the tenant that a filter names; none for readers of all tenants.
    tenants: BTreeMap<Option<Tenant>, Node>,
}

/// The patterns that begin with the same tokens.
#[derive(Debug, Default)]
struct Node {
    /// By the next token, `*` included.
    next: BTreeMap<Box<str>, Self>,
    /// Readers whose patterns end here.
    here: BTreeSet<ReaderId>,
    /// Readers whose patterns go on with a last `>`.
    rest: BTreeSet<ReaderId>,
}

impl Interest {
    pub(super) fn add(&mut self, filter: &Filter, reader: ReaderId) {
        let pattern = filter.pattern.to_string();
        let mut node = self.tenants.entry(filter.tenant.clone()).or_default();
        for token in pattern.split('.') {
            if token == ">" {
                node.rest.insert(reader);
                return;
            }
            node = node.next.entry(token.into()).or_default();
        }
        node.here.insert(reader);
    }

    pub(super) fn remove(&mut self, filter: &Filter, reader: ReaderId) {
        let pattern = filter.pattern.to_string();
        if let Some(node) = self.tenants.get_mut(&filter.tenant) {
            node.remove(&mut pattern.split('.'), reader);
            if node.is_empty() {
                self.tenants.remove(&filter.tenant);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The readers that an entry concerns. One whose kind cannot be read concerns those that its stream does not rule out.
    pub(super) fn of(&self, entry: &FeedEntry) -> Vec<ReaderId> {
        let mut found = Vec::new();
        let own = self.tenants.get(&Some(entry.stream.tenant().clone()));
        let mut nodes: Vec<&Node> = own.into_iter().chain(self.tenants.get(&None)).collect();
        if nodes.is_empty() {
            return found;
        }
        let stream = entry.stream.to_string();
        for token in stream.split('/') {
            nodes = step(&nodes, token, &mut found);
        }
        if nodes.is_empty() {
            return found;
        }
        let Ok(kind) = kind(&entry.entry) else {
            nodes.iter().for_each(|node| node.all(&mut found));
            return found;
        };
        for token in kind.split('.') {
            nodes = step(&nodes, token, &mut found);
        }
        nodes.iter().for_each(|node| found.extend(&node.here));
        found
    }
}

/// Goes on by one token, and collects the patterns whose rest stands for it and what follows.
fn step<'a>(nodes: &[&'a Node], token: &str, found: &mut Vec<ReaderId>) -> Vec<&'a Node> {
    let mut after = Vec::new();
    for node in nodes {
        found.extend(&node.rest);
        after.extend(node.next.get(token).into_iter().chain(node.next.get("*")));
    }
    after
}

impl Node {
    fn is_empty(&self) -> bool {
        self.next.is_empty() && self.here.is_empty() && self.rest.is_empty()
    }

    fn remove<'a>(&mut self, tokens: &mut impl Iterator<Item = &'a str>, reader: ReaderId) {
        match tokens.next() {
            None => drop(self.here.remove(&reader)),
            Some(">") => drop(self.rest.remove(&reader)),
            Some(token) => {
                let Some(node) = self.next.get_mut(token) else {
                    return;
                };
                node.remove(tokens, reader);
                if node.is_empty() {
                    self.next.remove(token);
                }
            }
        }
    }

    fn all(&self, found: &mut Vec<ReaderId>) {
        found.extend(self.here.iter().chain(&self.rest));
        self.next.values().for_each(|node| node.all(found));
    }
}

#[cfg(test)]
mod tests {
    use super::Interest;
    use crate::filter::Filter;
    use bytes::Bytes;
    use tape_core::codec::StoredEntry;
    use tape_core::id::Seq;
    use tape_core::payload::Digest;
    use tape_store::contract::FeedEntry;

    const STREAMS: [&str; 4] = [
        "acme/value/rate",
        "acme/run/desk/ann/s1/i1",
        "acme/run/desk/bob/s1/i1",
        "other/value/rate",
    ];
    const KINDS: [&str; 3] = ["value.put", "value.deleted", "run.begun"];
    const PATTERNS: [&str; 12] = [
        ">",
        "*",
        "*.>",
        "acme.>",
        "acme.value.>",
        "acme.value.rate",
        "acme.value.rate.>",
        "acme.value.*.value.put",
        "*.value.rate.value.*",
        "acme.run.desk.ann.>",
        "acme.run.*.*.*.*.run.begun",
        "*.*.*.*.*",
    ];

    fn entry(stream: &str, envelope: String) -> FeedEntry {
        FeedEntry {
            stream: stream.parse().unwrap(),
            entry: StoredEntry {
                seq: Seq(1),
                envelope: Bytes::from(envelope),
                payload: None,
                digest: Digest::default(),
            },
        }
    }

    fn filters() -> Vec<Filter> {
        let tenants = [None, Some("acme"), Some("other")];
        let both = |tenant: Option<&str>, pattern: &str| Filter {
            tenant: tenant.map(|name| name.parse().unwrap()),
            pattern: pattern.parse().unwrap(),
        };
        let with = |tenant| PATTERNS.iter().map(move |pattern| both(tenant, pattern));
        tenants.into_iter().flat_map(with).collect()
    }

    #[test]
    fn it_finds_exactly_the_readers_whose_filters_choose_an_entry() {
        let filters = filters();
        let mut interest = Interest::default();
        for (reader, filter) in (0..).zip(&filters) {
            interest.add(filter, reader);
        }
        for stream in STREAMS {
            for kind in KINDS {
                let entry = entry(stream, format!(r#"{{"entry":{{"kind":"{kind}"}}}}"#));
                let mut found = interest.of(&entry);
                found.sort_unstable();
                let chosen = (0..)
                    .zip(&filters)
                    .filter(|(_, filter)| filter.chooses(&entry).unwrap());
                let chosen: Vec<u64> = chosen.map(|(reader, _)| reader).collect();
                assert_eq!(found, chosen, "{stream} {kind}");
            }
        }
        for (reader, filter) in (0..).zip(&filters) {
            interest.remove(filter, reader);
        }
        assert!(interest.is_empty(), "nothing is left of readers that are gone");
    }

    #[test]
    fn an_entry_that_cannot_be_read_concerns_those_that_its_stream_does_not_rule_out() {
        let mut interest = Interest::default();
        for (reader, pattern) in (0..).zip(["acme.value.rate.value.put", "acme.value.*.>", "acme.run.>"]) {
            let pattern = pattern.parse().unwrap();
            interest.add(
                &Filter {
                    tenant: None,
                    pattern,
                },
                reader,
            );
        }
        let mut found = interest.of(&entry("acme/value/rate", "damaged".to_owned()));
        found.sort_unstable();
        assert_eq!(found, [0, 1]);
    }
}
