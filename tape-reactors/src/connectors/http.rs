//! A connector for upstreams that speak HTTP.

mod endpoints;
mod exchange;
mod meaning;
mod template;

pub use endpoints::{HttpAbsent, HttpEndpoints};

use crate::connector::{Call, Connector, NotUndone, Observation};
use crate::http::{HttpError, client};
use async_trait::async_trait;
use exchange::{Answer, Lost, send};
use meaning::{ending, repeated, retry, seen, undoing};
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tape_core::command::Ending;
use tape_core::effect::Semantics;
use tape_core::id::BusinessKey;
use tape_core::payload::Payload;
use template::fill;

/// Calls an upstream over HTTP. The body is the payload as it is; the headers `Idempotency-Key`, `Tape-Operation`, `Tape-Attempt`,
/// `Tape-Run`, `Tape-Effect` and, where there is one, `Tape-Business-Key` say the rest, percent-encoded.
///
/// What an answer to a dispatch means:
///
/// | answer | meaning |
/// |---|---|
/// | 2xx but 202 | confirmed |
/// | 202, 3xx, 408, 5xx but 501 and 505, any lost or broken answer | unknown: it may have happened, or may yet |
/// | 409 | to a first attempt, refused; to a later one, unknown: an earlier attempt may be what it conflicts with |
/// | 401, 407, 425, 429, and 503 with `Retry-After`; no connection, or a URL that cannot be filled in | not done, to be tried again |
/// | any other 4xx, 501, 505 | refused |
///
/// A router on the way can refuse as well, and knows nothing of earlier attempts: what is refused has failed for good unless one of
/// those may have acted ([`Ending::Refused`]). To an undo the answers mean the same, but what is refused is tried again.
///
/// To an observation, what the configuration names ([`HttpAbsent`]) means absent, any other 2xx found, anything else inconclusive. *Absent*
/// is a promise: an upstream whose 404 may still turn into something has to answer otherwise. An upstream that knows about Tape can say
/// more, in an answer of the content type `application/vnd.tape.answer+json`, in the words of
/// [`CommandConnector`](crate::CommandConnector), whatever the status; there, *failed* speaks for all attempts.
#[derive(Clone, Debug)]
pub struct HttpConnector {
    client: Client,
    endpoints: HttpEndpoints,
}

impl HttpConnector {
    /// Calls the upstream at `endpoints`, with these headers beside its own, such as one with a token.
    ///
    /// # Errors
    /// [`HttpError`] where an endpoint or a header makes no sense or TLS cannot be set up.
    pub fn new<'a>(
        endpoints: HttpEndpoints,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HttpError> {
        endpoints.check()?;
        let mut fixed = HeaderMap::new();
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(HttpError::new)?;
            value.set_sensitive(true);
            fixed.insert(
                HeaderName::from_bytes(name.as_bytes()).map_err(HttpError::new)?,
                value,
            );
        }
        let builder = client()
            .default_headers(fixed)
            // A request that is sent elsewhere is sent again.
            .redirect(reqwest::redirect::Policy::none());
        Ok(Self {
            client: builder.build().map_err(HttpError::new)?,
            endpoints,
        })
    }

    async fn post(&self, template: &str, call: &Call, name: Option<&BusinessKey>) -> Result<Answer, Lost> {
        let body = call.args.bytes().cloned().unwrap_or_default();
        let request = self
            .client
            .post(fill(template, call).map_err(Lost::NotSent)?)
            .header(CONTENT_TYPE, call.args.content_type())
            .body(body);
        send(request, call, name).await
    }

    /// Asks an endpoint what happened; `absent` is how it says that nothing did.
    async fn look(&self, template: &str, call: &Call, absent: Option<&HttpAbsent>) -> Observation {
        let url = match fill(template, call) {
            Ok(url) => url,
            Err(why) => return Observation::Inconclusive { why },
        };
        match send(self.client.get(url), call, call.business_key.as_ref()).await {
            Ok(answer) => seen(&answer, absent),
            Err(Lost::NotSent(why) | Lost::Sent(why)) => Observation::Inconclusive { why },
        }
    }
}

