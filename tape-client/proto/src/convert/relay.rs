//! What is recorded of relays.

use super::field::{InvalidField, known, name, required, unspecified};
use super::name::{context, stamped};
use super::part::{digest, digest_bytes};
use crate::v1;
use tape_core::command::{Command, RelayCommand};
use tape_core::entry::relay::{RecordedErasure, SentEntry};
use tape_core::id::{RelayScope, RelayStream, Seq};

impl TryFrom<v1::RelayScope> for RelayScope {
    type Error = InvalidField;
    fn try_from(wire: v1::RelayScope) -> Result<Self, InvalidField> {
        match wire {
            v1::RelayScope::Own => Ok(Self::Own),
            v1::RelayScope::All => Ok(Self::All),
            v1::RelayScope::Unspecified => Err(unspecified()),
        }
    }
}

impl From<RelayScope> for v1::RelayScope {
    fn from(scope: RelayScope) -> Self {
        match scope {
            RelayScope::Own => Self::Own,
            RelayScope::All => Self::All,
        }
    }
}

impl TryFrom<v1::RelayStreamId> for RelayStream {
    type Error = InvalidField;
    fn try_from(wire: v1::RelayStreamId) -> Result<Self, InvalidField> {
        Ok(Self {
            tenant: name("tenant", &wire.tenant)?,
            scope: known::<v1::RelayScope, _>("scope", wire.scope)?,
            name: name("name", &wire.name)?,
        })
    }
}

impl From<RelayStream> for v1::RelayStreamId {
    fn from(relay: RelayStream) -> Self {
        Self {
            tenant: relay.tenant.into(),
            scope: v1::RelayScope::from(relay.scope).into(),
            name: relay.name.into(),
        }
    }
}

/// Something to record of a relay, as a call of the service requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayReport {
    /// The stream of the relay.
    pub relay: RelayStream,
    /// The command.
    pub command: Command<RelayCommand>,
}

impl TryFrom<v1::RecordRefusalRequest> for RelayReport {
    type Error = InvalidField;
    fn try_from(wire: v1::RecordRefusalRequest) -> Result<Self, InvalidField> {
        let body = RelayCommand::Refuse {
            entry: SentEntry {
                stream: required("stream", wire.stream)?,
                seq: Seq(wire.seq),
                digest: digest("digest", &wire.digest)?,
            },
            attempts: wire.attempts,
            reason: wire.reason,
        };
        Ok(Self {
            relay: required("relay", wire.relay)?,
            command: stamped(wire.context, body)?,
        })
    }
}

impl TryFrom<v1::RecordRedeliveryRequest> for RelayReport {
    type Error = InvalidField;
    fn try_from(wire: v1::RecordRedeliveryRequest) -> Result<Self, InvalidField> {
        let body = RelayCommand::Redelivered {
            refusal: Seq(wire.refusal_seq),
        };
        Ok(Self {
            relay: required("relay", wire.relay)?,
            command: stamped(wire.context, body)?,
        })
    }
}

impl TryFrom<v1::RecordReceiptRequest> for RelayReport {
    type Error = InvalidField;
    fn try_from(wire: v1::RecordReceiptRequest) -> Result<Self, InvalidField> {
        let body = RelayCommand::Receipt {
            subscriber: name("subscriber", &wire.subscriber)?,
            erasure: RecordedErasure {
                stream: required("stream", wire.stream)?,
                seq: Seq(wire.erasure_seq),
            },
        };
        Ok(Self {
            relay: required("relay", wire.relay)?,
            command: stamped(wire.context, body)?,
        })
    }
}

/// The request of a call of the service.
#[derive(Clone, Debug, PartialEq)]
pub enum RelayRequest {
    /// For `RecordRefusal`.
    Refusal(v1::RecordRefusalRequest),
    /// For `RecordRedelivery`.
    Redelivery(v1::RecordRedeliveryRequest),
    /// For `RecordReceipt`.
    Receipt(v1::RecordReceiptRequest),
}

impl From<RelayReport> for RelayRequest {
    fn from(report: RelayReport) -> Self {
        let (relay, command) = (Some(report.relay.into()), report.command);
        let context = context(&command);
        match command.body {
            RelayCommand::Refuse {
                entry,
                attempts,
                reason,
            } => Self::Refusal(v1::RecordRefusalRequest {
                relay,
                context,
                stream: Some(entry.stream.into()),
                seq: entry.seq.0,
                digest: digest_bytes(entry.digest),
                attempts,
                reason,
            }),
            RelayCommand::Redelivered { refusal } => Self::Redelivery(v1::RecordRedeliveryRequest {
                relay,
                context,
                refusal_seq: refusal.0,
            }),
            RelayCommand::Receipt { subscriber, erasure } => Self::Receipt(v1::RecordReceiptRequest {
                relay,
                context,
                subscriber: subscriber.into(),
                stream: Some(erasure.stream.into()),
                erasure_seq: erasure.seq.0,
            }),
        }
    }
}
