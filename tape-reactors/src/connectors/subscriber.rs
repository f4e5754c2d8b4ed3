//! Effects that are published: what a message carries, and what is known of an effect whose message was published.

use super::http::{HttpAnswers, HttpConnector, percent_encoded};
use crate::connector::{Call, Connector as _, NotUndone, Observation};
use crate::google::GoogleError;
use crate::http::HttpError;
use std::time::Duration;
use tape_core::command::AttemptOutcome;
use tape_core::effect::Semantics;
use tape_core::id::StreamId;
use tape_core::run::ARGUMENTS_ERASED;
use tokio::time::{Instant, timeout_at};

/// The time that is left to record an outcome, where a publication takes too long.
const MARGIN: Duration = Duration::from_secs(1);

/// The upstream behind a topic or queue: it acts on the messages, and says what came of an effect.
///
/// A message that was published says nothing about the effect: its subscriber may act on it now, in a day, or never. So the effect stays
/// UNKNOWN until the subscriber confirms it. Either it settles the effect by itself, as a person does with `tape settle`, or it is asked at
/// an endpoint. The effect's policy says how often it is asked, and when a person must look.
#[derive(Clone, Debug, Default)]
pub struct Subscriber(Option<HttpConnector>);

impl Subscriber {
    /// A subscriber that settles effects by itself.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A subscriber that is asked at endpoints, with these headers, such as one with a token.
    ///
    /// # Errors
    /// [`HttpError`] where an endpoint or a header is not valid or TLS cannot be set up. It names what is wrong and repeats no value.
    pub fn asked<'a>(
        answers: HttpAnswers,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HttpError> {
        Ok(Self(Some(HttpConnector::new(answers.into(), headers)?)))
    }

    /// Adds a header to the questions whose value is a template, as [`HttpConnector::header`] does.
    ///
    /// # Errors
    /// [`HttpError`] where the header is not valid.
    pub fn header(self, name: &str, template: &str) -> Result<Self, HttpError> {
        let asked = self.0.map(|asked| asked.header(name, template)).transpose()?;
        Ok(Self(asked))
    }

    pub(super) async fn observe(&self, call: &Call) -> Observation {
        match &self.0 {
            Some(asked) => asked.observe(call).await,
            None => Observation::inconclusive("its subscriber has not settled it"),
        }
    }

    pub(super) async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        self.0.as_ref()?.observe_undo(call).await
    }
}

