//! Failures of a call: a [`v1::Error`] or a status on the wire, a [`Failure`] on both sides.

use crate::convert::{InvalidField, Side};
use crate::rejection::{self, Metadata};
use crate::v1;
use crate::v1::Reason;
use std::collections::HashMap;
use std::time::Duration;
use tape_core::limits::REQUEST_AHEAD_MS_MAX;
use tape_core::reply::Rejection;
use tape_core::time::Timestamp;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of the reasons in a `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "tape";

/// How long a caller waits before it sends what a server had no room for again: memory that stalled peers hold is free by then.
const OVERLOADED_PAUSE: Duration = Duration::from_secs(2);

/// The beginning of the names of reasons in the contract, which an `ErrorInfo` leaves out.
const PREFIX: &str = "REASON_";

/// Why a call was refused or failed. Variants are named by what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The rules of the stream refuse the command; nothing was written.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The message is wrong; nothing was written.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The store is busy, full, read-only or out of reach; nothing was written. Try again later.
    #[error("{0}")]
    Unavailable(String),
    /// The server is shutting down. Continue with another server, or with this one once it is back.
    #[error("the server is shutting down")]
    Draining,
    /// It is unknown whether it was written. Send it again with the same request id.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// Too many writers on one stream; nothing was written. Try again.
    #[error("{0}")]
    Contended(String),
    /// The caller has too much under way. Wait for answers.
    #[error("{limit} is {max}")]
    Overloaded {
        /// The limit, in words.
        limit: String,
        /// The limit.
        max: u64,
    },
    /// The reader of a stream took nothing for too long, and the waiting messages were dropped. Continue reading after `resume`.
    #[error("the reader is too slow; it can go on after {}", if resume.is_empty() { "where it was" } else { resume })]
    SlowReader {
        /// The last item that was received: `entry` or `version` and its number, or `the last cursor of each shard`. Empty where none
        /// of these was received: due work has no places, and is pushed again to a new reader.
        resume: String,
    },
    /// Stored bytes are damaged; a person must look at them.
    #[error("{0}")]
    Damaged(String),
    /// The store was made or migrated by a newer build. Use that build.
    #[error("{0}")]
    NewerSchema(String),
    /// The caller's deadline passed; a write may still happen. Send it again with the same request id.
    #[error("the deadline of the call has passed")]
    Deadline,
    /// Client and server know no version of the contract in common, or the server gives out entries that the client cannot read. Upgrade the
    /// side that is named.
    #[error(
        "{server} and {client} cannot work together: of the {what}, the server has versions {server_versions}, the client knows \
         {client_versions}; upgrade the {upgrade}"
    )]
    VersionMismatch {
        /// What they do not agree on: `contract` or `entries`.
        what: String,
        /// The client and its release.
        client: String,
        /// The server and its release.
        server: String,
        /// The versions that the client knows.
        client_versions: String,
        /// The versions that the server knows.
        server_versions: String,
        /// The side to upgrade.
        upgrade: Side,
    },
    /// The server does not know the method. It is of an earlier build, or no Tape server.
    #[error("this server does not know the method {0}")]
    UnknownMethod(String),
    /// A failure that this build does not know: a transport's error, or a newer server's reason.
    #[error("{message}")]
    Other {
        /// The status code.
        code: Code,
        /// The reason, where the other side gave one; otherwise empty.
        reason: String,
        /// A message for people.
        message: String,
    },
}

impl Failure {
    /// The status code that goes with it.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected(rejection) => rejection::code(rejection::write(rejection).0),
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Unavailable(_) | Self::Draining | Self::OutcomeUnknown(_) => Code::Unavailable,
            Self::Contended(_) => Code::Aborted,
            Self::Overloaded { .. } | Self::SlowReader { .. } => Code::ResourceExhausted,
            Self::Damaged(_) => Code::DataLoss,
            Self::NewerSchema(_) | Self::VersionMismatch { .. } => Code::FailedPrecondition,
            Self::UnknownMethod(_) => Code::Unimplemented,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Other { code, .. } => *code,
        }
    }

    /// How long to wait before trying again, where a time is known; `now` is the journal's time.
    #[must_use]
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let Self::Rejected(rejection) = self else {
            return None;
        };
        let at = match rejection {
            Rejection::LeaseHeld { until, .. } | Rejection::Claimed { until, .. } => *until,
            Rejection::TooEarly { due, .. } => *due,
            Rejection::NotDue { due } => (*due)?,
            Rejection::RequestFromFuture { request, .. } => {
                request.made_at()?.minus_millis(REQUEST_AHEAD_MS_MAX)
            }
            _ => return None,
        };
        Some(Duration::from_millis(at.millis_since(now)))
    }

    /// The failure as a status; with `retry_after`, it says when to try again. [`Failure::Overloaded`] says so in any case.
    #[must_use]
    pub fn status(&self, retry_after: Option<Duration>) -> Status {
        let pause = matches!(self, Self::Overloaded { .. }).then_some(OVERLOADED_PAUSE);
        let retry_after = retry_after.or(pause);
        let (reason, metadata) = self.reason();
        let metadata: HashMap<String, String> = metadata.into_iter().collect();
        let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Status::with_error_details(self.code(), self.to_string(), details)
    }

    /// The failure as a message of a Drive stream; with `retry_after`, it says when to try again.
    #[must_use]
    pub fn error(&self, retry_after: Option<Duration>) -> v1::Error {
        let (reason, metadata) = self.reason();
        let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        v1::Error {
            reason,
            message: self.to_string(),
            metadata,
            code: self.code().into(),
            retry_after_ms: retry_after.map(millis),
        }
    }

    fn reason(&self) -> (String, Metadata) {
        let pairs: &[(&str, &dyn ToString)] = match self {
            Self::Rejected(rejection) => {
                let (reason, metadata) = rejection::write(rejection);
                return (name(reason), metadata);
            }
            Self::Other { reason, .. } => return (reason.clone(), Metadata::new()),
            Self::Invalid(field) => &[("field", &field.path), ("problem", &field.problem)],
            Self::Overloaded { limit, max } => &[("limit", limit), ("max", max)],
            Self::SlowReader { resume } => &[("resume", resume)],
            Self::UnknownMethod(method) => &[("method", method)],
            Self::VersionMismatch {
                what,
                client,
                server,
                client_versions,
                server_versions,
                upgrade,
            } => &[
                ("what", what),
                ("client", client),
                ("server", server),
                ("client_versions", client_versions),
                ("server_versions", server_versions),
                ("upgrade", upgrade),
            ],
            _ => &[],
        };
        let metadata = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.to_string()));
        (name(self.plain_reason()), metadata.collect())
    }

    const fn plain_reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::InvalidField,
            Self::Unavailable(_) => Reason::Unavailable,
            Self::Draining => Reason::Draining,
            Self::OutcomeUnknown(_) => Reason::OutcomeUnknown,
            Self::Contended(_) => Reason::Contended,
            Self::Overloaded { .. } => Reason::Overloaded,
            Self::SlowReader { .. } => Reason::SlowReader,
            Self::Damaged(_) => Reason::Damaged,
            Self::NewerSchema(_) => Reason::NewerSchema,
            Self::Deadline => Reason::Deadline,
            Self::VersionMismatch { .. } => Reason::VersionMismatch,
            Self::UnknownMethod(_) => Reason::UnknownMethod,
            Self::Rejected(_) | Self::Other { .. } => Reason::Unspecified,
        }
    }

    fn from_parts(code: Code, reason: &str, message: &str, metadata: &Metadata) -> Self {
        let other = || Self::Other {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let field = |key: &str| metadata.get(key).cloned();
        let Some(known) = Reason::from_str_name(&format!("{PREFIX}{reason}")) else {
            return other();
        };
        match known {
            Reason::InvalidField => {
                field("field")
                    .zip(field("problem"))
                    .map_or_else(other, |(path, problem)| {
                        Self::Invalid(InvalidField {
                            path,
                            problem: problem.into(),
                        })
                    })
            }
            Reason::Unavailable => Self::Unavailable(message.to_owned()),
            Reason::Draining => Self::Draining,
            Reason::OutcomeUnknown => Self::OutcomeUnknown(message.to_owned()),
            Reason::Contended => Self::Contended(message.to_owned()),
            Reason::Overloaded => {
                let max = metadata.get("max").and_then(|max| max.parse().ok());
                field("limit")
                    .zip(max)
                    .map_or_else(other, |(limit, max)| Self::Overloaded { limit, max })
            }
            Reason::SlowReader => field("resume").map_or_else(other, |resume| Self::SlowReader { resume }),
            Reason::Damaged => Self::Damaged(message.to_owned()),
            Reason::NewerSchema => Self::NewerSchema(message.to_owned()),
            Reason::Deadline => Self::Deadline,
            Reason::VersionMismatch => mismatch(metadata).unwrap_or_else(other),
            Reason::UnknownMethod => field("method").map_or_else(other, Self::UnknownMethod),
            rejected => rejection::read(rejected, metadata).map_or_else(other, Self::Rejected),
        }
    }
}

/// A reason without the prefix of its name in the contract.
fn name(reason: Reason) -> String {
    let name = reason.as_str_name();
    name.strip_prefix(PREFIX).unwrap_or(name).to_owned()
}

fn mismatch(metadata: &Metadata) -> Option<Failure> {
    let text = |key: &str| metadata.get(key).cloned();
    Some(Failure::VersionMismatch {
        what: text("what")?,
        client: text("client")?,
        server: text("server")?,
        client_versions: text("client_versions")?,
        server_versions: text("server_versions")?,
        upgrade: Side::read(metadata.get("upgrade")?)?,
    })
}

impl From<v1::Error> for Failure {
    fn from(error: v1::Error) -> Self {
        Self::from_parts(
            Code::from_i32(error.code),
            &error.reason,
            &error.message,
            &error.metadata,
        )
    }
}

impl From<&Failure> for Status {
    fn from(failure: &Failure) -> Self {
        failure.status(None)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self::from(&failure)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::from(&status)
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let info = status
            .get_details_error_info()
            .filter(|info| info.domain == ERROR_DOMAIN);
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        Self::from_parts(
            status.code(),
            &reason,
            status.message(),
            &metadata.into_iter().collect(),
        )
    }
}
