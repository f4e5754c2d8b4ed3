//! Whether JSON has the fields that the page says, of the types that it says, in the order that it says.

use super::types::Type;
use super::{Document, Field, Section, schema, validator};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Compares entries with the page, and remembers which fields there were.
pub(crate) struct Fields<'a> {
    document: &'a Document,
    /// For each field of each section, how often it was there and how often it was not.
    pub(crate) seen: BTreeMap<(String, String), (u32, u32)>,
    /// The words of fixed lists that there were.
    pub(crate) words: BTreeSet<String>,
    schema: Value,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(document: &'a Document) -> Self {
        Self {
            document,
            seen: BTreeMap::new(),
            words: BTreeSet::new(),
            schema: schema::of(document),
        }
    }

    pub(crate) fn check(&mut self, name: &str, section: &Section, object: &str) {
        let all = members(object);
        let known: Vec<&str> = section.fields.iter().map(|field| field.name.as_str()).collect();
        let places: Vec<usize> = all
            .iter()
            .map(|(member, _)| {
                let place = known.iter().position(|known| known == member);
                place.unwrap_or_else(|| panic!("{name} has no field '{member}' on the page"))
            })
            .collect();
        assert!(
            places.is_sorted(),
            "{name} has its fields in another order: {object}"
        );
        for field in &section.fields {
            Self::check_dependent(name, field, &all);
            let (there, absent) = self
                .seen
                .entry((name.to_owned(), field.name.clone()))
                .or_default();
            match all.iter().find(|(member, _)| *member == field.name) {
                None => {
                    assert!(field.optional, "{name} has no {}: {object}", field.name);
                    *absent += 1;
                }
                Some((_, value)) => {
                    *there += 1;
                    assert!(
                        !(field.optional && field.of == "flag" && value == "false"),
                        "{name}: {object}"
                    );
                    self.check_type(&Type::of(self.document, &field.of), value);
                }
            }
        }
    }

    fn check_type(&mut self, of: &Type, json: &str) {
        match of {
            Type::List(of) => {
                let all: Vec<Box<RawValue>> = serde_json::from_str(json).unwrap();
                all.iter().for_each(|one| self.check_type(of, one.get()));
            }
            Type::Map(of) => {
                let all = members(json);
                assert!(all.is_sorted_by_key(|(name, _)| name.clone()), "{json}");
                all.iter().for_each(|(_, one)| self.check_type(of, one));
            }
            Type::Object(name) => {
                let section = &self.document.types[name];
                match serde_json::from_str(json).unwrap() {
                    Value::String(text) => assert!(section.or_texts.contains(&text), "{json} is no {name}"),
                    _ => self.check(name, section, json),
                }
            }
            Type::OneOf(words) => {
                let word: String = serde_json::from_str(json).unwrap();
                assert!(words.contains(&word), "{json} is not one of {words:?}");
                self.words.insert(word);
            }
            other => {
                let problem = validator::problem(
                    &self.schema,
                    &other.schema(),
                    &serde_json::from_str(json).unwrap(),
                );
                assert_eq!(problem, None, "{json}");
            }
        }
    }

    /// A field that depends on another is there exactly where that has one of some words.
    fn check_dependent(name: &str, field: &Field, all: &[(String, String)]) {
        let Some((other, words)) = &field.with else {
            return;
        };
        let value = all.iter().find(|(member, _)| member == other);
        let word: String = serde_json::from_str(&value.unwrap().1).unwrap();
        let there = all.iter().any(|(member, _)| *member == field.name);
        assert_eq!(
            there,
            words.contains(&word),
            "{} of {name} where {other} is {word}",
            field.name
        );
    }
}

/// The members of an object in the order in which they stand there, each with its text.
pub(crate) fn members(object: &str) -> Vec<(String, String)> {
    serde_json::from_str::<Ordered>(object).unwrap().0
}

struct Ordered(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut all = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    all.push((name, value.get().to_owned()));
                }
                Ok(Ordered(all))
            }
        }
        from.deserialize_map(InOrder)
    }
}
