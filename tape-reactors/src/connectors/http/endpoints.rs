//! Where an upstream takes what, as it is configured.

use super::exchange::Answer;
use super::template::substituted;
use crate::http::{HttpError, check_url};
use std::collections::BTreeMap;

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
    pub(super) fn check(&self) -> Result<(), HttpError> {
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

    pub(super) fn fits(&self, answer: &Answer) -> bool {
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let mut headers = self.headers.iter();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let mut json = self.json.iter();
        answer.status.as_u16() == self.status
            && headers.all(|(name, value)| header(name) == Some(value))
            && json.all(|(pointer, value)| body.pointer(pointer) == Some(value))
    }
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
}
