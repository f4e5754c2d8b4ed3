//! A connector for upstreams that speak HTTP.

use super::answer::{CONTENT_TYPE, Compensated, Dispatched, Observed};
use crate::connector::{Call, Connector, NotUndone, Observation};
use crate::http::{HttpError, check_url, client};
use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use tape_core::command::Ending;
use tape_core::effect::Semantics;
use tape_core::id::{BusinessKey, StreamId};
use tape_core::limits::PAYLOAD_BYTES_MAX;
use tape_core::payload::Payload;

/// Longest part of an answer that goes into an error, in bytes.
const QUOTE_BYTES_MAX: usize = 300;

/// What stands for something of the call in a template.
const KEY: &str = "{key}";
const BUSINESS_KEY: &str = "{business_key}";
const OPERATION: &str = "{operation}";
const EFFECT: &str = "{effect}";
const TENANT: &str = "{tenant}";
const WORDS: [&str; 5] = [KEY, BUSINESS_KEY, OPERATION, EFFECT, TENANT];

/// Where an upstream takes what, and how it says that nothing happened. In each URL, `{key}`, `{business_key}`, `{operation}`, `{effect}` and
/// `{tenant}` stand for those of the call, percent-encoded. Those of an undo are its own key and operation, and the business key of what
/// it undoes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoints {
    /// `POST`ed to: does what is asked.
    pub dispatch: String,
    /// `GET`: what became of it. Without it, an idempotent effect is sent again instead unless its run is ending, and of any other a
    /// person must say.
    pub observe: Option<String>,
    /// `POST`ed to: undoes. Without it, the inverse operation is dispatched.
    pub compensate: Option<String>,
    /// What an answer to `observe`, or else to an act that is sent again, looks like that says that it did not happen. Without it, no
    /// answer does but one in Tape's own words.
    pub absent: Option<HttpAbsent>,
    /// `GET`: whether it is undone, asked before an undo is sent again after one that may have arrived. Without it, the undo of an
    /// idempotent effect is sent again under its key, and that of any other waits for a person.
    pub undone: Option<String>,
    /// What an answer to `undone` looks like that says that it is not undone, in the same way.
    pub not_undone: Option<HttpAbsent>,
}

impl HttpEndpoints {
    fn check(&self) -> Result<(), HttpError> {
        for (key, template) in [
            ("dispatch", Some(&self.dispatch)),
            ("observe", self.observe.as_ref()),
            ("compensate", self.compensate.as_ref()),
            ("undone", self.undone.as_ref()),
        ] {
            // Whatever a word stands for, the rest has to be a URL.
            template.map_or(Ok(()), |template| check_url(key, &substituted(template, |_| "x")))?;
        }
        for (key, says, asked) in [
            ("absent", &self.absent, true),
            ("not_undone", &self.not_undone, self.undone.is_some()),
        ] {
            let Some(says) = says else { continue };
            says.check(key)?;
            if !asked {
                return Err(HttpError::invalid(
                    key,
                    "is about answers to `undone`: name that URL, too",
                ));
            }
        }
        Ok(())
    }
}

/// What an answer looks like by which an upstream says that something did not happen. All of it has to fit.
///
/// A bare status may come from anybody on the way: a router answers 404 to a URL that is misspelt. So name something that only the
/// upstream's own answer has, where it has such a thing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAbsent {
    /// The status, such as 404.
    pub status: u16,
    /// Headers, by name, and their values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Values within the body, by JSON pointer, such as `/error/code`; the empty pointer stands for all of it.
    #[serde(default)]
    pub json: BTreeMap<String, serde_json::Value>,
}

impl HttpAbsent {
    fn check(&self, key: &'static str) -> Result<(), HttpError> {
        if !(200..600).contains(&self.status) {
            let problem = format!("has the status {}: one from 200 to 599 is wanted", self.status);
            return Err(HttpError::invalid(key, problem));
        }
        // What was found is answered like this as well.
        if self.status < 300 && self.headers.is_empty() && self.json.is_empty() {
            let problem = format!(
                "is any answer with the status {}: name `headers` or `json` that no other answer has",
                self.status
            );
            return Err(HttpError::invalid(key, problem));
        }
        let mut pointers = self.json.keys();
        match pointers.find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            Some(pointer) => {
                let problem =
                    format!("has the JSON pointer '{pointer}': one that begins with `/`, or \"\", is wanted");
                Err(HttpError::invalid(key, problem))
            }
            None => Ok(()),
        }
    }

    fn fits(&self, answer: &Answer) -> bool {
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let mut headers = self.headers.iter();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let mut json = self.json.iter();
        answer.status.as_u16() == self.status
            && headers.all(|(name, value)| header(name) == Some(value))
            && json.all(|(pointer, value)| body.pointer(pointer) == Some(value))
    }
}

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

