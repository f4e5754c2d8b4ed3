//! A complete request on a run.

use super::field::{InvalidField, name, optional, optional_name, required};
use super::name::{request_bytes, request_id};
use crate::v1;
use bytes::Bytes;
use std::collections::BTreeMap;
use tape_core::command::{Begin, Command, Create, RunCommand};
use tape_core::entry::TraceParent;
use tape_core::entry::run::Lineage;
use tape_core::id::{Epoch, Key, RunId, Seq};

/// A request on a run: the run and the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecuteCommand {
    /// The run.
    pub run: RunId,
    /// The command.
    pub command: Command<RunCommand>,
}

/// The message that sends `command` to `run`.
#[must_use]
pub fn execute_request(run: RunId, command: Command<RunCommand>) -> v1::ExecuteRequest {
    use v1::execute_request::Command as Wire;
    let body = match command.body {
        RunCommand::Begin(begin) => Wire::Begin(begin.into()),
        RunCommand::Drive(epoch, command) => Wire::Drive(v1::Drive {
            epoch: epoch.0,
            command: Some(command.into()),
        }),
        RunCommand::Work(command) => Wire::Work(v1::Work {
            command: Some(command.into()),
        }),
        RunCommand::External(command) => Wire::External(v1::ExternalCommand {
            command: Some(command.into()),
        }),
    };
    v1::ExecuteRequest {
        run: Some(run.into()),
        request_id: request_bytes(command.request),
        principal: command.principal.map(Into::into),
        traceparent: command.trace.map(Into::into),
        command: Some(body),
    }
}

impl From<ExecuteCommand> for v1::ExecuteRequest {
    fn from(execute: ExecuteCommand) -> Self {
        execute_request(execute.run, execute.command)
    }
}

impl TryFrom<v1::ExecuteRequest> for ExecuteCommand {
    type Error = InvalidField;
    fn try_from(wire: v1::ExecuteRequest) -> Result<Self, InvalidField> {
        let run: RunId = required("run", wire.run)?;
        let body = wire.command.ok_or_else(|| InvalidField::missing("command"))?;
        let body = read_body(body, &run)?;
        let command = stamped(&wire.request_id, wire.principal.as_ref(), wire.traceparent, body)?;
        Ok(Self { run, command })
    }
}

/// A command with its principal and request id.
pub(super) fn stamped<B>(
    request: &Bytes,
    principal: Option<&String>,
    traceparent: Option<String>,
    body: B,
) -> Result<Command<B>, InvalidField> {
    let trace = traceparent.map(TraceParent::try_from).transpose();
    Ok(Command {
        request: request_id(request)?,
        principal: optional_name("principal", principal)?,
        trace: trace.map_err(|error| InvalidField::new("traceparent", error.to_string()))?,
        body,
    })
}

fn read_body(wire: v1::execute_request::Command, run: &RunId) -> Result<RunCommand, InvalidField> {
    use v1::execute_request::Command as Wire;
    match wire {
        Wire::Begin(begin) => read_begin(begin, run)
            .map(RunCommand::Begin)
            .map_err(|error| error.within("begin")),
        Wire::Drive(drive) => Ok(RunCommand::Drive(
            Epoch(drive.epoch),
            required("drive", drive.command)?,
        )),
        Wire::Work(work) => required("work", work.command).map(RunCommand::Work),
        Wire::External(external) => required("external", external.command).map(RunCommand::External),
    }
}

fn read_begin(wire: v1::Begin, run: &RunId) -> Result<Begin, InvalidField> {
    Ok(Begin {
        run: run.clone(),
        create: optional("create", wire.create)?,
        holder: name("holder", &wire.holder)?,
        lease_ms: wire.lease_ms,
        adopt: wire.adopt_epoch.map(Epoch),
        recovery: wire.recovery,
    })
}

impl From<Begin> for v1::Begin {
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

impl TryFrom<v1::begin::Create> for Create {
    type Error = InvalidField;
    fn try_from(wire: v1::begin::Create) -> Result<Self, InvalidField> {
        Ok(Self {
            labels: read_labels(wire.labels)?,
            input: required("input", wire.input)?,
            forked_from: optional("forked_from", wire.forked_from)?,
        })
    }
}

impl From<Create> for v1::begin::Create {
    fn from(create: Create) -> Self {
        Self {
            labels: write_labels(create.labels),
            input: Some(create.input.into()),
            forked_from: create.forked_from.map(Into::into),
        }
    }
}

impl TryFrom<v1::begin::Lineage> for Lineage {
    type Error = InvalidField;
    fn try_from(wire: v1::begin::Lineage) -> Result<Self, InvalidField> {
        Ok(Self {
            run: required("run", wire.run)?,
            through: Seq(wire.through_seq),
        })
    }
}

impl From<Lineage> for v1::begin::Lineage {
    fn from(lineage: Lineage) -> Self {
        Self {
            run: Some(lineage.run.into()),
            through_seq: lineage.through.0,
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
