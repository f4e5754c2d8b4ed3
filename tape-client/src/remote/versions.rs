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

/// Tells the server which versions this client knows. A server that cannot work with them refuses it,
/// and this client refuses a server that it cannot work with.
///
/// # Errors
/// [`JournalError::Damaged`] where client and server cannot work together; it says which of them to upgrade.
pub(super) async fn negotiate(channel: Channel) -> Result<(), JournalError> {
    let client = Program::of_this_build(PROGRAM);
    let request = NegotiateRequest::from(client.clone());
    let answer = ServerServiceClient::new(channel).negotiate(request).await;
    match answer.map_err(Failure::from) {
        Ok(answer) => {
            let server = Program::try_from(answer.into_inner()).map_err(|_| silent())?;
            // What this client does not know, an older server may not have refused.
            server.accepts(&client).map_err(failed)
        }
        // A router in between may not know the service for a while.
        Err(
            Failure::Other {
                code: Code::Unimplemented,
                ..
            }
            | Failure::UnknownMethod(_),
        ) => Err(silent()),
        Err(failure) => Err(failed(failure)),
    }
}

fn silent() -> JournalError {
    JournalError::unavailable(
        "it does not say which versions it knows: it is no Tape server, or one of an earlier build",
    )
}