/// An answer that came whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// No answer.
enum Lost {
    /// Nothing was sent.
    NotSent(String),
    /// It may have arrived.
    Sent(String),
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
            .header(CONTENT_TYPE_HEADER, call.args.content_type())
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

async fn send(request: RequestBuilder, call: &Call, name: Option<&BusinessKey>) -> Result<Answer, Lost> {
    let mut request = request
        .header("idempotency-key", &call.key)
        .header("tape-operation", encoded(call.operation.as_str()))
        .header("tape-attempt", call.attempt)
        .header("tape-effect", encoded(&call.effect.to_string()))
        .header("tape-run", StreamId::Run(call.run.clone()).to_string());
    if let Some(key) = name {
        request = request.header("tape-business-key", encoded(key.as_str()));
    }
    let response = request.send().await.map_err(lost)?;
    whole(response).await
}

/// Reads an answer, up to what a payload may have.
async fn whole(mut response: Response) -> Result<Answer, Lost> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Lost::Sent(causes(&error)))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > PAYLOAD_BYTES_MAX {
            return Err(Lost::Sent(format!(
                "the answer ({status}) has more than {PAYLOAD_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn lost(error: reqwest::Error) -> Lost {
    if error.is_builder() || error.is_connect() {
        Lost::NotSent(causes(&error))
    } else {
        Lost::Sent(causes(&error))
    }
}

impl Answer {
    /// The answer in Tape's own words, where it is in those.
    fn typed<A: DeserializeOwned>(&self) -> Option<Result<A, String>> {
        let kind = self.headers.get(CONTENT_TYPE_HEADER)?.to_str().ok()?;
        let own = kind.split(';').next()?.trim().eq_ignore_ascii_case(CONTENT_TYPE);
        own.then(|| {
            serde_json::from_slice(&self.body).map_err(|error| format!("the answer makes no sense: {error}"))
        })
    }

    fn payload(&self) -> Option<Payload> {
        let kind = self
            .headers
            .get(CONTENT_TYPE_HEADER)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind
            .and_then(|kind| kind.split(';').next())
            .map_or("application/octet-stream", str::trim);
        Payload::new(kind, self.body.clone()).ok()
    }

    fn retry_after(&self) -> Option<Duration> {
        // A date would need the upstream's clock; the policy's own backoff serves as well.
        let seconds = self
            .headers
            .get(RETRY_AFTER)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The status and the begin of the body.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let quote = &text[..text.floor_char_boundary(QUOTE_BYTES_MAX)];
        format!("{} {quote}", self.status).trim_end().to_owned()
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

/// What the answer to an act that was sent again says of all attempts.
fn repeated(answer: &Answer, attempt: u32, absent: Option<&HttpAbsent>) -> Observation {
    match ending(answer, attempt) {
        Ending::Confirmed { result, undo, .. } => Observation::Found { result, undo },
        Ending::Failed { .. } => Observation::Absent,
        _ if absent.is_some_and(|absent| absent.fits(answer)) => Observation::Absent,
        Ending::Retry { error: why, .. }
        | Ending::Refused { error: why, .. }
        | Ending::Unknown { cause: why } => Observation::Inconclusive { why },
    }
}

fn confirms(status: StatusCode) -> bool {
    status.is_success() && status != StatusCode::ACCEPTED
}

fn ending(answer: &Answer, attempt: u32) -> Ending {
    match answer.typed::<Dispatched>() {
        Some(typed) => typed.map_or_else(|cause| Ending::Unknown { cause }, Dispatched::ending),
        None => by_status(answer, attempt),
    }
}

fn undoing(answer: &Answer, attempt: u32) -> Result<Payload, NotUndone> {
    if let Some(typed) = answer.typed::<Compensated>() {
        return typed.map_or_else(|cause| Err(NotUndone::Unknown { cause }), Compensated::outcome);
    }
    match by_status(answer, attempt) {
        Ending::Confirmed { result, .. } => Ok(result),
        Ending::Retry { error, .. } | Ending::Refused { error, .. } | Ending::Failed { error, .. } => {
            Err(NotUndone::Retry { error })
        }
        Ending::Unknown { cause } => Err(NotUndone::Unknown { cause }),
    }
}

/// What anybody's answer means, who need not be the upstream.
fn by_status(answer: &Answer, attempt: u32) -> Ending {
    use StatusCode as S;
    let after = answer.retry_after();
    let said = answer.said();
    match answer.status {
        status if confirms(status) => Ending::Confirmed {
            result: answer.payload().unwrap_or_else(Payload::empty),
            undo: None,
            spent: None,
        },
        S::UNAUTHORIZED | S::PROXY_AUTHENTICATION_REQUIRED | S::TOO_EARLY | S::TOO_MANY_REQUESTS => {
            retry(said, after)
        }
        S::SERVICE_UNAVAILABLE if after.is_some() => retry(said, after),
        S::REQUEST_TIMEOUT => Ending::Unknown { cause: said },
        S::CONFLICT if attempt > 1 => Ending::Unknown { cause: said },
        S::NOT_IMPLEMENTED | S::HTTP_VERSION_NOT_SUPPORTED => refused(said, answer),
        status if status.is_client_error() => refused(said, answer),
        // Among them redirections: who posted something that was done is often sent elsewhere to look at it.
        _ => Ending::Unknown { cause: said },
    }
}

fn retry(error: String, after: Option<Duration>) -> Ending {
    let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Ending::Retry { error, after_ms }
}

fn refused(error: String, answer: &Answer) -> Ending {
    Ending::Refused {
        error,
        detail: answer.payload(),
    }
}

fn seen(answer: &Answer, absent: Option<&HttpAbsent>) -> Observation {
    if let Some(typed) = answer.typed::<Observed>() {
        return typed.map_or_else(|why| Observation::Inconclusive { why }, Observed::observation);
    }
    match answer.status {
        _ if absent.is_some_and(|absent| absent.fits(answer)) => Observation::Absent,
        status if confirms(status) => Observation::Found {
            result: answer.payload().unwrap_or_else(Payload::empty),
            undo: None,
        },
        _ => Observation::Inconclusive { why: answer.said() },
    }
}

/// A template with the words of a call in it.
fn fill(template: &str, call: &Call) -> Result<String, String> {
    let business_key = call.business_key.as_ref().map(BusinessKey::as_str);
    // Under no name, an upstream would do or find something else.
    if business_key.is_none() && template.contains(BUSINESS_KEY) {
        return Err(format!("there is no business key for {template}"));
    }
    let effect = call.effect.to_string();
    Ok(substituted(template, |word| match word {
        KEY => &call.key,
        BUSINESS_KEY => business_key.unwrap_or_default(),
        OPERATION => call.operation.as_str(),
        EFFECT => &effect,
        _ => call.run.tenant.as_str(),
    }))
}

/// A template with what each of its words stands for.
fn substituted<'a>(template: &str, value: impl Fn(&'static str) -> &'a str) -> String {
    let mut url = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        url.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = match WORDS.into_iter().find(|word| rest.starts_with(word)) {
            Some(word) => {
                url.push_str(&encoded(value(word)));
                word
            }
            None => {
                url.push('{');
                "{"
            }
        };
        rest = &rest[name.len()..];
    }
    url + rest
}

/// Percent-encoded but for what no part of a URL or header minds.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tape_core::id::{Connector as Name, EffectId, Operation, RunId};

    fn answer(status: u16, retry_after: Option<u64>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: b"{}".to_vec(),
        }
    }

    fn word(status: u16, retry_after: Option<u64>, attempt: u32) -> &'static str {
        match ending(&answer(status, retry_after), attempt) {
            Ending::Confirmed { .. } => "confirmed",
            Ending::Failed { .. } => "failed",
            Ending::Refused { .. } => "refused",
            Ending::Retry { .. } => "retry",
            Ending::Unknown { .. } => "unknown",
        }
    }

    #[test]
    fn what_answers_to_a_dispatch_mean() {
        for (status, first, later) in [
            (200, "confirmed", "confirmed"),
            (201, "confirmed", "confirmed"),
            (202, "unknown", "unknown"),
            (301, "unknown", "unknown"),
            (303, "unknown", "unknown"),
            (400, "refused", "refused"),
            (401, "retry", "retry"),
            (404, "refused", "refused"),
            (408, "unknown", "unknown"),
            (409, "refused", "unknown"),
            (413, "refused", "refused"),
            (422, "refused", "refused"),
            (425, "retry", "retry"),
            (429, "retry", "retry"),
            (500, "unknown", "unknown"),
            (501, "refused", "refused"),
            (502, "unknown", "unknown"),
            (503, "unknown", "unknown"),
            (504, "unknown", "unknown"),
            (600, "unknown", "unknown"),
        ] {
            assert_eq!(word(status, None, 1), first, "{status}");
            assert_eq!(word(status, None, 2), later, "{status}");
        }
        assert_eq!(word(503, Some(7), 1), "retry");
        let wish = ending(&answer(429, Some(7)), 1);
        assert!(
            matches!(
                wish,
                Ending::Retry {
                    after_ms: Some(7_000),
                    ..
                }
            ),
            "{wish:?}"
        );
    }

    #[test]
    fn what_answers_to_an_observation_mean() {
        let outcome = |status| seen(&answer(status, None), None).outcome();
        use tape_core::effect::Outcome as O;
        assert_eq!(outcome(200), O::Found);
        for status in [202, 401, 404, 410, 429, 500, 503] {
            assert_eq!(outcome(status), O::Inconclusive, "{status}");
        }
    }

    #[test]
    fn only_what_the_configuration_names_is_absent() {
        use tape_core::effect::Outcome as O;
        let said = |absent: &str, status, header: Option<&'static str>, body: &str| {
            let absent: HttpAbsent = serde_json::from_str(absent).unwrap();
            let mut answer = answer(status, None);
            if let Some(value) = header {
                answer.headers.insert("x-asked", HeaderValue::from_static(value));
            }
            answer.body = body.as_bytes().to_vec();
            seen(&answer, Some(&absent)).outcome()
        };
        let bare = r#"{"status": 404}"#;
        assert_eq!(said(bare, 404, None, "no such page"), O::Absent);
        assert_eq!(said(bare, 410, None, ""), O::Inconclusive);
        let by_body = r#"{"status": 404, "json": {"/error/code": "unknown", "/n": 1}}"#;
        let own = r#"{"error": {"code": "unknown"}, "n": 1}"#;
        assert_eq!(said(by_body, 404, None, own), O::Absent);
        assert_eq!(said(by_body, 500, None, own), O::Inconclusive);
        for routers in ["no such page", "", "{}", r#"{"error": {"code": "unknown"}}"#] {
            assert_eq!(said(by_body, 404, None, routers), O::Inconclusive, "{routers}");
        }
        let by_header = r#"{"status": 404, "headers": {"X-Asked": "bank"}}"#;
        assert_eq!(said(by_header, 404, Some("bank"), ""), O::Absent);
        assert_eq!(said(by_header, 404, Some("router"), ""), O::Inconclusive);
        assert_eq!(said(by_header, 404, None, ""), O::Inconclusive);
        let empty_list = r#"{"status": 200, "json": {"": []}}"#;
        assert_eq!(said(empty_list, 200, None, "[]"), O::Absent);
        assert_eq!(said(empty_list, 200, None, r#"[{"id": 1}]"#), O::Found);
    }

    #[test]
    fn an_upstream_that_knows_tape_says_what_it_means() {
        let typed = |body: &str| {
            let mut answer = answer(500, None);
            let kind = HeaderValue::from_static("application/vnd.tape.answer+json; charset=utf-8");
            answer.headers.insert(CONTENT_TYPE_HEADER, kind);
            answer.body = body.into();
            answer
        };
        let refused = typed(r#"{"failed": {"error": "no such account"}}"#);
        assert!(matches!(ending(&refused, 1), Ending::Failed { error, .. } if error == "no such account"));
        let nonsense = typed(r#"{"perhaps": {}}"#);
        assert!(matches!(ending(&nonsense, 1), Ending::Unknown { .. }));
        assert_eq!(seen(&typed(r#""absent""#), None), Observation::Absent);
    }

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

    #[test]
    fn an_act_that_is_sent_again_did_not_happen_only_where_the_upstream_says_so() {
        use tape_core::effect::Outcome as O;
        let absent: HttpAbsent = serde_json::from_str(r#"{"status": 422, "json": {"/n": 1}}"#).unwrap();
        let said = |status, body: &str| {
            let mut answer = answer(status, None);
            answer.body = body.as_bytes().to_vec();
            repeated(&answer, 2, Some(&absent)).outcome()
        };
        assert_eq!(said(200, "{}"), O::Found);
        assert_eq!(said(422, r#"{"n": 1}"#), O::Absent);
        for status in [303, 400, 401, 404, 405, 409, 413, 422, 500, 501] {
            assert_eq!(said(status, "{}"), O::Inconclusive, "{status}");
        }
        let mut typed = answer(404, None);
        let kind = HeaderValue::from_static(CONTENT_TYPE);
        typed.headers.insert(CONTENT_TYPE_HEADER, kind);
        typed.body = br#"{"failed": {"error": "no such account"}}"#.to_vec();
        assert_eq!(repeated(&typed, 2, None).outcome(), O::Absent);
    }

    #[test]
    fn what_answers_to_an_undo_mean() {
        let word = |status, attempt| match undoing(&answer(status, None), attempt) {
            Ok(_) => "done",
            Err(NotUndone::Retry { .. }) => "retry",
            Err(NotUndone::Unknown { .. }) => "unknown",
        };
        for (status, meaning) in [
            (200, "done"),
            (202, "unknown"),
            (303, "unknown"),
            (404, "retry"),
            (408, "unknown"),
            (429, "retry"),
            (500, "unknown"),
        ] {
            assert_eq!(word(status, 1), meaning, "{status}");
        }
        assert_eq!([word(409, 1), word(409, 2)], ["retry", "unknown"]);
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

    #[test]
    fn endpoints_that_make_no_sense_are_refused() {
        let problem = |toml: &str| {
            let endpoints: HttpEndpoints = serde_json::from_str(toml).unwrap();
            match HttpConnector::new(endpoints, []) {
                Err(error) => error.to_string(),
                Ok(_) => "taken".to_owned(),
            }
        };
        let with = |more: &str| {
            problem(&format!(
                r#"{{"dispatch": "https://bank.example/{{operation}}", {more}}}"#
            ))
        };
        for (more, key) in [
            (r#""observe": "bank.example/by/{key}""#, "`observe`"),
            (r#""observe": "localhost:80/by/{key}""#, "`observe`"),
            (r#""compensate": "/refunds""#, "`compensate`"),
            (r#""undone": "https://""#, "`undone`"),
            (r#""undone": "ftp://bank.example/{key}""#, "`undone`"),
            (r#""absent": {"status": 200}"#, "`absent`"),
            (r#""absent": {"status": 4040}"#, "`absent`"),
            (r#""absent": {"status": 404, "json": {"error": 1}}"#, "`absent`"),
            (r#""not_undone": {"status": 404}"#, "`not_undone`"),
            (
                r#""undone": "https://bank.example/{key}", "not_undone": {"status": 204}"#,
                "`not_undone`",
            ),
        ] {
            let problem = with(more);
            assert!(problem.starts_with(key), "{more}: {problem}");
        }
        assert!(problem(r#"{"dispatch": "bank.example"}"#).starts_with("`dispatch`"));
        for more in [
            r#""observe": "https://{tenant}.example:8443/by/{key}""#,
            r#""absent": {"status": 404}"#,
            r#""absent": {"status": 200, "json": {"": []}}"#,
            r#""undone": "http://127.0.0.1/{key}", "not_undone": {"status": 404}"#,
        ] {
            assert_eq!(with(more), "taken", "{more}");
        }
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

    fn call() -> Call {
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

    #[test]
    fn what_a_template_stands_for_is_encoded() {
        let template = "http://h/{tenant}/{operation}/{key}/{business_key}/{effect}/{other}";
        let url = fill(template, &call()).unwrap();
        assert_eq!(url, "http://h/acme/pay/k-1/a%2Fb%3Fc%20%7Bkey%7D/%230.0/{other}");
    }
}