#[async_trait]
impl Connector for HttpConnector {
    async fn dispatch(&self, call: &Call) -> Ending {
        let name = call.business_key.as_ref();
        match self.post(&self.endpoints.dispatch, call, name).await {
            Ok(answer) => ending(&answer, call.attempt),
            Err(Lost::NotSent(error)) => retry(error, None),
            Err(Lost::Sent(cause)) => Ending::Unknown { cause },
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        match &self.endpoints.observe {
            Some(template) => self.look(template, call, self.endpoints.absent.as_ref()).await,
            None => self.observe_by_repeating(call).await,
        }
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        let template = self
            .endpoints
            .compensate
            .as_ref()
            .unwrap_or(&self.endpoints.dispatch);
        // Under the name of the act, an upstream might take its undo for the act itself.
        match self.post(template, call, None).await {
            Ok(answer) => undoing(&answer, call.attempt),
            Err(Lost::NotSent(error)) => Err(NotUndone::Retry { error }),
            Err(Lost::Sent(cause)) => Err(NotUndone::Unknown { cause }),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        let template = self.endpoints.undone.as_ref()?;
        Some(
            self.look(template, call, self.endpoints.not_undone.as_ref())
                .await,
        )
    }
}

impl HttpConnector {
    /// Sends an idempotent effect again under its key, which tells what became of it: the upstream acts once.
    async fn observe_by_repeating(&self, call: &Call) -> Observation {
        if call.semantics != Semantics::Idempotent {
            return Observation::inconclusive("there is no endpoint to ask at");
        }
        if call.unwanted {
            return Observation::inconclusive("the run is ending, and the upstream can only be asked to act");
        }
        // Not the first attempt: of what it conflicts with, nobody knows.
        let again = Call {
            attempt: call.attempt.saturating_add(1),
            ..call.clone()
        };
        let name = call.business_key.as_ref();
        match self.post(&self.endpoints.dispatch, &again, name).await {
            Ok(answer) => repeated(&answer, again.attempt, self.endpoints.absent.as_ref()),
            Err(Lost::NotSent(why) | Lost::Sent(why)) => Observation::Inconclusive { why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tape_core::id::{Connector as Name, EffectId, Operation, RunId};

    #[tokio::test]
    async fn what_has_no_name_is_not_asked_about() {
        let endpoints = HttpEndpoints {
            observe: Some("http://127.0.0.1:1/{business_key}".to_owned()),
            ..endpoints()
        };
        let connector = HttpConnector::new(endpoints, []).unwrap();
        let nameless = Call {
            business_key: None,
            ..call()
        };
        let seen = connector.observe(&nameless).await;
        assert!(matches!(seen, Observation::Inconclusive { why } if why.contains("no business key")));
        let connector = HttpConnector::new(
            HttpEndpoints {
                dispatch: "http://127.0.0.1:1/{business_key}".to_owned(),
                ..self::endpoints()
            },
            [],
        );
        let connector = connector.unwrap();
        let ending = connector.dispatch(&nameless).await;
        assert!(
            matches!(&ending, Ending::Retry { error, .. } if error.contains("no business key")),
            "{ending:?}"
        );
        let undone = connector.compensate(&nameless).await;
        assert!(matches!(undone, Err(NotUndone::Retry { .. })), "{undone:?}");
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_filled_in_is_tried_again() {
        let endpoints = HttpEndpoints {
            dispatch: "http://{business_key}.example/".to_owned(),
            ..endpoints()
        };
        let connector = HttpConnector::new(endpoints, []).unwrap();
        let ending = connector.dispatch(&call()).await;
        assert!(matches!(ending, Ending::Retry { .. }), "{ending:?}");
    }

    #[tokio::test]
    async fn an_upstream_is_asked_about_an_undo_only_where_the_configuration_says_how() {
        let ask = async |undone: Option<&str>, call: &Call| {
            let endpoints = HttpEndpoints {
                undone: undone.map(str::to_owned),
                ..endpoints()
            };
            let connector = HttpConnector::new(endpoints, []).unwrap();
            connector.observe_undo(call).await
        };
        assert_eq!(ask(None, &call()).await, None);
        let duplicates = Call {
            business_key: None,
            ..call()
        };
        let nameless = ask(Some("http://127.0.0.1:1/{business_key}"), &duplicates).await;
        assert!(
            matches!(nameless, Some(Observation::Inconclusive { .. })),
            "{nameless:?}"
        );
    }

    fn endpoints() -> HttpEndpoints {
        HttpEndpoints {
            dispatch: "http://127.0.0.1:1/".to_owned(),
            observe: None,
            compensate: None,
            absent: None,
            undone: None,
            not_undone: None,
        }
    }

    pub(super) fn call() -> Call {
        Call {
            run: RunId::new("acme", "a", "u", "s", "i").unwrap(),
            effect: "#0.0".parse::<EffectId>().unwrap(),
            connector: Name::new("bank").unwrap(),
            operation: Operation::new("pay").unwrap(),
            args: Payload::empty(),
            key: "k-1".to_owned(),
            business_key: Some(BusinessKey::new("a/b?c {key}").unwrap()),
            semantics: Semantics::Idempotent,
            attempt: 1,
            unwanted: false,
            deadline: tokio::time::Instant::now(),
        }
    }
}
