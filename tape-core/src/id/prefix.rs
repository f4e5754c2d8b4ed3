//! Beginnings of names, by which runs, sessions and values are listed.

use super::stream::{unescape, write_escaped};
use super::{App, InvalidName, NameProblem, RunId, StreamId, Tenant, User, ValueName};
use crate::limits::NAME_BYTES_MAX;
use std::fmt;
use std::str::FromStr;

/// The parts of the name of a run after the tenant.
const RUN_PARTS: usize = 4;

/// The beginning of the names of some runs, as names of streams have it after `tenant/run/`: `treasury/ann/` are the runs of a user,
/// `treasury/ann/s1/i` those of a session whose invocations begin with `i`.
///
/// ```
/// use tape_core::id::{RunId, RunPrefix};
/// let run = RunId::new("acme", "treasury", "ann", "s/1", "i1").unwrap();
/// let begins = |prefix: &str| prefix.parse::<RunPrefix>().unwrap().is_of(&run);
/// assert!(begins("treasury/ann/s%2F") && begins("trea"));
/// assert!(!begins("treasury/an/"));
/// assert!("treasury/ann/s 1".parse::<RunPrefix>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPrefix {
    text: String,
    app: Option<App>,
}

impl RunPrefix {
    /// Whether the name of a run begins with it. The run's tenant does not matter.
    #[must_use]
    pub fn is_of(&self, run: &RunId) -> bool {
        run.path().starts_with(&self.text)
    }

    /// The app of all runs whose names begin with it; none where there may be several apps.
    #[must_use]
    pub const fn app(&self) -> Option<&App> {
        self.app.as_ref()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RunPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RunPrefix {
    type Err = InvalidName;

    /// Takes a text that some name of a run begins with.
    ///
    /// # Errors
    /// [`InvalidName`] where no name begins with the text: a part of it is empty, too long or not escaped as names of streams are, or there
    /// are too many parts.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = |problem| InvalidName {
            what: "run prefix",
            problem,
        };
        let form = || {
            wrong(NameProblem::Form {
                form: "app/user/session/invocation, or the beginning of it",
            })
        };
        let parts: Vec<String> = text
            .split('/')
            .map(unescape)
            .collect::<Option<_>>()
            .ok_or_else(form)?;
        let (_, whole) = parts.split_last().ok_or_else(form)?;
        if parts.len() > RUN_PARTS || whole.iter().any(String::is_empty) || text.is_empty() {
            return Err(form());
        }
        if let Some(long) = parts.iter().find(|part| part.len() > NAME_BYTES_MAX) {
            let (bytes, max) = (long.len(), NAME_BYTES_MAX);
            return Err(wrong(NameProblem::TooLong { bytes, max }));
        }
        if parts.iter().any(|part| part.contains(char::is_control)) {
            return Err(form());
        }
        let app = whole.first().map(App::new).transpose()?;
        Ok(Self {
            text: text.to_owned(),
            app,
        })
    }
}

/// The beginning of the names of sessions, or of values, of one tenant. Names are compared as they are stored: with escapes, by bytes.
///
/// A part of a name is whole before a slash, so the sessions of the tenant `acme` are not those of `acme2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPrefix(String);

impl StreamPrefix {
    /// The sessions of a tenant, of one of its apps, or of one user of an app.
    #[must_use]
    pub fn sessions(tenant: &Tenant, of: Option<(&App, Option<&User>)>) -> Self {
        let mut text = String::new();
        let (app, user) = of.unzip();
        let parts = [
            Some(tenant.as_str()),
            Some("session"),
            app.map(App::as_str),
            user.flatten().map(User::as_str),
        ];
        for part in parts.into_iter().flatten() {
            escape(part, &mut text);
            text.push('/');
        }
        Self(text)
    }

