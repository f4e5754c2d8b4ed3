//! The configured endpoints of an upstream.

use super::pattern::Pattern;
use super::target::Target;
use crate::http::HttpError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The endpoints of an upstream, and how its answers say what happened. In each URL, `{key}`, `{business_key}`, `{operation}`, `{effect}`
/// and `{tenant}` stand for values of the call, percent-encoded; `{{` and `}}` stand for braces. An undo has its own key and operation, and
/// the business key of its effect. A call whose words would make another URL of a template, such as `..`, is refused, and nothing is sent.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpEndpoints {
    /// `POST`: performs the operation.
    pub dispatch: String,
    /// `GET`: returns the outcome of an effect. Without it, an idempotent effect is sent again instead unless its run is ending, and a
    /// person must decide about any other.
    pub observe: Option<String>,
    /// `POST`: undoes an effect. Without it, the inverse operation is dispatched.
    pub compensate: Option<String>,
    /// The pattern of answers to `observe` that say that it happened once. Without it, only an answer in Tape's own format says so.
    pub found: Option<HttpPattern>,
    /// The pattern of answers to `observe`, or else to a repeated request, that say that it did not happen. Without it, only an answer in
    /// Tape's own format says so.
    pub absent: Option<HttpPattern>,
    /// `GET`: returns whether an effect is undone; called before an undo is repeated after one that may have arrived. Without it, the undo
    /// of an idempotent effect is sent again under its key, and any other waits for a person.
    pub undone: Option<String>,
    /// The pattern of answers to `undone` that say that it is undone. Without it, only an answer in Tape's own format says so.
    pub is_undone: Option<HttpPattern>,
    /// The pattern of answers to `undone` that say that it is not undone, in the same way.
    pub not_undone: Option<HttpPattern>,
    /// The patterns of answers to `dispatch` and `compensate` that say that nothing was done and that a retry is possible: one pattern or a
    /// list. Without it, a 429 or 503 leaves that open.
    #[serde(default, deserialize_with = "one_or_more")]
    pub not_done: Vec<HttpPattern>,
}

/// The endpoints where the subscriber of what is published, such as to a topic, is asked what came of it, as in [`HttpEndpoints`].
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAnswers {
    /// `GET`: returns the outcome of an effect.
    pub observe: String,
    /// The pattern of answers to `observe` that say that it happened once.
    pub found: Option<HttpPattern>,
    /// The pattern of answers to `observe` that say that it did not happen, and that no message about it can still arrive.
    pub absent: Option<HttpPattern>,
    /// `GET`: returns whether an effect is undone.
    pub undone: Option<String>,
    /// The pattern of answers to `undone` that say that it is undone.
    pub is_undone: Option<HttpPattern>,
    /// The pattern of answers to `undone` that say that it is not undone.
    pub not_undone: Option<HttpPattern>,
}

/// Its URLs may have secrets.
impl fmt::Debug for HttpAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnswers").finish_non_exhaustive()
    }
}

impl From<HttpAnswers> for HttpEndpoints {
    fn from(answers: HttpAnswers) -> Self {
        let HttpAnswers {
            observe,
            found,
            absent,
            undone,
            is_undone,
            not_undone,
        } = answers;
        Self {
            // Nothing is dispatched there: only questions are asked.
            dispatch: observe.clone(),
            observe: Some(observe),
            found,
            absent,
            undone,
            is_undone,
            not_undone,
            ..Self::default()
        }
    }
}

/// A pattern of an upstream's answers. All of it must match.
///
/// A bare status may come from any proxy on the way: a router answers 404 to a misspelt URL. So name something that only the upstream's own
/// answer has, where there is such a thing. Words in braces, as in a URL, stand for values of the call, unencoded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpPattern {
    /// The status, such as 404.
    pub status: u16,
    /// Headers, by name, and their values.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Values within the body, by JSON pointer, such as `/error/code`; the empty pointer stands for all of it.
    #[serde(default)]
    pub json: BTreeMap<String, serde_json::Value>,
}

/// Endpoints with valid templates and patterns.
#[derive(Clone)]
pub(super) struct Endpoints {
    pub(super) dispatch: Target,
    pub(super) observe: Option<Target>,
    pub(super) compensate: Option<Target>,
    pub(super) undone: Option<Target>,
    pub(super) found: Option<Pattern>,
    pub(super) absent: Option<Pattern>,
    pub(super) is_undone: Option<Pattern>,
    pub(super) not_undone: Option<Pattern>,
    pub(super) not_done: Vec<Pattern>,
}

