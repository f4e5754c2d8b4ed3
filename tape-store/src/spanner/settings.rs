//! The settings of a Spanner store, and how its URL is parsed.

use crate::error::{STORE_URL, StoreError};
use std::str::FromStr;
use std::time::Duration;

/// Where an emulator listens for gRPC, as all clients of Spanner read it.
const EMULATOR: &str = "SPANNER_EMULATOR_HOST";
/// Where it listens for REST, which changes of the schema go over.
const EMULATOR_REST: &str = "SPANNER_EMULATOR_REST_HOST";
/// The usual distance from an emulator's port for gRPC to its port for REST.
const REST_BEYOND: u16 = 10;
/// An emulator carries out one commit at a time and aborts the others, which then wait longer and longer.
const EMULATOR_COMMITS: usize = 1;
/// Most shards of agenda and feed: every sweep of the agenda reads each of them.
const SHARDS_MAX: u16 = 256;

/// The settings of a Spanner store. Each is a parameter of the URL, under its own name unless its comment gives another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How many batches are committed at the same time, at least one.
    pub commits_under_way: usize,
    /// How long a commit may take, including retries after Spanner aborted it; `commit_timeout_ms`. An answer that has not
    /// come by then counts as lost.
    pub commit_timeout: Duration,
    /// How long a read may take; `read_timeout_ms`.
    pub read_timeout: Duration,
    /// The longest interval between two polls for commits of other servers while a task waits for them; `poll_ms`.
    pub poll: Duration,
    /// The number of shards of the agenda and the feed. Applies when the tables are made, and never changes.
    pub shards: u16,
    /// Whether opening the store makes or upgrades its tables; `migrate=auto` or `migrate=never`.
    pub migrate: bool,
}

impl Default for Settings {
    /// 64 commits at the same time (one on an emulator), 10 seconds for a commit or a read, a poll each second; 8 shards; tables are made.
    fn default() -> Self {
        Self {
            commits_under_way: 64,
            commit_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            shards: 8,
            migrate: true,
        }
    }
}

/// A database, and how to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name at the service: `projects/PROJECT/instances/INSTANCE/databases/DATABASE`.
    pub(super) database: String,
    pub(super) emulator: Option<Emulator>,
    /// How the database is used.
    pub settings: Settings,
}

/// Where an emulator listens. It is reached without credentials and without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Emulator {
    pub(super) grpc: String,
    pub(super) rest: String,
}

impl FromStr for Target {
    type Err = StoreError;

    /// Reads `spanner://PROJECT/INSTANCE/DATABASE?PARAMETERS`.
    ///
    /// An emulator is used where `SPANNER_EMULATOR_HOST` or the parameter `emulator` says `HOST:PORT`; its port for REST is that of
    /// `SPANNER_EMULATOR_REST_HOST` or the parameter `emulator_rest`, or else the tenth after. An unknown parameter is refused.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let path = path.strip_prefix("spanner://").unwrap_or_default();
        let names: Vec<&str> = path.split('/').collect();
        let [project, instance, database] = names[..] else {
            return Err(invalid(
                "it is not spanner://PROJECT/INSTANCE/DATABASE".to_owned(),
            ));
        };
        if let Some(bad) = [project, instance, database]
            .into_iter()
            .find(|name| !is_name(name))
        {
            return Err(invalid(format!("'{bad}' is not a name")));
        }
        let (mut grpc, mut rest) = (variable(EMULATOR), variable(EMULATOR_REST));
        let mut settings = Settings::default();
        let mut is_set = false;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "emulator" => grpc = Some(value.into_owned()),
                "emulator_rest" => rest = Some(value.into_owned()),
                _ => {
                    settings.set(&name, &value)?;
                    is_set |= name == "commits_under_way";
                }
            }
        }
        if grpc.is_some() && !is_set {
            settings.commits_under_way = EMULATOR_COMMITS;
        }
        Ok(Self {
            database: format!("projects/{project}/instances/{instance}/databases/{database}"),
            emulator: grpc.map(|grpc| Emulator::new(&grpc, rest)).transpose()?,
            settings,
        })
    }
}

impl Emulator {
    fn new(grpc: &str, rest: Option<String>) -> Result<Self, StoreError> {
        let beyond = || {
            let (host, port) = grpc.rsplit_once(':')?;
            let port = port.parse::<u16>().ok()?.checked_add(REST_BEYOND)?;
            Some(format!("{host}:{port}"))
        };
        let rest = rest.or_else(beyond);
        let rest = rest.ok_or_else(|| invalid(format!("the emulator '{grpc}' is not HOST:PORT")))?;
        Ok(Self {
            grpc: format!("http://{grpc}"),
            rest: format!("http://{rest}"),
        })
    }
}

impl Settings {
    fn set(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let number = || {
            let number = value.parse::<u32>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| invalid(format!("{name} is not a positive number")))
        };
        let millis = || number().map(|number| Duration::from_millis(number.into()));
        match name {
            "commits_under_way" => self.commits_under_way = number()? as usize,
            "commit_timeout_ms" => self.commit_timeout = millis()?,
            "read_timeout_ms" => self.read_timeout = millis()?,
            "poll_ms" => self.poll = millis()?,
            "shards" => {
                let shards = u16::try_from(number()?)
                    .ok()
                    .filter(|shards| *shards <= SHARDS_MAX);
                self.shards =
                    shards.ok_or_else(|| invalid(format!("there are at most {SHARDS_MAX} shards")))?;
            }
            "migrate" => {
                self.migrate = match value {
                    "auto" => true,
                    "never" => false,
                    _ => return Err(invalid("migrate is neither auto nor never".to_owned())),
                }
            }
            _ => return Err(invalid(format!("there is no parameter {name}"))),
        }
        Ok(())
    }
}

/// Projects may have a domain, as in `example.com:name`.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    !name.is_empty() && name.chars().all(fits)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn invalid(problem: String) -> StoreError {
    StoreError::Invalid {
        what: STORE_URL,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        url.parse::<Target>().map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_says_where_and_how() {
        let read = target(
            "spanner://example.com:books/main/tape?commits_under_way=3&commit_timeout_ms=250&read_timeout_ms=50&poll_ms=20&shards=2&migrate=never&emulator=localhost:9010",
        );
        let settings = Settings {
            commits_under_way: 3,
            commit_timeout: Duration::from_millis(250),
            read_timeout: Duration::from_millis(50),
            poll: Duration::from_millis(20),
            shards: 2,
            migrate: false,
        };
        let emulator = Emulator {
            grpc: "http://localhost:9010".to_owned(),
            rest: "http://localhost:9020".to_owned(),
        };
        let expected = Target {
            database: "projects/example.com:books/instances/main/databases/tape".to_owned(),
            emulator: Some(emulator),
            settings,
        };
        assert_eq!(read, Ok(expected));
        let read = target("spanner://p/i/d?emulator=[::1]:1&emulator_rest=[::1]:7").unwrap();
        assert_eq!(read.emulator.unwrap().rest, "http://[::1]:7");
    }

    #[test]
    fn a_url_that_makes_no_sense_is_refused() {
        for bad in [
            "spanner://p/i",
            "spanner:p/i/d",
            "spanner://p/i/d/e",
            "spanner://p//d",
            "spanner://p/i/d d",
            "spanner://p/i/d?shards=0",
            "spanner://p/i/d?shards=257",
            "spanner://p/i/d?migrate=perhaps",
            "spanner://p/i/d?password=x",
            "spanner://p/i/d?emulator=localhost",
            "spanner://p/i/d?emulator=localhost:65530",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
