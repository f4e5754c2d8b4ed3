//! Messages made from the descriptor of the contract: mostly valid, with few names, so that they refer to the same runs.

use prost::Message as _;
use prost::bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use rand::RngExt as _;
use rand::rngs::StdRng;
use std::collections::HashMap;
use tape_core::id::RequestId;
use tape_store::clock::{Clock as _, SystemClock};

/// A call of the contract.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    pub(crate) path: String,
    pub(crate) input: String,
    pub(crate) client_streams: bool,
}

/// The contract.
#[derive(Debug)]
pub(crate) struct Contract {
    messages: HashMap<String, DescriptorProto>,
    pub(crate) methods: Vec<Method>,
}

impl Contract {
    pub(crate) fn load() -> Self {
        let set =
            FileDescriptorSet::decode(tape_proto::FILE_DESCRIPTOR_SET).expect("it was made by the compiler");
        let (mut messages, mut methods) = (HashMap::new(), Vec::new());
        for file in set.file {
            let package = format!(".{}", file.package());
            file.message_type
                .iter()
                .for_each(|message| collect(&mut messages, &package, message));
            for service in &file.service {
                let path = |name: &str| format!("/{}.{}/{name}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| Method {
                    path: path(method.name()),
                    input: method.input_type().to_owned(),
                    client_streams: method.client_streaming(),
                }));
            }
        }
        Self { messages, methods }
    }

    /// The bytes of a message of that type.
    pub(crate) fn message(&self, rng: &mut StdRng, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(rng, name, "", &mut bytes);
        bytes
    }

    fn write(&self, rng: &mut StdRng, name: &str, holder: &str, out: &mut Vec<u8>) {
        let message = &self.messages[name];
        let mut chosen = HashMap::new();
        for field in &message.field {
            // Of each oneof, one; a proto3 optional is a oneof of its own.
            if let Some(oneof) = field.oneof_index.filter(|_| !field.proto3_optional()) {
                let of = message
                    .field
                    .iter()
                    .filter(|f| f.oneof_index == Some(oneof))
                    .count();
                let pick = *chosen.entry(oneof).or_insert_with(|| rng.random_range(0..of));
                let place = message.field.iter().filter(|f| f.oneof_index == Some(oneof));
                if place.clone().nth(pick).map(FieldDescriptorProto::number) != Some(field.number()) {
                    continue;
                }
            }
            let times = match field.label() {
                Label::Repeated => rng.random_range(0..3),
                _ if field.proto3_optional() => u32::from(rng.random_bool(0.4)),
                _ => u32::from(rng.random_bool(0.99)),
            };
            (0..times).for_each(|_| self.write_field(rng, field, holder, out));
        }
    }

    fn write_field(&self, rng: &mut StdRng, field: &FieldDescriptorProto, holder: &str, out: &mut Vec<u8>) {
        let number = u32::try_from(field.number()).expect("field numbers are positive");
        let wrong = rng.random_bool(0.01);
        let mut bytes = Vec::new();
        match field.r#type() {
            Type::Message => self.write(rng, field.type_name(), field.name(), &mut bytes),
            Type::String if wrong => bytes = wrong_text(rng),
            Type::String => bytes = text(rng, field.name(), holder).into_bytes(),
            Type::Bytes => bytes = blob(rng, field.name(), wrong),
            _ => {
                encode_key(number, WireType::Varint, out);
                return encode_varint(if wrong { rng.random() } else { count(rng, field) }, out);
            }
        }
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(&bytes);
    }
}

fn collect(messages: &mut HashMap<String, DescriptorProto>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    message
        .nested_type
        .iter()
        .for_each(|nested| collect(messages, &name, nested));
    messages.insert(name, message.clone());
}

fn text(rng: &mut StdRng, field: &str, holder: &str) -> String {
    let n = rng.random_range(0..3);
    match (field, holder) {
        ("tenant", _) => "acme".into(),
        ("app" | "user", _) => "a".into(),
        ("scope", _) => ["", "", "sub"][n].into(),
        ("traceparent", _) => "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        ("content_type", _) => "text/plain".into(),
        ("stream", _) => format!("acme/run/a/a/n0/n{n}"),
        ("pattern", _) => [">", "acme.run.>", "*.session.*.*.*.session.event_appended"][n].into(),
        ("page_token", _) => ["", "", "x"][n].into(),
        ("value", "set") => ["1", "1.50", "{\"a\":[null]}"][n].into(),
        ("session", _) => "n0".into(),
        _ => format!("n{n}"),
    }
}

fn wrong_text(rng: &mut StdRng) -> Vec<u8> {
    match rng.random_range(0..5) {
        0 => Vec::new(),
        1 => "x".repeat(rng.random_range(200..20_000)).into_bytes(),
        2 => b"a\0b".to_vec(),
        3 => vec![b'a', 0x80],
        _ => "a/%.*> #\u{85}\u{fc}".into(),
    }
}

fn blob(rng: &mut StdRng, field: &str, wrong: bool) -> Vec<u8> {
    let len = match field {
        _ if wrong => [0, 15, 33, 1024 * 1024 + 1][rng.random_range(0..4)],
        // Few ids, so that requests are repeated too, of any age.
        "request_id" if rng.random_bool(0.05) => {
            return request_id(u64::from(rng.random::<u32>()), rng.random_range(0..4));
        }
        "request_id" if rng.random_bool(0.95) => return request_id(0, rng.random()),
        "request_id" => 16,
        "digest" => 32,
        "cursor" => [0, 8][rng.random_range(0..2)],
        _ => rng.random_range(0..40),
    };
    (0..len).map(|_| rng.random()).collect()
}

fn count(rng: &mut StdRng, field: &FieldDescriptorProto) -> u64 {
    match field.name() {
        "lease_ms" | "claim_ms" => [100, 1_000, 3_600_000][rng.random_range(0..3)],
        "epoch" => [1, 1, 1, 2][rng.random_range(0..4)],
        "attempts_max" | "observations_max" => rng.random_range(1..4),
        "k" | "call" | "n" | "copy" => [0, 0, 0, 1][rng.random_range(0..4)],
        _ if field.r#type() == Type::Bool => u64::from(rng.random_bool(0.3)),
        _ if field.r#type() == Type::Enum => rng.random_range(0..4),
        _ => rng.random_range(0..40),
    }
}

/// A request id that was made `millis` milliseconds ago.
fn request_id(millis: u64, random: u128) -> Vec<u8> {
    let at = SystemClock.now().minus_millis(millis);
    RequestId::new(at, random).0.as_bytes().to_vec()
}