impl Endpoints {
    pub(super) fn read(of: &HttpEndpoints) -> Result<Self, HttpError> {
        for (key, pattern, asked, url) in [
            ("found", &of.found, &of.observe, "observe"),
            ("is_undone", &of.is_undone, &of.undone, "undone"),
            ("not_undone", &of.not_undone, &of.undone, "undone"),
        ] {
            if pattern.is_some() && asked.is_none() {
                let problem = format!("is about answers to `{url}`: name that URL, too");
                return Err(HttpError::invalid(key, problem));
            }
        }
        for (key, says_no) in [("absent", &of.absent), ("not_undone", &of.not_undone)] {
            let bare = says_no.as_ref().filter(|pattern| pattern.is_bare());
            // An effect that happened has such an answer as well.
            bare.filter(|pattern| pattern.status < 300)
                .map_or(Ok(()), |pattern| Err(pattern.too_bare(key)))?;
        }
        for (key, says_yes) in [("found", &of.found), ("is_undone", &of.is_undone)] {
            // Any other answer is like this as well.
            let bare = says_yes.as_ref().filter(|pattern| pattern.is_bare());
            bare.map_or(Ok(()), |pattern| Err(pattern.too_bare(key)))?;
        }
        let bare = of
            .not_done
            .iter()
            .find(|pattern| pattern.is_bare() && pattern.status < 300);
        bare.map_or(Ok(()), |pattern| Err(pattern.too_bare("not_done")))?;
        Ok(Self {
            dispatch: target("dispatch", &of.dispatch)?,
            observe: some(of.observe.as_ref(), |url| target("observe", url))?,
            compensate: some(of.compensate.as_ref(), |url| target("compensate", url))?,
            undone: some(of.undone.as_ref(), |url| target("undone", url))?,
            found: some(of.found.as_ref(), |found| pattern("found", found))?,
            absent: some(of.absent.as_ref(), |absent| pattern("absent", absent))?,
            is_undone: some(of.is_undone.as_ref(), |undone| pattern("is_undone", undone))?,
            not_undone: some(of.not_undone.as_ref(), |undone| pattern("not_undone", undone))?,
            not_done: of
                .not_done
                .iter()
                .map(|done| pattern("not_done", done))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn some<A, B>(of: Option<&A>, read: impl FnOnce(&A) -> Result<B, HttpError>) -> Result<Option<B>, HttpError> {
    of.map(read).transpose()
}

fn target(key: &'static str, url: &str) -> Result<Target, HttpError> {
    Target::parse(url).map_err(|problem| HttpError::invalid(key, problem))
}

fn pattern(key: &'static str, of: &HttpPattern) -> Result<Pattern, HttpError> {
    Pattern::read(of).map_err(|problem| HttpError::invalid(key, problem))
}

impl HttpPattern {
    fn is_bare(&self) -> bool {
        self.headers.is_empty() && self.json.is_empty()
    }

    fn too_bare(&self, key: &'static str) -> HttpError {
        let problem = format!(
            "is any answer with the status {}: name `headers` or `json` that no other answer has",
            self.status
        );
        HttpError::invalid(key, problem)
    }
}

/// URLs may have secrets.
impl fmt::Debug for HttpEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls = [
            ("dispatch", Some(&self.dispatch)),
            ("observe", self.observe.as_ref()),
            ("compensate", self.compensate.as_ref()),
            ("undone", self.undone.as_ref()),
        ];
        let named: Vec<_> = urls
            .into_iter()
            .filter_map(|(name, url)| url.map(|_| name))
            .collect();
        f.debug_struct("HttpEndpoints")
            .field("urls", &named)
            .finish_non_exhaustive()
    }
}

/// One pattern, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HttpPattern>, D::Error> {
    struct OneOrMore;
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<HttpPattern>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a pattern of answers, or a list of them")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            HttpPattern::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = seq.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(OneOrMore)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::http::HttpConnector;

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
            (r#""found": {"status": 200, "json": {"/a": 1}}"#, "`found`"),
            (
                r#""observe": "https://b/{key}", "found": {"status": 200}"#,
                "`found`",
            ),
            (
                r#""observe": "https://b/{key}", "found": {"status": 200, "json": {"/a": "{kye}"}}"#,
                "`found` has the unknown word {kye}: did you mean {key}?",
            ),
            (
                r#""observe": "https://b/{busines_key}""#,
                "`observe` has the unknown word {busines_key}: did you mean {business_key}?",
            ),
            (
                r#""undone": "https://b/{key}", "is_undone": {"status": 200}"#,
                "`is_undone`",
            ),
            (r#""not_done": {"status": 200}"#, "`not_done`"),
            (r#""not_done": [{"status": 429}, {"status": 4290}]"#, "`not_done`"),
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
            r#""not_done": {"status": 503}"#,
            r#""not_done": [{"status": 429}, {"status": 503, "headers": {"x-by": "bank"}}]"#,
            r#""observe": "https://b/{key}", "found": {"status": 200, "json": {"/by": "{business_key}"}}"#,
            r#""absent": {"status": 200, "json": {"": []}}"#,
            r#""undone": "http://127.0.0.1/{key}", "not_undone": {"status": 404}"#,
        ] {
            assert_eq!(with(more), "taken", "{more}");
        }
    }
}
