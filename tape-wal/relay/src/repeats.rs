//! JSON texts in which an object has a member twice. Readers disagree on which of the two counts.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// Whether no object of a JSON text has a member twice. A text that is not JSON, or is nested too deep, has not been looked through.
pub(crate) fn has_none(text: &str) -> bool {
    serde_json::from_str::<Unrepeated>(text).is_ok()
}

/// Any JSON value whose objects have each member once.
struct Unrepeated;

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Unrepeated;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Unrepeated, E> {
        Ok(Unrepeated)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Unrepeated, E> {
        Ok(Unrepeated)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Unrepeated, E> {
        Ok(Unrepeated)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Unrepeated, E> {
        Ok(Unrepeated)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Unrepeated, E> {
        Ok(Unrepeated)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Unrepeated, E> {
        Ok(Unrepeated)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unrepeated, A::Error> {
        while items.next_element::<Unrepeated>()?.is_some() {}
        Ok(Unrepeated)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unrepeated, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Unrepeated>()?;
            if !names.insert(name) {
                return Err(Error::custom("a member stands there twice"));
            }
        }
        Ok(Unrepeated)
    }
}

#[cfg(test)]
mod tests {
    use super::has_none;

    #[test]
    fn a_member_that_stands_twice_is_found_at_any_depth() {
        for text in [
            "{}",
            "[]",
            "1",
            r#"{"a":{"b":1},"b":[{"a":1.5e300},{"a":-2}]}"#,
            "null",
            r#""a""#,
        ] {
            assert!(has_none(text), "{text}");
        }
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"[{"x":{"a":1,"\u0061":2}}]"#,
            "{",
            &"[".repeat(200),
        ] {
            assert!(!has_none(text), "{text}");
        }
    }
}
