//! Agreeing with a server on versions, before anything else is asked of it.

use super::failure::failed;
use tape_api::JournalError;
use tape_proto::convert::Program;
use tape_proto::failure::Failure;
use tape_proto::v1::NegotiateRequest;
use tape_proto::v1::server_service_client::ServerServiceClient;
use tonic::Code;
use tonic::transport::Channel;

/// The name of this client in negotiations.
const PROGRAM: &str = "tape-client";

/// Tells the server which versions this client knows. A server that has none in common refuses it.
///
/// # Errors
/// [`JournalError::Damaged`] where client and server have no version in common; it says which of them to upgrade.
pub(super) async fn negotiate(channel: Channel) -> Result<(), JournalError> {
    let request = NegotiateRequest::from(Program::of_this_build(PROGRAM));
    let answer = ServerServiceClient::new(channel).negotiate(request).await;
    match answer.map_err(Failure::from) {
        Ok(_) => Ok(()),
        // A router in between may not know the service for a while.
        Err(
            Failure::Other {
                code: Code::Unimplemented,
                ..
            }
            | Failure::UnknownMethod(_),
        ) => Err(JournalError::unavailable(
            "it does not say which versions it knows: it is no Tape server, or one of an earlier build",
        )),
        Err(failure) => Err(failed(failure)),
    }
}
