//! Every refusal carries its reason, and the page of reasons says what the code does.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod strategies;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use strategies as any;
use tape_core::id::{Holder, RequestId};
use tape_core::reply::Rejection;
use tape_core::time::Timestamp;
use tape_proto::FILE_DESCRIPTOR_SET;
use tape_proto::convert::{InvalidField, Side};
use tape_proto::failure::{ERROR_DOMAIN, Failure};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// So many rejections have every reason, with and without what is optional.
const REJECTIONS: usize = 4_000;

/// What a row of the page says of a reason.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    code: String,
    always: BTreeSet<String>,
    sometimes: BTreeSet<String>,
}

/// The rows of the page, by reason.
fn page() -> BTreeMap<String, Told> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, reason, code, metadata, meaning, action, _] = cells[..] else {
            panic!("{row} has other cells than the others");
        };
        assert!(!meaning.is_empty() && !action.is_empty(), "{row}");
        let mut told = Told {
            code: code.to_owned(),
            ..Told::default()
        };
        for key in metadata.split(", ").filter(|key| !key.is_empty()) {
            let keys = if key.starts_with('[') {
                &mut told.sometimes
            } else {
                &mut told.always
            };
            keys.insert(key.trim_matches(['[', ']', '`']).to_owned());
        }
        (reason.trim_matches('`').to_owned(), told)
    })
    .collect()
}

/// The reasons that the contract has.
fn reasons() -> BTreeSet<String> {
    use prost::Message as _;
    let contract = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let lists = contract.file.iter().flat_map(|file| &file.enum_type);
    let list = lists
        .filter(|list| list.name() == "Reason")
        .flat_map(|list| &list.value);
    let names = list.map(|value| value.name().strip_prefix("REASON_").unwrap().to_owned());
    names.filter(|name| name != "UNSPECIFIED").collect()
}

/// Failures of every kind: as many rejections as have every reason, and each other failure.
fn failures() -> Vec<Failure> {
    let mut runner = TestRunner::deterministic();
    let rejection = any::rejection();
    let mut failures: Vec<Failure> = (0..REJECTIONS)
        .map(|_| rejection.new_tree(&mut runner).unwrap().current().into())
        .collect();
    let text = || "why".to_owned();
    failures.extend([
        Failure::Invalid(InvalidField::new("run.app", "is empty")),
        Failure::Unavailable(text()),
        Failure::Draining,
        Failure::OutcomeUnknown(text()),
        Failure::Contended(text()),
        Failure::Overloaded {
            limit: "commands under way".to_owned(),
            max: 7,
        },
        Failure::SlowReader { resume: text() },
        Failure::Damaged(text()),
        Failure::NewerSchema(text()),
        Failure::Deadline,
        Failure::UnknownMethod("/tape.v1.RunService/Fork".to_owned()),
        Failure::VersionMismatch {
            what: "contract".to_owned(),
            client: text(),
            server: text(),
            client_versions: text(),
            server_versions: text(),
            upgrade: Side::Server,
        },
    ]);
    failures
}

fn name(code: Code) -> String {
    format!("{code:?}")
        .chars()
        .fold(String::new(), |mut name, letter| {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
            name
        })
}

#[test]
fn every_refusal_carries_its_reason_and_the_page_says_what_it_has() {
    let mut found: BTreeMap<String, (String, Vec<BTreeSet<String>>)> = BTreeMap::new();
    for failure in failures() {
        let status = Status::from(&failure);
        let info = status.get_details_error_info().expect("every status has it");
        assert_eq!(info.domain, ERROR_DOMAIN);
        let error = failure.error(None);
        assert_eq!(
            (&error.reason, error.code),
            (&info.reason, i32::from(status.code()))
        );
        let keys: BTreeSet<String> = info.metadata.into_keys().collect();
        assert!(error.metadata.keys().eq(&keys), "{failure:?}");
        let seen = found.entry(info.reason).or_default();
        seen.0 = name(status.code());
        seen.1.push(keys);
    }
    let told: BTreeMap<String, Told> = found
        .into_iter()
        .map(|(reason, (code, seen))| {
            let all = seen.iter().flatten().cloned();
            let always = |key: &String| seen.iter().all(|keys| keys.contains(key));
            let (always, sometimes) = all.partition(always);
            (
                reason,
                Told {
                    code,
                    always,
                    sometimes,
                },
            )
        })
        .collect();
    let page = page();
    assert_eq!(
        told.keys().cloned().collect::<BTreeSet<_>>(),
        reasons(),
        "the samples have every reason"
    );
    for (reason, told) in &told {
        assert_eq!(page.get(reason), Some(told), "{reason} in docs/errors.md");
    }
    assert_eq!(page.len(), told.len(), "the page has no other reason");
}

#[test]
fn a_refusal_says_when_to_try_again_where_a_time_is_known() {
    let now = Timestamp::from_micros(1_000_000_000_000_000);
    let later = now.plus_millis(1_500);
    let holder: Holder = "agent-1".parse().unwrap();
    let what = String::from("effect #0.0");
    let ahead = RequestId::new(now.plus_millis(7_000), 1);
    for (rejection, wait_ms) in [
        (
            Rejection::LeaseHeld {
                holder: holder.clone(),
                until: later,
            },
            1_500,
        ),
        (
            Rejection::Claimed {
                what: what.clone(),
                holder,
                until: later,
            },
            1_500,
        ),
        (Rejection::TooEarly { what, due: later }, 1_500),
        (Rejection::NotDue { due: Some(later) }, 1_500),
        (Rejection::RequestFromFuture { request: ahead, now }, 2_000),
    ] {
        let failure = Failure::from(rejection);
        let wait = failure.retry_after(now);
        assert_eq!(wait, Some(Duration::from_millis(wait_ms)), "{failure:?}");
        let info = failure.status(wait).get_details_retry_info().unwrap();
        assert_eq!(info.retry_delay, wait);
        assert_eq!(failure.error(wait).retry_after_ms, Some(wait_ms));
        let over = failure.retry_after(later.plus_millis(60_000));
        assert_eq!(over, Some(Duration::ZERO), "it makes sense at once: {failure:?}");
    }
    let unknown = Failure::from(Rejection::NotDue { due: None });
    assert_eq!(unknown.retry_after(now), None);
    assert!(unknown.status(None).get_details_retry_info().is_none());
}

#[test]
fn what_a_server_has_no_room_for_is_to_be_sent_again() {
    let full = Failure::Overloaded {
        limit: "KiB under way in the server".to_owned(),
        max: 262_144,
    };
    let info = Status::from(&full).get_details_retry_info().unwrap();
    assert!(info.retry_delay.unwrap() >= Duration::from_secs(1));
}
