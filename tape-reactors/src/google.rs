//! How the APIs of Google Cloud are reached, and what their errors say about a call.

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::Code;
use tape_core::causes::Causes;

/// Prepares this process for clients of Google Cloud. For an emulator at a host and port, returns the endpoint, and the credentials that it
/// is shown, which are none. Otherwise a client reaches Google's own, with the credentials that it finds.
pub(crate) fn endpoint(emulator: Option<&str>) -> Option<(String, Credentials)> {
    // Where another part of the program has set it already, that one works as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    emulator.map(|emulator| (format!("http://{emulator}"), anonymous::Builder::new().build()))
}

/// Why a call to a Google API has no answer to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GoogleError {
    /// Nothing was sent: the API was not reached, or the process has no credentials for it.
    #[error("{0}")]
    Unreached(String),
    /// The API did nothing, and the same call may succeed later: no permission, no such resource, a quota that is used up.
    #[error("{0}")]
    Refused(String),
    /// The API did nothing, and never will for this call: something in it is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The API may have done it: the answer was lost, or says nothing certain.
    #[error("{0}")]
    Lost(String),
}

impl GoogleError {
    pub(crate) fn of(error: &Error) -> Self {
        let why = Causes(error).to_string();
        if error.is_connect() || error.is_authentication() {
            return Self::Unreached(why);
        }
        match code(error) {
            Some(Code::InvalidArgument | Code::OutOfRange) => Self::Invalid(why),
            Some(
                Code::PermissionDenied
                | Code::Unauthenticated
                | Code::NotFound
                | Code::ResourceExhausted
                | Code::FailedPrecondition,
            ) => Self::Refused(why),
            _ if error.is_binding() || error.is_serialization() => Self::Invalid(why),
            _ => Self::Lost(why),
        }
    }
}

/// What the API itself says; none where a part of the way, such as a proxy, answered in its place.
pub(crate) fn code(error: &Error) -> Option<Code> {
    error.status().map(|status| status.code)
}
