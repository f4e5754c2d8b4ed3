//! Refusals of the transport, as failures of the contract: every refusal says its reason.

use tape_proto::convert::InvalidField;
use tape_proto::failure::Failure;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

/// The failure for a refusal by the transport; none where the call is answered, or the refusal says its reason.
pub(super) fn explained(path: &str, headers: &HeaderMap) -> Option<Failure> {
    let status = Status::from_header_map(headers)?;
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::Unimplemented if status.message().is_empty() => Some(Failure::UnknownMethod(path.to_owned())),
        // The transport cannot read the request: it is too large, compressed, cut off or no message.
        Code::Unimplemented | Code::OutOfRange | Code::Internal => {
            Some(InvalidField::new("message", status.message().to_owned()).into())
        }
        _ => None,
    }
}
