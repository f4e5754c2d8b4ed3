//! The JSON Schema of envelopes, made from the page's tables, so that page, schema and code say the same.

use super::samples::{Sample, all};
use super::types::{FORMS, Form, Type, reference};
use super::{Document, Section, validator};
use serde_json::{Map, Value, json};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format/entry.schema.json");

/// The whole schema.
pub(crate) fn of(document: &Document) -> Value {
    let mut definitions = Map::new();
    for form in &FORMS {
        definitions.insert(form.name.replace(' ', "_"), of_form(form));
    }
    for (name, section) in document.types.iter().chain(&document.kinds) {
        definitions.insert(name.replace(' ', "_"), of_section(document, section));
    }
    add_kinds(document, definitions.get_mut("entry").unwrap());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The envelope of an entry of a Tape journal, versions 1 and 2",
        "description": "Made from the tables of docs/format.md. Members that are not listed may be there and are ignored. \
            Lengths are in characters here and in bytes on the page, where they bound names more tightly.",
        "$ref": "#/$defs/envelope",
        "$defs": definitions,
    })
}

fn of_form(form: &Form) -> Value {
    let mut schema = json!({"type": "string"});
    if !form.pattern.is_empty() {
        schema["pattern"] = json!(form.pattern);
    }
    if let Some(most) = form.most {
        schema["maxLength"] = json!(most);
    }
    schema
}

fn of_section(document: &Document, section: &Section) -> Value {
    let property = |cell: &str, meaning: &str| {
        let mut schema = Type::of(document, cell).schema();
        schema["description"] = json!(plain(meaning));
        schema
    };
    let fields = section.fields.iter();
    let properties: Map<String, Value> = fields
        .map(|field| (field.name.clone(), property(&field.of, &field.meaning)))
        .collect();
    let mut schema =
        json!({"description": plain(&section.about), "type": "object", "properties": properties});
    let always = section
        .fields
        .iter()
        .filter(|field| !field.optional && !field.is_read_as_missing(section));
    let always: Vec<&str> = always.map(|field| field.name.as_str()).collect();
    if !always.is_empty() {
        schema["required"] = json!(always);
    }
    let dependent = section.fields.iter().filter_map(|field| {
        let (other, words) = field.with.as_ref()?;
        Some(json!({
            "if": {"properties": {other: {"enum": words}}, "required": [other]},
            "then": {"required": [field.name]},
        }))
    });
    let dependent: Vec<Value> = dependent.collect();
    if !dependent.is_empty() {
        schema["allOf"] = json!(dependent);
    }
    if section.one_member {
        let one = section
            .fields
            .iter()
            .map(|field| json!({"required": [field.name]}));
        schema["oneOf"] = one.collect();
        schema["maxProperties"] = json!(1);
    }
    if !section.or_texts.is_empty() {
        return json!({"anyOf": [{"enum": section.or_texts}, schema]});
    }
    schema
}

/// Says which body each kind has.
fn add_kinds(document: &Document, entry: &mut Value) {
    let kinds: Vec<&String> = document.kinds.keys().collect();
    entry["properties"]["kind"] = json!({"enum": kinds});
    let body = |kind: &&String| {
        json!({
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"properties": {"body": reference(kind)}},
        })
    };
    entry["allOf"] = kinds.iter().map(body).collect();
}

/// A text of the page without its links and code marks.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((label, after)) = link.split_once("](") else {
            break;
        };
        let (_, after) = after.split_once(')').unwrap();
        plain += &format!("{before}{label}");
        rest = after;
    }
    (plain + rest).replace(['`', '*'], "")
}

#[test]
fn the_schema_is_that_of_the_tables() {
    let text = serde_json::to_string_pretty(&of(&Document::read())).unwrap() + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let found = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        found == text,
        "docs/format/entry.schema.json is not that of the tables: run this with UPDATE_EXPECT=1"
    );
}

fn schema() -> Value {
    serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap()
}

#[test]
fn every_golden_file_is_valid_also_with_members_that_the_schema_does_not_know() {
    let schema = schema();
    for sample in all() {
        let envelope = sample.value();
        assert_eq!(
            validator::problem(&schema, &schema, &envelope),
            None,
            "{}",
            sample.name
        );
        let mut more = envelope.clone();
        add_unknown(&mut more);
        assert_eq!(
            validator::problem(&schema, &schema, &more),
            None,
            "{}",
            sample.name
        );
    }
}

/// Adds a member to every object whose members have names that the format gives, and that may have others.
fn add_unknown(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let known = [
                "v", "kind", "len", "tenant", "effect", "position", "who", "do", "how", "budget", "holder",
            ];
            if known.iter().any(|name| members.contains_key(*name)) {
                members.insert("new".to_owned(), json!([null, {"any": 1.5}]));
            }
            members.values_mut().for_each(|member| {
                if !member.is_array() {
                    add_unknown(member)
                }
            });
        }
        Value::Array(elements) => elements.iter_mut().for_each(add_unknown),
        _ => {}
    }
}

/// The paths of all members of known names, with what stands there.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    let delta = ["delta", "state", "labels", "origins"]
        .iter()
        .any(|name| at.ends_with(&format!("/{name}")));
    if let Value::Object(members) = value
        && (!delta || members.contains_key("sha256"))
    {
        for (name, member) in members {
            let path = format!("{at}/{name}");
            paths(member, &path, found);
            found.push(path);
        }
    }
}

#[test]
fn members_of_other_types_and_missing_ones_are_found() {
    let schema = schema();
    let document = Document::read();
    let mut tried = 0;
    for sample in all() {
        let mut found = Vec::new();
        paths(&sample.value(), "", &mut found);
        for path in found {
            for other in [Value::Null, json!([[]]), json!(1.5), json!("\u{1}"), json!(-1)] {
                if may_be(&sample, &path, &other) {
                    continue;
                }
                let mut envelope = sample.value();
                *envelope.pointer_mut(&path).unwrap() = other.clone();
                let problem = validator::problem(&schema, &schema, &envelope);
                assert!(problem.is_some(), "{}: {path} as {other}", sample.name);
                tried += 1;
            }
        }
        let (kind, mut envelope) = (sample.kind(), sample.value());
        for field in &document.kinds[&kind].fields {
            if field.optional || field.is_read_as_missing(&document.kinds[&kind]) {
                continue;
            }
            let body = envelope["entry"]["body"].as_object_mut().unwrap();
            let removed = body.remove(&field.name).unwrap();
            assert!(
                validator::problem(&schema, &schema, &envelope).is_some(),
                "{kind}: {}",
                field.name
            );
            envelope["entry"]["body"][&field.name] = removed;
        }
    }
    assert!(tried > 5_000, "{tried}");
}

/// Whether a member may be this: any text may stand where a text of any content does, and a time may be before 1970.
fn may_be(sample: &Sample, path: &str, other: &Value) -> bool {
    const TEXTS: [&str; 12] = [
        "reason",
        "error",
        "cause",
        "why",
        "problem",
        "author",
        "model",
        "policy_version",
        "name",
        "digest",
        "preview",
        "number",
    ];
    const TIMES: [&str; 13] = [
        "at",
        "decided",
        "until",
        "retry_at",
        "redrive_at",
        "resume_at",
        "next_at",
        "observe_at",
        "due_at",
        "deadline",
        "begun_at",
        "ended_at",
        "recorded_at",
    ];
    let last = path.rsplit('/').next().unwrap();
    match other {
        Value::String(_) => TEXTS.contains(&last) && sample.kind() != "sample.recorded",
        Value::Number(number) => number.is_i64() && TIMES.contains(&last),
        _ => false,
    }
}
