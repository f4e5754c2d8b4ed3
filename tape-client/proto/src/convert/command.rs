//! Requests on runs, and the calls that send them.

use super::field::{InvalidField, name, optional, required};
use super::name::{context, stamped};
use super::{drive, external, work};
use crate::v1;
use std::collections::BTreeMap;
use tape_core::command::{Begin, Command, Create, RunCommand};
use tape_core::id::{Epoch, Key, RunId};
use tape_core::reply::Reply;

/// A request on a run: the run and the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// The run.
    pub run: RunId,
    /// The command.
    pub command: Command<RunCommand>,
}

macro_rules! run_calls {
    ($($call:ident($request:ident) -> $response:ident;)+) => {
        /// The call that sends a command to a run.
        #[derive(Clone, Debug, PartialEq)]
        pub enum RunCall {
            /// Over a Drive stream, or by `DriveOnce`.
            Drive(v1::DriveRequest),
            $(#[doc = concat!("The method `", stringify!($call), "`.")] $call(v1::$request),)+
        }

        $(
            impl From<v1::$request> for RunCall {
                fn from(request: v1::$request) -> Self {
                    Self::$call(request)
                }
            }

            impl From<Reply> for v1::$response {
                fn from(reply: Reply) -> Self {
                    Self { reply: Some(reply.into()) }
                }
            }

            impl TryFrom<v1::$response> for Reply {
                type Error = InvalidField;
                fn try_from(wire: v1::$response) -> Result<Self, InvalidField> {
                    required("reply", wire.reply)
                }
            }
        )+

        impl TryFrom<RunCall> for RunRequest {
            type Error = InvalidField;
            fn try_from(call: RunCall) -> Result<Self, InvalidField> {
                match call {
                    RunCall::Drive(request) => request.try_into(),
                    $(RunCall::$call(request) => request.try_into(),)+
                }
            }
        }
    };
}

run_calls! {
    SignalRun(SignalRunRequest) -> SignalRunResponse;
    CancelRun(CancelRunRequest) -> CancelRunResponse;
    RetryRun(RetryRunRequest) -> RetryRunResponse;
    SettleEffect(SettleEffectRequest) -> SettleEffectResponse;
    SettleObligation(SettleObligationRequest) -> SettleObligationResponse;
    ReleaseClaim(ReleaseClaimRequest) -> ReleaseClaimResponse;
    RetireRun(RetireRunRequest) -> RetireRunResponse;
    ClaimEffect(ClaimEffectRequest) -> ClaimEffectResponse;
    RenewEffectClaim(RenewEffectClaimRequest) -> RenewEffectClaimResponse;
    FinishEffect(FinishEffectRequest) -> FinishEffectResponse;
    LapseEffect(LapseEffectRequest) -> LapseEffectResponse;
    ClaimObservation(ClaimObservationRequest) -> ClaimObservationResponse;
    RecordObservation(RecordObservationRequest) -> RecordObservationResponse;
    ClaimObligation(ClaimObligationRequest) -> ClaimObligationResponse;
    RenewObligationClaim(RenewObligationClaimRequest) -> RenewObligationClaimResponse;
    FinishObligation(FinishObligationRequest) -> FinishObligationResponse;
    ExpireGate(ExpireGateRequest) -> ExpireGateResponse;
    FireTimer(FireTimerRequest) -> FireTimerResponse;
    ReleaseVanishedDriver(ReleaseVanishedDriverRequest) -> ReleaseVanishedDriverResponse;
}

/// Reads the request of each method of a family of commands: its name, and the command that its fields are.
macro_rules! requests {
    ($family:ident: $($request:ident($wire:ident) => $command:expr;)+) => {$(
        impl TryFrom<$crate::v1::$request> for $crate::convert::RunRequest {
            type Error = $crate::convert::InvalidField;
            fn try_from($wire: $crate::v1::$request) -> Result<Self, Self::Error> {
                let body = tape_core::command::RunCommand::$family($command);
                $crate::convert::command::request($wire.run, $wire.context, body)
            }
        }
    )+};
}
pub(super) use requests;

impl From<Reply> for v1::DriveOnceResponse {
    fn from(reply: Reply) -> Self {
        Self {
            reply: Some(reply.into()),
        }
    }
}

impl TryFrom<v1::DriveOnceResponse> for Reply {
    type Error = InvalidField;
    fn try_from(wire: v1::DriveOnceResponse) -> Result<Self, InvalidField> {
        required("reply", wire.reply)
    }
}

/// The call that sends `command` to `run`.
#[must_use]
pub fn run_call(run: RunId, command: Command<RunCommand>) -> RunCall {
    use v1::drive_request::Command as Wire;
    let (run, context, body) = (Some(run.into()), context(&command), command.body);
    match body {
        RunCommand::Begin(begin) => drive_call(run, context, 0, Wire::BeginRun(begin.into())),
        RunCommand::Drive(epoch, command) => drive_call(run, context, epoch.0, command.into()),
        RunCommand::Work(command) => work::call(run, context, command),
        RunCommand::External(command) => external::call(run, context, command),
    }
}

fn drive_call(
    run: Option<v1::RunId>,
    context: Option<v1::RequestContext>,
    epoch: u64,
    command: v1::drive_request::Command,
) -> RunCall {
    RunCall::Drive(v1::DriveRequest {
        call: 0,
        run,
        context,
        epoch,
        command: Some(command),
    })
}

/// The request of a call.
pub(super) fn request(
    run: Option<v1::RunId>,
    context: Option<v1::RequestContext>,
    body: RunCommand,
) -> Result<RunRequest, InvalidField> {
    Ok(RunRequest {
        run: required("run", run)?,
        command: stamped(context, body)?,
    })
}

impl TryFrom<v1::DriveOnceRequest> for RunRequest {
    type Error = InvalidField;
    fn try_from(wire: v1::DriveOnceRequest) -> Result<Self, InvalidField> {
        required("command", wire.command)
    }
}

impl TryFrom<v1::DriveRequest> for RunRequest {
    type Error = InvalidField;
    fn try_from(wire: v1::DriveRequest) -> Result<Self, InvalidField> {
        use v1::drive_request::Command as Wire;
        let run: RunId = required("run", wire.run)?;
        let body = match wire.command.ok_or_else(|| InvalidField::missing("command"))? {
            Wire::BeginRun(begin) => {
                let begin = read_begin(begin, &run).map_err(|error| error.within("begin_run"))?;
                RunCommand::Begin(begin)
            }
            command => RunCommand::Drive(Epoch(wire.epoch), drive::read(command)?),
        };
        let command = stamped(wire.context, body)?;
        Ok(Self { run, command })
    }
}

fn read_begin(wire: v1::drive_request::BeginRun, run: &RunId) -> Result<Begin, InvalidField> {
    Ok(Begin {
        run: run.clone(),
        create: optional("create", wire.create)?,
        holder: name("holder", &wire.holder)?,
        lease_ms: wire.lease_ms,
        adopt: wire.adopt_epoch.map(Epoch),
        recovery: wire.recovery,
    })
}

impl From<Begin> for v1::drive_request::BeginRun {
    fn from(begin: Begin) -> Self {
        Self {
            create: begin.create.map(Into::into),
            holder: begin.holder.into(),
            lease_ms: begin.lease_ms,
            adopt_epoch: begin.adopt.map(|epoch| epoch.0),
            recovery: begin.recovery,
        }
    }
}

impl TryFrom<v1::drive_request::begin_run::Create> for Create {
    type Error = InvalidField;
    fn try_from(wire: v1::drive_request::begin_run::Create) -> Result<Self, InvalidField> {
        Ok(Self {
            labels: read_labels(wire.labels)?,
            input: required("input", wire.input)?,
            forked_from: None,
        })
    }
}

impl From<Create> for v1::drive_request::begin_run::Create {
    fn from(create: Create) -> Self {
        Self {
            labels: write_labels(create.labels),
            input: Some(create.input.into()),
        }
    }
}

/// Labels of a run.
pub(super) fn read_labels(wire: BTreeMap<String, String>) -> Result<BTreeMap<Key, String>, InvalidField> {
    wire.into_iter()
        .map(|(key, value)| Ok((name("labels", &key)?, value)))
        .collect()
}

/// Labels of a run, for the wire.
pub(super) fn write_labels(labels: BTreeMap<Key, String>) -> BTreeMap<String, String> {
    labels
        .into_iter()
        .map(|(key, value)| (key.into(), value))
        .collect()
}
