//! `docs/format.md`, taken apart: the tables of fields, and the blocks that are marked `vector`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub(crate) mod fields;
mod links;
pub(crate) mod samples;
mod schema;
mod streams;
pub(crate) mod types;
mod validator;
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
    /// Whether an object of the type has exactly one of its members.
    pub(crate) one_member: bool,
    /// Texts that may stand in place of an object of the type.
    pub(crate) or_texts: Vec<String>,
    /// The first paragraph.
    pub(crate) about: String,
    introduced: bool,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) of: String,
    pub(crate) optional: bool,
    /// The field and the words of it with which this one is always there, where it depends on another.
    pub(crate) with: Option<(String, Vec<String>)>,
    pub(crate) meaning: String,
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
            let is_type = heading.starts_with("Type ") || heading.starts_with("Members of ");
            (!is_type, codes(heading).remove(0))
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
        } else if line.starts_with("Exactly one member.") {
            self.one_member = true;
            self.or_texts = codes(line);
        } else if line.starts_with("| `") {
            self.fields.push(Field::of_row(line));
        } else if !self.introduced && !line.starts_with('|') {
            self.introduced = line.is_empty() && !self.about.is_empty();
            let space = if self.about.is_empty() || line.is_empty() {
                ""
            } else {
                " "
            };
            self.about += &format!("{space}{line}");
        }
    }
}

impl Field {
    fn of_row(line: &str) -> Self {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, of, present, meaning] = cells[..] else {
            panic!("a row has four cells: {line}");
        };
        assert!(["always", "optional"].contains(&present), "{line}");
        Self {
            name: codes(name).remove(0),
            of: of.to_owned(),
            optional: present == "optional",
            with: present_where(meaning),
            meaning: meaning.to_owned(),
        }
    }
}

impl Field {
    /// Whether readers take a value for the field where it is missing, though builds always write it.
    pub(crate) fn is_read_as_missing(&self, section: &Section) -> bool {
        let all = section.about.contains("Readers take a member that is missing as");
        all || self.meaning.contains("readers take a missing one as")
    }
}

/// The field and its words in `present where ... is ... or ...`.
fn present_where(meaning: &str) -> Option<(String, Vec<String>)> {
    let (_, said) = meaning.split_once("present where ")?;
    let said = said.split([';', '.', '(']).next().unwrap();
    let mut said = codes(said);
    let field = said.remove(0);
    Some((field, said))
}

/// What stands between pairs of backquotes.
pub(crate) fn codes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
