//! A connector for upstreams that speak HTTP.

mod clients;
mod endpoints;
mod exchange;
mod meaning;
mod pattern;
mod target;
mod template;

#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
pub(super) use template::encoded as percent_encoded;

pub use endpoints::{HttpAnswers, HttpEndpoints, HttpPattern};

use crate::connector::{Call, Connector, NotUndone, Observation};
use crate::http::HttpError;
use async_trait::async_trait;
use clients::Clients;
use endpoints::Endpoints;
use exchange::{Answer, Lost, send};
use meaning::{Says, ending, repeated, seen, undoing};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder};
use std::sync::Arc;
use tape_core::causes::Causes;
use tape_core::command::AttemptOutcome;
use tape_core::effect::Semantics;
use tape_core::id::BusinessKey;
use tape_core::payload::Payload;
use tape_core::run::ARGUMENTS_ERASED;
use target::Target;
use template::{Template, encoded, stands_for_nothing};

/// Calls an upstream over HTTP. The body is the payload unchanged. The headers `Idempotency-Key`, `Tape-Operation`, `Tape-Attempt`,
/// `Tape-Run`, `Tape-Effect` and, where there is one, `Tape-Business-Key` hold the rest, percent-encoded. Each request has a connection of
/// its own, is sent once, and follows no redirect.
///
/// What an answer to a dispatch means:
///
/// | answer | meaning |
/// |---|---|
/// | 2xx but 202 | confirmed, with as much of the body as a payload can keep |
/// | what `not_done` fits; 401, 407, 425 | not done, to be tried again |
/// | 429, 502, 503, 504 | it may have happened: an idempotent effect is sent again with its key, any other is unknown |
/// | 202, 3xx, 408, any other 5xx but 501 and 505, any lost or broken answer | unknown: it may have happened, or may yet |
/// | 409 | to a first attempt, refused; to a later one, unknown: an earlier attempt may be what it conflicts with |
/// | any other 4xx, 501, 505; words of the call that make another URL of the template | refused |
/// | no connection: refused, no such host, no TLS, not there within 10 s or about half of the time that the call has | nothing was sent: tried again with backoff, and the attempt does not count |
///
/// A router on the way can refuse as well, and knows nothing of earlier attempts. So a refused effect has failed for good unless an earlier
/// attempt may have acted ([`AttemptOutcome::Refused`]). The answers to an undo mean the same, but a refused undo is retried, and one that
/// cannot be sent waits for a person.
///
/// An observation is found or absent where the configuration says so ([`HttpEndpoints`]), and inconclusive otherwise. *Absent* is a
/// promise: an upstream whose 404 may still turn into success must answer otherwise. An upstream that knows about Tape can say more, in an
/// answer of the content type `application/vnd.tape.answer+json`, in the words of [`CommandConnector`](crate::CommandConnector), whatever
/// the status; there, *failed* speaks for all attempts.
#[derive(Clone)]
pub struct HttpConnector {
    clients: Arc<Clients>,
    endpoints: Endpoints,
    /// Headers whose values are templates.
    headers: Vec<(HeaderName, Template)>,
}

/// Its URLs and headers may have secrets.
impl std::fmt::Debug for HttpConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConnector").finish_non_exhaustive()
    }
}

impl HttpConnector {
    /// Calls the upstream at `endpoints`, with these headers beside the connector's own, such as one with a token.
    ///
    /// # Errors
    /// [`HttpError`] where an endpoint or a header is not valid or TLS cannot be set up. It names what is wrong and repeats no value.
    pub fn new<'a>(
        endpoints: HttpEndpoints,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, HttpError> {
        let endpoints = Endpoints::read(&endpoints)?;
        let mut fixed = HeaderMap::new();
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| no_header(name))?;
            value.set_sensitive(true);
            fixed.insert(header_name(name)?, value);
        }
        Ok(Self {
            clients: Arc::new(Clients::new(fixed)?),
            endpoints,
            headers: Vec::new(),
        })
    }

    /// Adds a header whose value is a template: words in braces stand for values of the call, percent-encoded, as in URLs.
    ///
    /// # Errors
    /// [`HttpError`] where the header is not valid.
    pub fn header(mut self, name: &str, template: &str) -> Result<Self, HttpError> {
        let template = Template::parse(template).map_err(|problem| {
            HttpError::invalid("headers", format!("has a value for `{name}` that {problem}"))
        })?;
        let sample = template.filled(|word| Ok(word.name().to_owned()));
        if sample.is_ok_and(|sample| HeaderValue::from_str(&sample).is_err()) {
            return Err(no_header(name));
        }
        self.headers.push((header_name(name)?, template));
        Ok(self)
    }

    async fn post(
        &self,
        at: (&'static str, &Target),
        call: &Call,
        name: Option<&BusinessKey>,
    ) -> Result<Answer, Lost> {
        let body = call.args.bytes().cloned();
        let body = body.ok_or_else(|| Lost::Refused(ARGUMENTS_ERASED.to_owned()))?;
        let request = self.client(call)?.post(url(at, call)?);
        let request = request.header(CONTENT_TYPE, call.args.content_type()).body(body);
        send(self.with_headers(request, call)?, call, name).await
    }

    /// Asks an endpoint what happened.
    async fn look(&self, at: (&'static str, &Target), call: &Call, says: Says<'_>) -> Observation {
        let ask = async || {
            let request = self.client(call)?.get(url(at, call)?);
            send(
                self.with_headers(request, call)?,
                call,
                call.business_key.as_ref(),
            )
            .await
        };
        ask()
            .await
            .map_or_else(blind, |answer| seen(&answer, call, &says))
    }

    fn client(&self, call: &Call) -> Result<Client, Lost> {
        let client = self.clients.until(call.deadline);
        client.map_err(|error| Lost::Unreached(Causes(&error).to_string()))
    }

    fn with_headers(&self, mut request: RequestBuilder, call: &Call) -> Result<RequestBuilder, Lost> {
        for (name, template) in &self.headers {
            let value = template.filled(|word| {
                let value = word.of(call).ok_or_else(|| stands_for_nothing(word))?;
                Ok(encoded(&value))
            });
            let value = value.map_err(|problem| Lost::Refused(format!("the header `{name}`: {problem}")))?;
            request = request.header(name, value);
        }
        Ok(request)
    }
}

fn url((key, target): (&'static str, &Target), call: &Call) -> Result<reqwest::Url, Lost> {
    let filled = target.fill(call);
    filled.map_err(|problem| Lost::Refused(format!("the URL of `{key}`: {problem}")))
}

fn header_name(name: &str) -> Result<HeaderName, HttpError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| no_header(name))
}