/// What a message carries beside its body: the words of the call, as an upstream over HTTP gets them in headers. An undo, which has a key of
/// its own, does not carry the business key: a subscriber might take it for the act.
pub(super) fn attributes(call: &Call, is_undo: bool) -> Vec<(String, String)> {
    let name = call.business_key.as_ref().filter(|_| !is_undo);
    let mut attributes = vec![
        ("idempotency-key", call.key.clone()),
        ("tape-operation", percent_encoded(call.operation.as_str())),
        ("tape-attempt", call.attempt.to_string()),
        ("tape-effect", percent_encoded(&call.effect.to_string())),
        ("tape-run", StreamId::Run(call.run.clone()).to_string()),
        ("content-type", call.args.content_type().to_owned()),
    ];
    attributes.extend(name.map(|name| ("tape-business-key", percent_encoded(name.as_str()))));
    attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The body of a message, or why there is none to publish. A message may be delivered twice, so only an effect that its subscriber performs
/// once under its key is published.
pub(super) fn body(call: &Call) -> Result<Vec<u8>, String> {
    if call.semantics != Semantics::Idempotent {
        let problem = "messages are delivered more than once: only an idempotent effect can be published";
        return Err(problem.to_owned());
    }
    let body = call.args.bytes();
    body.map(|bytes| bytes.to_vec())
        .ok_or_else(|| ARGUMENTS_ERASED.to_owned())
}

/// Waits for a publication while there is time to record what came of it. Returns where the message is.
pub(super) async fn in_time(
    call: &Call,
    publication: impl Future<Output = Result<String, GoogleError>>,
) -> Result<String, GoogleError> {
    let left = call.deadline.saturating_duration_since(Instant::now());
    let until = call.deadline - MARGIN.min(left / 4);
    let late = || Err(GoogleError::Lost("the publication took too long".to_owned()));
    timeout_at(until, publication).await.unwrap_or_else(|_| late())
}

/// What is known of an effect after its message was published, or was not.
pub(super) fn ending(published: Result<String, GoogleError>) -> AttemptOutcome {
    match published {
        Ok(place) => AttemptOutcome::Unknown {
            cause: format!("published as {place}: its subscriber has to confirm it"),
        },
        Err(GoogleError::Unreached(error)) => AttemptOutcome::Unreached { error },
        Err(GoogleError::Refused(error)) => AttemptOutcome::Retry {
            error,
            after_ms: None,
        },
        Err(GoogleError::Invalid(error)) => AttemptOutcome::Refused { error, detail: None },
        // The same message again is the same effect to its subscriber.
        Err(GoogleError::Lost(cause)) => AttemptOutcome::Repeat {
            cause,
            after_ms: None,
        },
    }
}

/// What is known of an undo in the same way: never that it is done.
pub(super) fn undoing(published: Result<String, GoogleError>) -> NotUndone {
    match published {
        Ok(place) => NotUndone::Unknown {
            cause: format!("published as {place}: its subscriber has to confirm it"),
        },
        Err(GoogleError::Unreached(error)) => NotUndone::Unreached { error },
        Err(GoogleError::Refused(error)) => NotUndone::Retry { error },
        Err(GoogleError::Invalid(error)) => NotUndone::Refused { error },
        Err(GoogleError::Lost(cause)) => NotUndone::Unknown { cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::http::tests::call;

    #[test]
    fn a_message_that_was_published_confirms_nothing() {
        assert!(matches!(
            ending(Ok("it".to_owned())),
            AttemptOutcome::Unknown { .. }
        ));
        assert!(matches!(undoing(Ok("it".to_owned())), NotUndone::Unknown { .. }));
    }

    #[test]
    fn only_what_was_certainly_not_published_counts_as_not_done() {
        let why = || "why".to_owned();
        for (error, certain) in [
            (GoogleError::Unreached(why()), true),
            (GoogleError::Refused(why()), true),
            (GoogleError::Invalid(why()), true),
            (GoogleError::Lost(why()), false),
        ] {
            let may_have = matches!(ending(Err(error.clone())), AttemptOutcome::Repeat { .. });
            assert_eq!(may_have, !certain, "{error:?}");
            let may_have = matches!(undoing(Err(error.clone())), NotUndone::Unknown { .. });
            assert_eq!(may_have, !certain, "{error:?}");
        }
    }

    #[test]
    fn what_would_act_twice_is_not_published() {
        assert!(body(&call()).is_ok());
        for semantics in [Semantics::NonIdempotent, Semantics::ReadOnly] {
            assert!(body(&Call { semantics, ..call() }).is_err(), "{semantics:?}");
        }
    }

    #[test]
    fn a_message_has_the_words_of_the_call_and_an_undo_no_business_key() {
        let name = "tape-business-key".to_owned();
        let act = attributes(&call(), false);
        assert!(act.contains(&("idempotency-key".to_owned(), "k-1".to_owned())));
        let run = StreamId::Run(call().run).to_string();
        assert!(act.contains(&("tape-run".to_owned(), run)));
        assert!(act.iter().any(|(attribute, _)| *attribute == name));
        let undo = attributes(&call(), true);
        assert!(undo.iter().all(|(attribute, _)| *attribute != name));
    }

    #[tokio::test]
    async fn without_an_endpoint_the_subscriber_settles_it() {
        let subscriber = Subscriber::new();
        let seen = subscriber.observe(&call()).await;
        assert!(matches!(seen, Observation::Inconclusive { .. }), "{seen:?}");
        assert_eq!(subscriber.observe_undo(&call()).await, None);
    }
}
