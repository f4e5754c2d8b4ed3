//! `docs/format.md`, taken apart: the tables of fields, and the blocks that are marked `vector`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub(crate) mod fields;
mod links;
pub(crate) mod samples;
mod verifying;

use serde_json::Value;
use std::collections::BTreeMap;

/// The page.
pub(crate) struct Document {
    /// What stands under the heading of each kind.
    pub(crate) kinds: BTreeMap<String, Section>,
    /// What stands under the heading of each type. That of the envelope is `envelope`.
    pub(crate) types: BTreeMap<String, Section>,
    /// Worked examples by their names.
    pub(crate) vectors: BTreeMap<String, Value>,
    pub(crate) text: String,
}

#[derive(Default)]
pub(crate) struct Section {
    pub(crate) fields: Vec<Field>,
    /// Paths of the fields whose bytes are payload, in order.
    pub(crate) payloads: Vec<String>,
    /// Paths of the fields that are words, in order.
    pub(crate) words: Vec<String>,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) of: String,
    pub(crate) optional: bool,
}

impl Document {
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md");
        let mut document = Self {
            kinds: BTreeMap::new(),
            types: BTreeMap::new(),
            vectors: BTreeMap::new(),
            text: std::fs::read_to_string(path).unwrap(),
        };
        let text = document.text.clone();
        let mut lines = text.lines();
        let mut under = None;
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("```json vector=") {
                let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                let value = serde_json::from_str(&block.join("\n")).unwrap();
                document.vectors.insert(name.to_owned(), value);
            } else if line.starts_with('#') {
                under = document.heading(line);
            } else if let Some((is_kind, name)) = &under {
                let sections = if *is_kind {
                    &mut document.kinds
                } else {
                    &mut document.types
                };
                sections.get_mut(name).unwrap().line(line);
            }
        }
        document
    }

    /// Opens the section of a heading, where it has fields.
    fn heading(&mut self, line: &str) -> Option<(bool, String)> {
        let (is_kind, name) = if line == "## Envelope" {
            (false, "envelope".to_owned())
        } else {
            let heading = line.strip_prefix("#### ")?;
            (!heading.starts_with("Type "), codes(heading).remove(0))
        };
        let sections = if is_kind { &mut self.kinds } else { &mut self.types };
        let before = sections.insert(name.clone(), Section::default());
        assert!(before.is_none(), "{name} stands there twice");
        Some((is_kind, name))
    }
}

impl Section {
    fn line(&mut self, line: &str) {
        if line.starts_with("Payloads: ") {
            self.payloads = codes(line);
        } else if line.starts_with("Words: ") {
            self.words = codes(line);
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, of, present, _] = cells[..] else {
                panic!("a row has four cells: {line}");
            };
            assert!(["always", "optional"].contains(&present), "{line}");
            self.fields.push(Field {
                name: codes(name).remove(0),
                of: of.to_owned(),
                optional: present == "optional",
            });
        }
    }
}

/// What stands between pairs of backquotes.
fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
