//! What the core says comes back from the wire as it was, through the bytes.
#![allow(clippy::unwrap_used, reason = "a test stops where something fails")]

mod strategies;

use proptest::prelude::*;
use prost::Message;
use strategies as any;
use tape_core::codec::StoredEntry;
use tape_core::id::{Epoch, Seq, StreamId};
use tape_core::payload::Digest;
use tape_core::relay::Place;
use tape_core::reply::Reply;
use tape_proto::convert::{
    RelayMove, RelayReport, RelayRequest, RelayReset, RelayTarget, RunCall, RunRequest, SessionChange,
    SessionRequest, ValueChange, ValueRequest, run_call, session_request,
};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tonic::Status;

/// Through the bytes of the wire.
fn sent<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// A call through the bytes of the wire.
fn carried(call: RunCall) -> RunCall {
    macro_rules! carry {
        ($($call:ident),+) => {
            match call {
                $(RunCall::$call(request) => RunCall::$call(sent(request)),)+
            }
        };
    }
    carry!(
        Drive,
        SignalRun,
        CancelRun,
        RetryRun,
        SettleEffect,
        SettleObligation,
        ReleaseClaim,
        RetireRun,
        ClaimEffect,
        RenewEffectClaim,
        FinishEffect,
        LapseEffect,
        ClaimObservation,
        RecordObservation,
        ClaimObligation,
        RenewObligationClaim,
        FinishObligation,
        ExpireGate,
        FireTimer,
        ReleaseVanishedDriver
    )
}

proptest! {
    #[test]
    fn run_commands((run, command) in any::run_command()) {
        let call = run_call(run.clone(), command.clone());
        prop_assert_eq!(RunRequest::try_from(carried(call)).unwrap(), RunRequest { run, command });
    }

    #[test]
    fn session_commands((session, command) in any::session_command()) {
        let change = match session_request(session.clone(), command.clone()).unwrap() {
            SessionRequest::Create(wire) => SessionChange::try_from(sent(wire)),
            SessionRequest::Append(wire) => SessionChange::try_from(sent(wire)),
            SessionRequest::Delete(wire) => SessionChange::try_from(sent(wire)),
            SessionRequest::Rewind(_) => unreachable!("no rewind was made"),
        };
        prop_assert_eq!(change.unwrap(), SessionChange { session, command });
    }

    #[test]
    fn value_commands(tenant in any::name(), name in any::name(), command in any::value_command()) {
        let change = ValueChange { tenant, name, command };
        let back = match ValueRequest::from(change.clone()) {
            ValueRequest::Put(wire) => ValueChange::try_from(sent(wire)),
            ValueRequest::Delete(wire) => ValueChange::try_from(sent(wire)),
        };
        prop_assert_eq!(back.unwrap(), change);
    }

    #[test]
    fn relay_commands(relay in any::relay(), command in any::relay_command()) {
        let report = RelayReport { relay, command };
        let back = match RelayRequest::from(report.clone()) {
            RelayRequest::Refusal(wire) => RelayReport::try_from(sent(wire)),
            RelayRequest::Redelivery(wire) => RelayReport::try_from(sent(wire)),
            RelayRequest::Receipt(wire) => RelayReport::try_from(sent(wire)),
        };
        prop_assert_eq!(back.unwrap(), report);
    }

    #[test]
    fn places_of_relays(place in any::place()) {
        prop_assert_eq!(Place::try_from(sent(v1::RelayPlace::from(place.clone()))).unwrap(), place);
    }

    #[test]
    fn moves_of_relays(part in any::relay_part(), epoch: u64, lease_ms: u64, progress in any::progress()) {
        let of = RelayMove { part, epoch: Epoch(epoch), lease_ms, progress };
        let wire = sent(v1::AdvanceRelayPartRequest::from(of.clone()));
        prop_assert_eq!(RelayMove::try_from(wire).unwrap(), of);
    }

    #[test]
    fn resets_of_relays(relay in any::relay_id(), cursors in any::cursors()) {
        for to in [RelayTarget::Beginning, RelayTarget::End, RelayTarget::Cursors(cursors)] {
            let reset = RelayReset { relay: relay.clone(), to };
            let wire = sent(v1::ResetRelayRequest::from(reset.clone()));
            prop_assert_eq!(RelayReset::try_from(wire).unwrap(), reset);
        }
    }

    #[test]
    fn names_of_streams(stream in any::stream()) {
        prop_assert_eq!(StreamId::try_from(sent(v1::StreamId::from(stream.clone()))).unwrap(), stream);
    }

    #[test]
    fn replies(reply in any::reply()) {
        let wire = sent(v1::Reply::from(reply.clone()));
        prop_assert_eq!(Reply::try_from(wire).unwrap(), reply);
    }

    #[test]
    fn rejections_in_messages_and_in_statuses(rejection in any::rejection()) {
        let failure = Failure::from(rejection);
        prop_assert_eq!(Failure::from(sent(failure.error(None))), failure.clone());
        prop_assert_eq!(Failure::from(&Status::from(&failure)), failure);
    }

    #[test]
    fn entries(seq: u64, envelope: Vec<u8>, payload: Option<Vec<u8>>, digest: [u8; 32]) {
        let entry = StoredEntry {
            seq: Seq(seq),
            envelope: envelope.into(),
            payload: payload.map(Into::into),
            digest: Digest(digest),
        };
        prop_assert_eq!(StoredEntry::try_from(sent(v1::Entry::from(entry.clone()))).unwrap(), entry);
    }

    #[test]
    fn any_bytes_are_a_request_or_a_named_field(bytes: Vec<u8>) {
        if let Ok(wire) = v1::DriveRequest::decode(bytes.as_slice())
            && let Err(error) = RunRequest::try_from(wire)
        {
            prop_assert!(!error.path.is_empty());
        }
    }
}

#[test]
fn other_failures_in_messages_and_in_statuses() {
    let field = tape_proto::convert::InvalidField::new("run.app", "is empty");
    let failures = [
        Failure::Invalid(field),
        Failure::Unavailable("the store is unavailable while it commits".into()),
        Failure::Draining,
        Failure::OutcomeUnknown("nobody knows".into()),
        Failure::Contended("too many".into()),
        Failure::SlowReader {
            resume: "entry 7".to_owned(),
        },
        Failure::Overloaded {
            limit: "commands under way".into(),
            max: 7,
        },
        Failure::Damaged("entry 3 is damaged".into()),
        Failure::NewerSchema("use a newer build".into()),
        Failure::Deadline,
        Failure::UnknownMethod("/tape.v1.RunService/Fork".into()),
        Failure::VersionMismatch {
            what: "contract".into(),
            client: "tape-client/1".into(),
            server: "tape-server/2".into(),
            client_versions: "1-1".into(),
            server_versions: "2-3".into(),
            upgrade: tape_proto::convert::Side::Client,
        },
        Failure::Other {
            code: tonic::Code::Internal,
            reason: String::new(),
            message: "h2".into(),
        },
    ];
    for failure in failures {
        assert_eq!(Failure::from(sent(failure.error(None))), failure);
        assert_eq!(Failure::from(&Status::from(&failure)), failure);
    }
}

#[test]
fn a_reason_from_a_newer_server_is_kept() {
    let wire = v1::Error {
        reason: "NEW_REASON".into(),
        message: "new".into(),
        code: 9,
        ..Default::default()
    };
    let failure = Failure::from(wire);
    let expected = Failure::Other {
        code: tonic::Code::FailedPrecondition,
        reason: "NEW_REASON".into(),
        message: "new".into(),
    };
    assert_eq!(failure, expected);
}