fn no_header(name: &str) -> HttpError {
    HttpError::invalid(
        "headers",
        format!("has `{name}`, which with its value is no header"),
    )
}

/// The observation where a question got no answer.
fn blind(lost: Lost) -> Observation {
    match lost {
        Lost::Unreached(why) => Observation::Unreached { why },
        Lost::Refused(why) | Lost::Sent(why) => Observation::Inconclusive { why },
    }
}

#[async_trait]
impl Connector for HttpConnector {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        let name = call.business_key.as_ref();
        match self
            .post(("dispatch", &self.endpoints.dispatch), call, name)
            .await
        {
            Ok(answer) => ending(&answer, call, &self.endpoints.not_done),
            Err(Lost::Refused(error)) => AttemptOutcome::Refused { error, detail: None },
            Err(Lost::Unreached(error)) => AttemptOutcome::Unreached { error },
            Err(Lost::Sent(cause)) => AttemptOutcome::Unknown { cause },
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        match &self.endpoints.observe {
            Some(target) => {
                let says = Says {
                    yes: ("found", self.endpoints.found.as_ref()),
                    no: ("absent", self.endpoints.absent.as_ref()),
                };
                self.look(("observe", target), call, says).await
            }
            None => self.observe_by_repeating(call).await,
        }
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        let at = match &self.endpoints.compensate {
            Some(target) => ("compensate", target),
            None => ("dispatch", &self.endpoints.dispatch),
        };
        // Under the business key of the act, an upstream might take the undo for the act itself.
        match self.post(at, call, None).await {
            Ok(answer) => undoing(&answer, call, &self.endpoints.not_done),
            Err(Lost::Refused(error)) => Err(NotUndone::Refused { error }),
            Err(Lost::Unreached(error)) => Err(NotUndone::Unreached { error }),
            Err(Lost::Sent(cause)) => Err(NotUndone::Unknown { cause }),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        let target = self.endpoints.undone.as_ref()?;
        let says = Says {
            yes: ("is_undone", self.endpoints.is_undone.as_ref()),
            no: ("not_undone", self.endpoints.not_undone.as_ref()),
        };
        Some(self.look(("undone", target), call, says).await)
    }
}

impl HttpConnector {
    /// Sends an idempotent effect again under its key. The answer tells its outcome, and the upstream acts once.
    async fn observe_by_repeating(&self, call: &Call) -> Observation {
        if call.semantics != Semantics::Idempotent {
            return Observation::inconclusive("there is no endpoint to ask at");
        }
        if call.unwanted {
            return Observation::inconclusive("the run is ending, and the upstream can only be asked to act");
        }
        // Not the first attempt: it is unknown what it conflicts with.
        let again = Call {
            attempt: call.attempt.saturating_add(1),
            ..call.clone()
        };
        let name = call.business_key.as_ref();
        let Endpoints {
            dispatch,
            not_done,
            absent,
            ..
        } = &self.endpoints;
        let answer = self.post(("dispatch", dispatch), &again, name).await;
        answer.map_or_else(blind, |answer| {
            repeated(&answer, &again, not_done, absent.as_ref())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;
    use tape_core::id::{ConnectorName as Name, EffectId, Operation, RunId};
    use tokio::time::{Instant, timeout_at};

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
            matches!(&ending, AttemptOutcome::Refused { error, .. } if error.contains("no business key")),
            "{ending:?}"
        );
        let undone = connector.compensate(&nameless).await;
        assert!(matches!(undone, Err(NotUndone::Refused { .. })), "{undone:?}");
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_filled_in_is_refused() {
        let endpoints = HttpEndpoints {
            dispatch: "http://{business_key}.example/".to_owned(),
            ..endpoints()
        };
        let connector = HttpConnector::new(endpoints, []).unwrap();
        let ending = connector.dispatch(&call()).await;
        assert!(matches!(ending, AttemptOutcome::Refused { .. }), "{ending:?}");
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

    #[tokio::test]
    async fn no_secret_of_a_url_is_told() {
        let url = "http://user:S3CRET@127.0.0.1:1/S3CRET/{business_key}?token=S3CRET";
        let endpoints = HttpEndpoints {
            dispatch: url.to_owned(),
            observe: Some(url.to_owned()),
            ..HttpEndpoints::default()
        };
        let told = format!("{endpoints:?}");
        let connector = HttpConnector::new(endpoints, [("authorization", "Bearer S3CRET")]).unwrap();
        let nameless = Call {
            business_key: None,
            ..call()
        };
        let told = format!(
            "{told} {connector:?} {:?} {:?} {:?} {:?}",
            connector.dispatch(&call()).await,
            connector.observe(&call()).await,
            connector.compensate(&call()).await,
            connector.dispatch(&nameless).await,
        );
        assert!(!told.contains("S3CRET"), "{told}");
        assert!(told.contains("Unreached") && told.contains("Refused"), "{told}");
    }

    /// Packets to the upstream are dropped, as by a firewall. A worker whose timeout ended first would take this for a lost answer.
    #[tokio::test(start_paused = true)]
    async fn it_is_known_before_the_time_is_over_that_a_connection_is_not_there() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let at = listener.local_addr().unwrap();
        // Its queue is full: further connections are not answered.
        let mut waiting = Vec::new();
        for _ in 0..2 {
            waiting.push(std::net::TcpStream::connect(at).unwrap());
        }
        let endpoints = HttpEndpoints {
            dispatch: format!("http://{at}/"),
            observe: Some(format!("http://{at}/by/{{key}}")),
            ..HttpEndpoints::default()
        };
        let connector = HttpConnector::new(endpoints, []).unwrap();
        for timeout_ms in [100, 1_000, 5_000, 10_000, 60_000] {
            let with_deadline = || {
                let deadline = Instant::now() + Duration::from_millis(timeout_ms);
                Call { deadline, ..call() }
            };
            let call = with_deadline();
            let ending = timeout_at(call.deadline, connector.dispatch(&call)).await;
            assert!(
                matches!(ending, Ok(AttemptOutcome::Unreached { .. })),
                "{timeout_ms}: {ending:?}"
            );
            let call = with_deadline();
            let seen = timeout_at(call.deadline, connector.observe(&call)).await;
            assert!(
                matches!(seen, Ok(Observation::Unreached { .. })),
                "{timeout_ms}: {seen:?}"
            );
            let call = with_deadline();
            let undone = timeout_at(call.deadline, connector.compensate(&call)).await;
            assert!(
                matches!(undone, Ok(Err(NotUndone::Unreached { .. }))),
                "{timeout_ms}: {undone:?}"
            );
        }
    }

    /// Answers each connection once, where there is an answer, and keeps some open.
    async fn answering(listener: &tokio::net::TcpListener, answers: &[(&str, bool)]) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut open = Vec::new();
        for (answer, stays) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            open.extend(stays.then_some(stream));
        }
    }

