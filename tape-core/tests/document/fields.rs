//! Whether JSON has the fields that the page says, of the types that it says, in the order that it says.

use super::{Document, Section};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// Compares entries with the page, and remembers which fields there were.
pub(crate) struct Fields<'a> {
    document: &'a Document,
    /// For each field of each section, how often it was there and how often it was not.
    pub(crate) seen: BTreeMap<(String, String), (u32, u32)>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(document: &'a Document) -> Self {
        Self {
            document,
            seen: BTreeMap::new(),
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
                    self.check_type(&field.of, value, field.optional);
                }
            }
        }
    }

    fn check_type(&mut self, of: &str, json: &str, optional: bool) {
        if let Some(of) = of.strip_prefix("list of ") {
            let all: Vec<Box<RawValue>> = serde_json::from_str(json).unwrap();
            all.iter().for_each(|one| self.check_type(of, one.get(), false));
        } else if let Some(of) = of.strip_prefix("map of ") {
            let all = members(json);
            assert!(all.is_sorted_by_key(|(name, _)| name.clone()), "{json}");
            all.iter().for_each(|(_, one)| self.check_type(of, one, false));
        } else if let Some(section) = self.document.types.get(of) {
            // A currency is a text or an object.
            if json.starts_with('{') {
                self.check(of, section, json);
            } else {
                assert_eq!(of, "currency");
                assert!(["\"micro_usd\"", "\"tokens\""].contains(&json), "{json}");
            }
        } else {
            let value: Value = serde_json::from_str(json).unwrap();
            assert!(is(of, &value, optional), "{json} is not a {of}");
        }
    }
}

fn is(of: &str, value: &Value, optional: bool) -> bool {
    let below = |bits: u32| value.as_u64().is_some_and(|n| n < 1 << bits);
    let hex = |len: usize| {
        let digit = |c: char| c.is_ascii_hexdigit() && !c.is_ascii_uppercase();
        value
            .as_str()
            .is_some_and(|text| text.len() == len && text.chars().all(digit))
    };
    match of {
        "number" => value.is_u64(),
        "u32" => below(32),
        "u16" => below(16),
        "time" => value.is_i64(),
        "flag" => *value == Value::Bool(true) || (value.is_boolean() && !optional),
        "digest" => hex(64),
        "request id" => hex(32),
        "text" | "scope" | "position" | "effect id" => value.is_string(),
        "name" | "business key" => value.as_str().is_some_and(|text| !text.is_empty()),
        "object" => value.is_object(),
        "delta" => value
            .as_object()
            .is_some_and(|keys| keys.values().all(|value| value.is_string() || value.is_null())),
        _ => panic!("the page has no type '{of}'"),
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
