//! The settings of a Bigtable store, and how its URL is parsed.

use crate::error::{STORE_URL, StoreError};
use std::str::FromStr;
use std::time::Duration;

/// Names the emulator, as with Google's own clients: `HOST:PORT`.
const EMULATOR: &str = "BIGTABLE_EMULATOR_HOST";

/// For how long the service keeps changes.
const CHANGE_STREAM_DAYS: std::ops::RangeInclusive<u32> = 1..=7;

/// The settings of a Bigtable store. Each is a parameter of the URL, under its own name unless its comment gives another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The app profile; it must route to a single cluster and allow single-row transactions. Empty for the default one.
    pub app_profile: String,
    /// How many connections share the calls, at least one.
    pub connections: u32,
    /// How long one call may take; `timeout_ms`. An answer that has not come by then counts as lost.
    pub timeout: Duration,
    /// The age of a hint at which its writer counts as dead; `given_up_after_ms`. A writer that is still alive retries.
    pub given_up_after: Duration,
    /// Whether opening the store makes its table; `migrate=auto` or `migrate=never`.
    pub migrate: bool,
    /// Whether the store learns of commits of other servers through the table's change stream; `push=auto`, `push=on` or `push=off`.
    pub push: Push,
    /// For how many days, 1 to 7, a new table keeps its change stream; `change_stream_days`. Without it, a new table has no change stream.
    pub change_stream_days: Option<u32>,
    /// An emulator, as `HOST:PORT`, instead of the service. The default is the environment variable `BIGTABLE_EMULATOR_HOST`.
    pub emulator: Option<String>,
}

/// Whether a store follows the change stream of its table. Where it does not, it polls for commits of others once a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// If the table has a change stream. The store asks the admin service for that; without permission to ask, it does not follow one.
    Auto,
    /// Always: the table has one.
    On,
    /// Never, also where the table has one.
    Off,
}

impl Default for Settings {
    /// The default app profile of the service, 4 connections, 10 seconds for a call, 60 until a writer counts as dead; the table is made
    /// without a change stream, and an existing change stream is followed.
    fn default() -> Self {
        Self {
            app_profile: String::new(),
            connections: 4,
            timeout: Duration::from_secs(10),
            given_up_after: Duration::from_secs(60),
            migrate: true,
            push: Push::Auto,
            change_stream_days: None,
            emulator: None,
        }
    }
}

/// A table, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) project: String,
    pub(super) instance: String,
    pub(super) table: String,
    /// How the table is used.
    pub settings: Settings,
}

impl FromStr for Target {
    type Err = StoreError;

    /// Reads `bigtable://PROJECT/INSTANCE/TABLE?PARAMETERS`. An unknown parameter is refused.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let form = || invalid("it is not of the form bigtable://PROJECT/INSTANCE/TABLE".to_owned());
        let rest = text.strip_prefix("bigtable://").ok_or_else(form)?;
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let names: Vec<&str> = path.split('/').collect();
        let [project, instance, table] = names[..] else {
            return Err(form());
        };
        if names.iter().any(|name| !is_name(name)) {
            return Err(form());
        }
        let mut settings = Settings {
            emulator: std::env::var(EMULATOR).ok().filter(|host| !host.is_empty()),
            ..Settings::default()
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            settings.set(name, value)?;
        }
        Ok(Self {
            project: project.to_owned(),
            instance: instance.to_owned(),
            table: table.to_owned(),
            settings,
        })
    }
}

/// Whether a text can name a project (also one of a domain), an instance or a table.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    !name.is_empty() && name.chars().all(allowed)
}

impl Settings {
    fn set(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let wrong = |what: &str| invalid(format!("the parameter {name} is not {what}: '{value}'"));
        let number = || value.parse::<u32>().ok().filter(|n| *n > 0);
        let millis = || number().map(|n| Duration::from_millis(n.into()));
        match name {
            "app_profile" => self.app_profile = value.to_owned(),
            "connections" => self.connections = number().ok_or_else(|| wrong("a number over zero"))?,
            "timeout_ms" => self.timeout = millis().ok_or_else(|| wrong("a number over zero"))?,
            "given_up_after_ms" => {
                self.given_up_after = millis().ok_or_else(|| wrong("a number over zero"))?;
            }
            "migrate" => {
                self.migrate = match value {
                    "auto" => true,
                    "never" => false,
                    _ => return Err(wrong("auto or never")),
                }
            }
            "push" => {
                self.push = match value {
                    "auto" => Push::Auto,
                    "on" => Push::On,
                    "off" => Push::Off,
                    _ => return Err(wrong("auto, on or off")),
                }
            }
            "change_stream_days" => {
                let days = number().filter(|days| CHANGE_STREAM_DAYS.contains(days));
                self.change_stream_days = Some(days.ok_or_else(|| wrong("a number from 1 to 7"))?);
            }
            "emulator" => self.emulator = Some(value.to_owned()),
            _ => return Err(invalid(format!("the parameter {name} is not known"))),
        }
        Ok(())
    }
}

fn invalid(problem: String) -> StoreError {
    StoreError::Invalid {
        what: STORE_URL,
        problem,
    }
}

impl Target {
    pub(super) fn instance_name(&self) -> String {
        format!("projects/{}/instances/{}", self.project, self.instance)
    }

    pub(super) fn table_name(&self) -> String {
        format!("{}/tables/{}", self.instance_name(), self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, String> {
        text.parse().map_err(|error: StoreError| error.to_string())
    }

    #[test]
    fn a_url_names_a_table() {
        let read = target("bigtable://my-project/journal/tape?app_profile=tape&timeout_ms=1500&migrate=never&emulator=127.0.0.1:1&connections=2&push=on&change_stream_days=7").unwrap();
        assert_eq!(
            read.table_name(),
            "projects/my-project/instances/journal/tables/tape"
        );
        let expected = Settings {
            app_profile: "tape".to_owned(),
            connections: 2,
            timeout: Duration::from_millis(1_500),
            migrate: false,
            push: Push::On,
            change_stream_days: Some(7),
            emulator: Some("127.0.0.1:1".to_owned()),
            ..Settings::default()
        };
        assert_eq!(read.settings, expected);
    }

    #[test]
    fn what_is_no_url_of_a_table_is_refused() {
        for bad in [
            "bigtable://p/i",
            "bigtable:p/i/t",
            "bigtable://p//t",
            "bigtable://p/i/t/x",
            "bigtable://p/i/t t",
            "bigtable://p/i/t?connections=0",
            "bigtable://p/i/t?migrate=maybe",
            "bigtable://p/i/t?push=yes",
            "bigtable://p/i/t?change_stream_days=0",
            "bigtable://p/i/t?change_stream_days=8",
            "bigtable://p/i/t?shards=9",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
