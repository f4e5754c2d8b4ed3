//! What went wrong, and what the operator can do about it.

use super::settings::Settings;
use crate::sink::SinkError;
use google_cloud_gax::error::rpc::Code;
use google_cloud_pubsub::error::PublishError;
use std::sync::Arc;
use std::time::Duration;

/// Why something was not published, or why nothing is known of it.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The client could not be made, for lack of credentials that can be read.
    Client(Arc<dyn std::error::Error + Send + Sync>),
    /// Pub/Sub or the way to it.
    Request(Arc<google_cloud_pubsub::Error>),
    /// An earlier message with the same key failed.
    Stopped,
    /// The client ended first.
    Ended,
    /// No answer came in time.
    Silent(Duration),
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Rpc(error) => Self::Request(error),
            PublishError::OrderingKeyPaused => Self::Stopped,
            // The enum may grow; what is not known is as little an answer as the end of the client.
            _ => Self::Ended,
        }
    }
}

impl Failure {
    /// Whether Pub/Sub says that a message of the request is not valid.
    pub(super) fn is_refusal(&self) -> bool {
        self.code() == Some(Code::InvalidArgument)
    }

    /// Whether what was to be made is there.
    pub(super) fn is_already_there(&self) -> bool {
        let Self::Request(error) = self else {
            return false;
        };
        self.code() == Some(Code::AlreadyExists) || error.http_status_code() == Some(409)
    }

    /// The answer for an event that Pub/Sub does not take.
    pub(super) fn refused(&self) -> SinkError {
        SinkError::refused(format_args!("Pub/Sub: {}", self.said()))
    }

    /// The answer for an event that comes again.
    pub(super) fn unavailable(&self, settings: &Settings) -> SinkError {
        let (topic, said) = (&settings.topic, self.said());
        let advice = self.advice(settings);
        SinkError::unavailable(format_args!("topic {topic}: {said}{advice}"))
    }

    fn code(&self) -> Option<Code> {
        match self {
            Self::Request(error) => Some(error.status()?.code),
            Self::Client(_) | Self::Stopped | Self::Ended | Self::Silent(_) => None,
        }
    }

    fn is_authentication(&self) -> bool {
        match self {
            Self::Client(_) => true,
            Self::Request(error) => error.is_authentication() || self.code() == Some(Code::Unauthenticated),
            Self::Stopped | Self::Ended | Self::Silent(_) => false,
        }
    }

    fn said(&self) -> String {
        match self {
            Self::Client(error) => chain(&**error),
            Self::Request(error) => match error.status() {
                Some(status) => format!("{}: {}", status.code.name(), status.message),
                None => chain(&**error),
            },
            Self::Stopped => "an earlier message with the same ordering key failed".to_owned(),
            Self::Ended => "the client ended before Pub/Sub confirmed the message".to_owned(),
            Self::Silent(limit) => format!("Pub/Sub did not answer within {limit:?}"),
        }
    }

    fn advice(&self, settings: &Settings) -> String {
        let (project, id) = (settings.topic.project(), settings.topic.id());
        match self.code() {
            Some(Code::NotFound) => {
                format!("; create it: gcloud pubsub topics create {id} --project {project}")
            }
            Some(Code::PermissionDenied) => {
                format!("; give the relay's account the role roles/pubsub.publisher on the topic, in project {project}")
            }
            Some(Code::ResourceExhausted) => format!("; look at the quotas of Pub/Sub in project {project}"),
            _ if self.is_authentication() => {
                "; give the relay Application Default Credentials: a service account of the machine, or a file that \
                 GOOGLE_APPLICATION_CREDENTIALS names"
                    .to_owned()
            }
            _ => match settings.reached_at() {
                Some(at) => format!("; the relay reaches Pub/Sub at {at}"),
                None => String::new(),
            },
        }
    }
}

/// An error and what it came from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Some errors of the client repeat what they came from.
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        source = error.source();
    }
    said
}
