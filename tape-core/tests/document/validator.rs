//! JSON Schema, as far as the schema of envelopes uses it.

use super::types::FORMS;
use serde_json::{Map, Value};

/// What is wrong with a value by a schema within `root`; none where nothing is.
pub(crate) fn problem(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let schema = schema.as_object().unwrap();
    schema
        .iter()
        .find_map(|(keyword, rule)| keyword_problem(root, schema, (keyword, rule), value))
}

fn keyword_problem(
    root: &Value,
    schema: &Map<String, Value>,
    (keyword, rule): (&str, &Value),
    value: &Value,
) -> Option<String> {
    let check = |schema: &Value, value: &Value| problem(root, schema, value);
    let all = || rule.as_array().unwrap().iter();
    let unless = |right: bool| (!right).then(|| format!("{keyword} {rule}: {value}"));
    match keyword {
        "$schema" | "$defs" | "title" | "description" | "then" => None,
        "$ref" => check(root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value),
        "type" => unless(match rule {
            Value::Array(types) => types.iter().any(|one| is(one, value)),
            one => is(one, value),
        }),
        "enum" => unless(rule.as_array().unwrap().contains(value)),
        "const" => unless(rule == value),
        "minimum" => unless(whole(value).is_none_or(|number| number >= whole(rule).unwrap())),
        "maximum" => unless(whole(value).is_none_or(|number| number <= whole(rule).unwrap())),
        "maxLength" => unless(
            value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
        ),
        "pattern" => unless(
            value
                .as_str()
                .is_none_or(|text| fits(rule.as_str().unwrap(), text)),
        ),
        "items" => value.as_array()?.iter().find_map(|one| check(rule, one)),
        "properties" => {
            let members = value.as_object()?;
            let known = |(name, rule): (&String, &Value)| check(rule, members.get(name)?);
            rule.as_object().unwrap().iter().find_map(known)
        }
        "required" => {
            let members = value.as_object()?;
            unless(all().all(|name| members.contains_key(name.as_str().unwrap())))
        }
        "additionalProperties" => value.as_object()?.values().find_map(|member| check(rule, member)),
        "propertyNames" => value
            .as_object()?
            .keys()
            .find_map(|name| check(rule, &Value::from(name.as_str()))),
        "maxProperties" => unless(value.as_object()?.len() as u64 <= rule.as_u64().unwrap()),
        "allOf" => all().find_map(|one| check(one, value)),
        "anyOf" => unless(all().any(|one| check(one, value).is_none())),
        "oneOf" => unless(all().filter(|one| check(one, value).is_none()).count() == 1),
        "if" if check(rule, value).is_none() => check(&schema["then"], value),
        "if" => None,
        other => panic!("the tests do not know '{other}' of JSON Schema"),
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => whole(value).is_some(),
        other => panic!("no type '{other}'"),
    }
}

fn whole(value: &Value) -> Option<i128> {
    let signed = value.as_i64().map(i128::from);
    signed.or_else(|| value.as_u64().map(i128::from))
}

fn fits(pattern: &str, text: &str) -> bool {
    let form = FORMS.iter().find(|form| form.pattern == pattern);
    (form.unwrap().matches)(text)
}
