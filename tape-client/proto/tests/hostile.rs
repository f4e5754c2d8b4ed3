//! Wrong messages are refused by the path of the field that is wrong.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

use prost::Message;
use tape_core::limits::{NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use tape_proto::convert::{RelayMove, RelayReport, RelayReset, RunRequest, SessionChange};
use tape_proto::v1;
use tape_proto::v1::drive_request::{BeginEffect, BeginRun, Command, RecordDecision, RestartEffect};

fn run() -> v1::RunId {
    let name = || "n".to_owned();
    v1::RunId {
        tenant: name(),
        app: name(),
        user: name(),
        session: name(),
        invocation: name(),
    }
}

fn payload() -> v1::Payload {
    v1::Payload {
        content_type: "text/plain".into(),
        data: "x".into(),
    }
}

fn context() -> v1::RequestContext {
    v1::RequestContext {
        request_id: vec![1; 16].into(),
        ..Default::default()
    }
}

fn drive(command: Command) -> v1::DriveRequest {
    v1::DriveRequest {
        call: 0,
        run: Some(run()),
        context: Some(context()),
        epoch: 1,
        command: Some(command),
    }
}

fn begin_effect(change: impl FnOnce(&mut v1::EffectSpec)) -> v1::DriveRequest {
    let mut spec = v1::EffectSpec {
        connector: "bank".into(),
        operation: "pay".into(),
        semantics: v1::Semantics::Idempotent.into(),
        mode: v1::Mode::Inline.into(),
        args: Some(payload()),
        ..Default::default()
    };
    change(&mut spec);
    let effect = v1::EffectId {
        position: Some(v1::Position::default()),
        call: 0,
    };
    drive(Command::BeginEffect(BeginEffect {
        effect: Some(effect),
        spec: Some(spec),
    }))
}

#[track_caller]
fn refused(wire: v1::DriveRequest, error: &str) {
    assert_eq!(RunRequest::try_from(wire).unwrap_err().to_string(), error);
}

#[test]
fn a_whole_request_is_taken() {
    RunRequest::try_from(begin_effect(|_| ())).unwrap();
}

#[test]
fn missing_fields() {
    refused(v1::DriveRequest::default(), "run: is missing");
    refused(
        v1::DriveRequest {
            run: Some(run()),
            ..Default::default()
        },
        "command: is missing",
    );
    refused(
        v1::DriveRequest {
            context: None,
            ..begin_effect(|_| ())
        },
        "context: is missing",
    );
    refused(
        drive(Command::BeginRun(BeginRun::default())),
        "begin_run.holder: is empty",
    );
    refused(
        drive(Command::RecordDecision(RecordDecision {
            position: Some(v1::Position::default()),
            ..Default::default()
        })),
        "record_decision.fingerprint: is missing",
    );
    refused(
        begin_effect(|spec| spec.args = None),
        "begin_effect.spec.args: is missing",
    );
    refused(
        begin_effect(|spec| spec.connector.clear()),
        "begin_effect.spec.connector: is empty",
    );
}

#[test]
fn enum_values_that_are_unspecified_or_unknown() {
    refused(
        begin_effect(|spec| spec.semantics = 0),
        "begin_effect.spec.semantics: is not specified",
    );
    refused(
        begin_effect(|spec| spec.mode = 77),
        "begin_effect.spec.mode: has the value 77, which this build does not know",
    );
}

#[test]
fn names_and_payloads_over_their_limits() {
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    refused(
        begin_effect(|spec| spec.connector.clone_from(&long)),
        "begin_effect.spec.connector: has 201 bytes, the limit is 200",
    );
    refused(
        begin_effect(|spec| spec.operation = "a\nb".into()),
        "begin_effect.spec.operation: has the control character U+000A at byte 1",
    );
    let data = vec![0; PAYLOAD_BYTES_MAX + 1].into();
    refused(
        begin_effect(|spec| {
            spec.args = Some(v1::Payload {
                content_type: "x".into(),
                data,
            })
        }),
        "begin_effect.spec.args.data: payload has 1048577 bytes, the limit is 1048576",
    );
    let spends = vec![
        v1::Spend {
            budget: "day".into(),
            amount: 1,
        },
        v1::Spend {
            budget: String::new(),
            amount: 1,
        },
    ];
    refused(
        begin_effect(|spec| spec.reserve = spends),
        "begin_effect.spec.reserve[1].budget: is empty",
    );
    let mut wire = begin_effect(|_| ());
    let effect = v1::EffectId {
        position: Some(v1::Position::default()),
        call: 70_000,
    };
    wire.command = Some(Command::RestartEffect(RestartEffect { effect: Some(effect) }));
    refused(wire, "restart_effect.effect.call: is 70000, the limit is 65535");
}

#[test]
fn request_ids_principals_and_traces() {
    let with = |change: fn(&mut v1::RequestContext)| {
        let mut wire = begin_effect(|_| ());
        change(wire.context.as_mut().unwrap());
        wire
    };
    refused(with(|r| r.request_id.clear()), "context.request_id: is missing");
    refused(
        with(|r| r.request_id = vec![0xff; 7].into()),
        "context.request_id: is not a UUID: 16 bytes, or its text",
    );
    refused(
        with(|r| r.principal = Some(String::new())),
        "context.principal: is empty",
    );
    refused(
        with(|r| r.traceparent = Some("00-xyz".into())),
        "context.traceparent: traceparent must have the form 00-<32 hex digits>-<16 hex digits>-<2 hex digits>",
    );
    let text = with(|r| r.request_id = "67e55044-10b1-426f-9247-bb680e5fe0c8".into());
    let id = RunRequest::try_from(text).unwrap().command.request;
    assert_eq!(id.to_string(), "67e5504410b1426f9247bb680e5fe0c8");
}

#[test]
fn texts_that_are_not_utf8_do_not_decode() {
    // Field 2 (run), of length 3: field 1 (tenant), of length 1, a lone continuation byte.
    let bytes = [0x12, 0x03, 0x0a, 0x01, 0x80];
    let error = v1::DriveRequest::decode(bytes.as_slice())
        .unwrap_err()
        .to_string();
    assert!(error.contains("tenant") && error.contains("UTF-8"), "{error}");
}

#[test]
fn changes_of_state() {
    let change = |set: &[(&str, &str)], removed: &[&str]| {
        let delta = v1::Delta {
            set: set
                .iter()
                .map(|(key, json)| ((*key).to_owned(), (*json).to_owned()))
                .collect(),
            removed: removed.iter().map(|key| (*key).to_owned()).collect(),
        };
        let name = || "n".to_owned();
        let session = v1::SessionId {
            tenant: name(),
            app: name(),
            user: name(),
            session: name(),
        };
        SessionChange::try_from(v1::CreateSessionRequest {
            session: Some(session),
            context: Some(context()),
            state: Some(delta),
        })
        .map_err(|error| error.to_string())
    };
    assert!(change(&[("a", "1.50")], &["b"]).is_ok());
    assert_eq!(
        change(&[("a", "1")], &["a"]).unwrap_err(),
        "state.removed: removes a key that is set"
    );
    assert_eq!(
        change(&[], &["a", "a"]).unwrap_err(),
        "state.removed: has a key twice"
    );
    let not_json = change(&[("a", "{")], &[]).unwrap_err();
    assert!(not_json.starts_with("state.set: 'a' is not JSON:"), "{not_json}");
}

#[test]
fn what_is_recorded_of_a_relay_names_the_field_that_is_wrong() {
    let whole = v1::RecordRefusalRequest {
        relay: Some(v1::RelayStreamId {
            tenant: "acme".into(),
            scope: v1::RelayScope::Own.into(),
            name: "lake".into(),
        }),
        context: Some(context()),
        stream: Some(tape_core::id::StreamId::Run(run().try_into().unwrap()).into()),
        seq: 1,
        digest: vec![7; 32].into(),
        attempts: 1,
        reason: "no".into(),
    };
    let refused = |change: fn(&mut v1::RecordRefusalRequest), error: &str| {
        let mut wire = whole.clone();
        change(&mut wire);
        assert_eq!(RelayReport::try_from(wire).unwrap_err().to_string(), error);
    };
    RelayReport::try_from(whole.clone()).unwrap();
    refused(|wire| wire.relay = None, "relay: is missing");
    refused(
        |wire| wire.relay.as_mut().unwrap().scope = 0,
        "relay.scope: is not specified",
    );
    refused(
        |wire| wire.relay.as_mut().unwrap().scope = 3,
        "relay.scope: has the value 3, which this build does not know",
    );
    refused(
        |wire| wire.relay.as_mut().unwrap().name.clear(),
        "relay.name: is empty",
    );
    refused(|wire| wire.stream = None, "stream: is missing");
    refused(
        |wire| wire.digest = vec![7; 31].into(),
        "digest: has 31 bytes, a digest has 32",
    );
    refused(|wire| wire.context = None, "context: is missing");
}

#[test]
fn the_place_of_a_relay_names_the_field_that_is_wrong() {
    use v1::reset_relay_request::{Cursors, To};
    let tenants = |which| Some(v1::Tenants { which });
    let relay = |which| v1::RelayId {
        tenants: tenants(which),
        name: "lake".into(),
    };
    let all = || Some(v1::tenants::Which::All(v1::tenants::All {}));
    let cursor = |shard| v1::ShardCursor {
        shard,
        ..v1::ShardCursor::default()
    };
    let moved = |relay: v1::RelayId, part, shards: &[u32]| v1::AdvanceRelayPartRequest {
        part: Some(v1::RelayPartId {
            relay: Some(relay),
            part,
        }),
        cursors: shards.iter().map(|shard| cursor(*shard)).collect(),
        ..v1::AdvanceRelayPartRequest::default()
    };
    RelayMove::try_from(moved(relay(all()), 65_535, &[0, 65_535])).unwrap();
    let only = |tenant: &str| Some(v1::tenants::Which::Only(tenant.into()));
    for (wire, error) in [
        (v1::AdvanceRelayPartRequest::default(), "part: is missing"),
        (moved(relay(None), 0, &[]), "part.relay.tenants.which: is missing"),
        (
            moved(relay(only("")), 0, &[]),
            "part.relay.tenants.only: is empty",
        ),
        (
            moved(relay(all()), 65_536, &[]),
            "part.part: is 65536, the limit is 65535",
        ),
        (
            moved(relay(all()), 0, &[1, 65_536]),
            "cursors[1].shard: is 65536, the limit is 65535",
        ),
        (
            moved(relay(all()), 0, &[1, 2, 1]),
            "cursors[2].shard: is 1 a second time",
        ),
    ] {
        assert_eq!(RelayMove::try_from(wire).unwrap_err().to_string(), error);
    }
    let reset = |to| v1::ResetRelayRequest {
        relay: Some(relay(all())),
        to,
    };
    let shards = vec![cursor(7), cursor(7)];
    for (wire, error) in [
        (v1::ResetRelayRequest::default(), "relay: is missing"),
        (reset(None), "to: is missing"),
        (
            reset(Some(To::Cursors(Cursors { shards }))),
            "cursors.shards[1].shard: is 7 a second time",
        ),
    ] {
        assert_eq!(RelayReset::try_from(wire).unwrap_err().to_string(), error);
    }
}