    /// The values of a tenant; those whose names begin with the name `beginning` where it is given.
    #[must_use]
    pub fn values(tenant: &Tenant, beginning: Option<&ValueName>) -> Self {
        let mut text = String::new();
        escape(tenant.as_str(), &mut text);
        text.push_str("/value/");
        if let Some(beginning) = beginning {
            escape(beginning.as_str(), &mut text);
        }
        Self(text)
    }

    /// The text: the least that a name with this beginning can be.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The least text after all that begin with this one, in the order of bytes.
    #[must_use]
    pub fn end(&self) -> String {
        let mut text = self.0.clone();
        while let Some(last) = text.pop() {
            // Characters have the order of their bytes. The surrogates are no characters.
            let mut later = (last..=char::MAX).skip(1);
            if let Some(next) = later.next() {
                text.push(next);
                break;
            }
        }
        text
    }
}

impl StreamId {
    /// Whether stores list the stream by its name, as they do sessions and values. Runs have lists of their own.
    #[must_use]
    pub const fn is_listed_by_name(&self) -> bool {
        matches!(self, Self::Session(_) | Self::Value { .. })
    }
}

fn escape(part: &str, text: &mut String) {
    write_escaped(part, text).expect("a string takes any text");
}

#[cfg(test)]
mod tests {
    use super::{RunPrefix, StreamPrefix};
    use crate::id::{App, RunId, Tenant, User, ValueName};

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn a_run_prefix_is_what_a_name_can_begin_with() {
        let long = "x".repeat(201);
        for wrong in [
            "",
            "/",
            "a//",
            "a/u/s/i/",
            "a/u/s/i/j",
            "a%2",
            "a%2f/",
            "a b",
            "a.b/",
            "a\u{7}",
            &long,
        ] {
            assert!(wrong.parse::<RunPrefix>().is_err(), "{wrong:?}");
        }
        let run = RunId::new("acme", "a.b", "u/v", "s 1", "100%").unwrap();
        let prefixes = [
            "a",
            "a%2E",
            "a%2Eb/",
            "a%2Eb/u%2Fv/s%201/",
            "a%2Eb/u%2Fv/s%201/100%25",
        ];
        for right in prefixes {
            assert!(right.parse::<RunPrefix>().unwrap().is_of(&run), "{right}");
        }
        assert!(!"a%2Eb/u/".parse::<RunPrefix>().unwrap().is_of(&run));
        let app = |text: &str| text.parse::<RunPrefix>().unwrap().app().cloned();
        assert_eq!(app("a%2Eb"), None);
        assert_eq!(app("a%2Eb/u"), Some(App::new("a.b").unwrap()));
    }

    #[test]
    fn a_prefix_ends_with_whole_parts() {
        let (app, user) = (App::new("pay/roll").unwrap(), User::new("a.n").unwrap());
        let sessions = |of| StreamPrefix::sessions(&tenant("ac/me"), of).0;
        assert_eq!(sessions(None), "ac%2Fme/session/");
        assert_eq!(sessions(Some((&app, None))), "ac%2Fme/session/pay%2Froll/");
        assert_eq!(
            sessions(Some((&app, Some(&user)))),
            "ac%2Fme/session/pay%2Froll/a%2En/"
        );
        let name = ValueName::new("rates/").unwrap();
        assert_eq!(StreamPrefix::values(&tenant("t"), None).0, "t/value/");
        assert_eq!(
            StreamPrefix::values(&tenant("t"), Some(&name)).0,
            "t/value/rates%2F"
        );
    }

    #[test]
    fn the_end_comes_after_all_with_the_prefix_and_before_all_others() {
        for (text, end) in [
            ("a/value/", "a/value0"),
            ("a/value/x\u{10ffff}", "a/value/y"),
            ("a/value/\u{d7ff}", "a/value/\u{e000}"),
            ("a/value/é", "a/value/ê"),
        ] {
            let prefix = StreamPrefix(text.to_owned());
            assert_eq!(prefix.end(), end);
            assert!(format!("{text}\u{10ffff}\u{10ffff}") < prefix.end());
        }
    }
}
