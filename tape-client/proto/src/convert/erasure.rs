//! Erasing payloads.

use super::command::stamped;
use super::field::InvalidField;
use super::name::request_bytes;
use crate::v1;
use tape_core::command::Command;
use tape_core::erasure::Erasure;
use tape_core::id::{InvalidName, Seq, StreamId};

/// A request to erase payloads of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamErasure {
    /// The stream.
    pub stream: StreamId,
    /// The command.
    pub command: Command<Erasure>,
}

impl TryFrom<v1::EraseRequest> for StreamErasure {
    type Error = InvalidField;
    fn try_from(wire: v1::EraseRequest) -> Result<Self, InvalidField> {
        let body = Erasure {
            entries: wire.seqs.into_iter().map(Seq).collect(),
            reason: wire.reason,
        };
        Ok(Self {
            stream: stream(&wire.stream)?,
            command: stamped(&wire.request_id, wire.principal.as_ref(), wire.traceparent, body)?,
        })
    }
}

impl From<StreamErasure> for v1::EraseRequest {
    fn from(erasure: StreamErasure) -> Self {
        let StreamErasure { stream, command } = erasure;
        Self {
            stream: stream.to_string(),
            request_id: request_bytes(command.request),
            principal: command.principal.map(Into::into),
            traceparent: command.trace.map(Into::into),
            seqs: command.body.entries.into_iter().map(|seq| seq.0).collect(),
            reason: command.body.reason,
        }
    }
}

impl TryFrom<v1::FinishErasuresRequest> for StreamId {
    type Error = InvalidField;
    fn try_from(wire: v1::FinishErasuresRequest) -> Result<Self, InvalidField> {
        stream(&wire.stream)
    }
}

fn stream(path: &str) -> Result<StreamId, InvalidField> {
    path.parse()
        .map_err(|error: InvalidName| InvalidField::new("stream", error.problem.to_string()))
}
