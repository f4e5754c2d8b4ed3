//! Commands: what callers ask of a stream. A command is decided against the stream's state and becomes entries, a reply or a
//! rejection; it never becomes part of an entry as it is.

mod attempt;
mod driver;
mod external;
mod relay;
mod session;
mod value;
mod worker;

pub use attempt::{AttemptOutcome, UndoOutcome};
pub use driver::{Begin, Create, DriverCommand, RecordDecision};
pub use external::{Claimed, ExternalCommand, Verdict};
pub use relay::RelayCommand;
pub use session::{Rewind, SessionCommand, SharedCommand};
pub use value::{KeyCommand, ValueCommand};
pub use worker::{Held, WorkerCommand};

use crate::entry::TraceParent;
use crate::id::{Epoch, Principal, RequestId};
use crate::payload::ContentDigest;
use serde::Serialize;

/// A request to one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<B> {
    /// Names the request. A repeat returns the first reply, or is refused if the stream has forgotten requests of that age.
    pub request: RequestId,
    /// Who asks, where it is known.
    pub principal: Option<Principal>,
    /// The trace the request is part of.
    pub trace: Option<TraceParent>,
    /// What is asked.
    pub body: B,
}

impl<B> Command<B> {
    /// A command without a principal.
    pub const fn new(request: RequestId, body: B) -> Self {
        Self {
            request,
            principal: None,
            trace: None,
            body,
        }
    }
}

impl<B: CommandBody> Command<B> {
    /// The digest of the principal and the body. It tells a repeated request from a different one under the same id. It does not cover what
    /// a server adds to a command.
    #[must_use]
    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of(&(&self.principal, &self.body))
    }
}

/// What can be asked of a stream.
pub trait CommandBody: Serialize {
    /// Whether executing it again does no harm, whatever was executed in between. The stream then neither remembers its reply nor checks
    /// its request id.
    fn is_idempotent(&self) -> bool;
}

/// What can be asked of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RunCommand {
    /// Begins the run, or takes over the existing one. Either way the caller becomes its driver.
    Begin(Begin),
    /// A driver's command; refused unless the epoch is the run's.
    Drive(Epoch, DriverCommand),
    /// A worker's command on one effect or obligation.
    Work(WorkerCommand),
    /// A command from outside: a person, a timer, a sender of signals.
    // Digests of commands cover this name.
    #[serde(rename = "Tell")]
    External(ExternalCommand),
}

impl CommandBody for RunCommand {
    fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Drive(_, DriverCommand::RenewLease { .. })
                | Self::Work(
                    WorkerCommand::RenewEffectClaim { .. } | WorkerCommand::RenewObligationClaim { .. }
                )
                | Self::External(ExternalCommand::Retire { .. })
        )
    }
}
