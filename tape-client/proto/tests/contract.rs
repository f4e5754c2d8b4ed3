//! The contract as other languages see it.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};
use std::collections::BTreeSet;
use tape_proto::FILE_DESCRIPTOR_SET;

/// Words that no field may have as its name: reserved in C#, C++, Go, Java, JavaScript, Kotlin, PHP, Python, Ruby, Rust or Swift.
const RESERVED: &str = "abstract alias and as assert async await base begin bool boolean break byte case catch char checked \
    class clone const const_cast continue crate debugger decimal declare def default defer defined del delegate delete do double dyn \
    dynamic_cast echo elif else elseif elsif empty end enddeclare endfor endforeach endif endswitch endwhile ensure enum eval event \
    except exec explicit export extends extension extern fallthrough false final finally fixed float fn for foreach friend from fun \
    func function global go goto guard if impl implements implicit import in include init inline inout instanceof insteadof int \
    interface internal is isset let lambda list lock long loop match mod module move mut mutable namespace native new next nil \
    none nonlocal not null object operator or out override package params print private protected protocol public pub raise \
    readonly redo ref register reinterpret_cast repeat require rescue restrict retry return sbyte sealed select self short signed \
    sizeof stackalloc static static_cast strictfp string struct subscript super switch synchronized template then this throw \
    throws trait transient true try type typealias typedef typeid typename typeof uint ulong unchecked undef union unless unset \
    unsafe unsigned unsized until use ushort using val var virtual void volatile wchar_t when where while with xor yield";

fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// The names of the fields of a message and of those within it.
fn fields(message: &DescriptorProto, names: &mut BTreeSet<String>) {
    let own = message.field.iter().map(|field| field.name().to_owned());
    names.extend(own.chain(message.oneof_decl.iter().map(|choice| choice.name().to_owned())));
    message
        .nested_type
        .iter()
        .for_each(|nested| fields(nested, names));
}

#[test]
fn no_field_has_a_reserved_word_as_its_name() {
    let mut names = BTreeSet::new();
    for file in contract().file {
        file.message_type
            .iter()
            .for_each(|message| fields(message, &mut names));
    }
    assert!(names.len() > 100, "the contract was read");
    let reserved: BTreeSet<&str> = RESERVED.split_whitespace().collect();
    let wrong: Vec<_> = names
        .iter()
        .filter(|name| reserved.contains(name.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A call that changes a stream can be sent again: it has a request id.
#[test]
fn every_request_on_a_stream_that_writes_has_a_context() {
    let without: BTreeSet<&str> = [
        // They read.
        "Get",
        "List",
        "Read",
        "Watch",
        "Count",
        "Tail",
        "Negotiate",
        "WhoAmI",
        // They find and finish the work that is left, however often they are sent.
        "MergeSession",
        "FinishErasures",
        "CheckIndex",
        "RetireRuns",
        "ReclaimSpace",
        // They put a place where they say, however often they are sent.
        "ClaimRelayPart",
        "AdvanceRelayPart",
        "ReleaseRelayPart",
        "DisableRelay",
        "EnableRelay",
        "ResetRelay",
        "ForgetRelay",
        // Its command has one.
        "DriveOnce",
    ]
    .into();
    for file in contract().file {
        for method in file.service.iter().flat_map(|service| &service.method) {
            let message = method.input_type().rsplit('.').next().unwrap().to_owned();
            let message = contract()
                .file
                .into_iter()
                .flat_map(|file| file.message_type)
                .find(|found| found.name() == message);
            let has = message
                .unwrap()
                .field
                .iter()
                .any(|field| field.name() == "context");
            let expected = !without.iter().any(|word| method.name().starts_with(word));
            assert_eq!(has, expected, "{}", method.name());
        }
    }
}