    #[tokio::test]
    async fn a_request_is_sent_once_and_to_one_place() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let endpoints = HttpEndpoints {
            dispatch: format!("http://{at}/{{operation}}"),
            observe: Some(format!("http://{at}/by/{{key}}")),
            ..HttpEndpoints::default()
        };
        let connector = HttpConnector::new(endpoints, []).unwrap();
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"id\":7}";
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id\":7}";
        let elsewhere = "HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
        let answers = [
            (whole, true),
            (elsewhere, true),
            ("", false),
            ("no HTTP\r\n\r\n", false),
            (cut, false),
            (cut, false),
            (elsewhere, false),
        ];
        let asked = async {
            let ending = connector.dispatch(&call()).await;
            assert!(matches!(ending, AttemptOutcome::Confirmed { .. }), "{ending:?}");
            for _ in 0..4 {
                let ending = connector.dispatch(&call()).await;
                assert!(matches!(ending, AttemptOutcome::Unknown { .. }), "{ending:?}");
            }
            for _ in 0..2 {
                let seen = connector.observe(&call()).await;
                assert!(matches!(seen, Observation::Inconclusive { .. }), "{seen:?}");
            }
        };
        tokio::join!(answering(&listener, &answers), asked);
        let more = listener.into_std().unwrap().accept();
        assert!(more.is_err(), "nothing else was sent: {more:?}");
    }

    fn endpoints() -> HttpEndpoints {
        HttpEndpoints {
            dispatch: "http://127.0.0.1:1/".to_owned(),
            ..HttpEndpoints::default()
        }
    }

    pub(in crate::connectors) fn call() -> Call {
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
            deadline: Instant::now() + Duration::from_secs(60),
        }
    }
}
