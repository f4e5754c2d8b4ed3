//! The settings of a Postgres store, and how its URL is parsed.

use super::primary::Seen;
use crate::error::{STORE_URL, StoreError};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// Parameters of the URL that go to the connection as they are; their names are those of libpq.
const CONNECTION_PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The settings of a Postgres store. Each is a parameter of the URL, under its own name unless its comment gives another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How many connections commit at the same time, at least one.
    pub commit_connections: u16,
    /// How many connections read at the same time, at least one.
    pub read_connections: u16,
    /// How long making a connection may take; `connect_timeout`, in seconds.
    pub connect_timeout: Duration,
    /// How long one statement may take in the database; `statement_timeout_ms`. An answer that has not come a little later
    /// counts as lost.
    pub statement_timeout: Duration,
    /// How long a call waits for a free connection; `wait_timeout_ms`.
    pub wait_timeout: Duration,
    /// Whether opening the store makes or upgrades its tables; `migrate=auto` or `migrate=never`.
    pub migrate: bool,
}

impl Default for Settings {
    /// 2 to commit, 8 to read, 5 seconds to connect, 10 for a statement, 10 to wait; tables are made.
    fn default() -> Self {
        Self {
            commit_connections: 2,
            read_connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            wait_timeout: Duration::from_secs(10),
            migrate: true,
        }
    }
}

/// A database, how to connect to it, and how to use it. The password is never shown.
#[derive(Clone)]
pub struct Target {
    pub(super) options: PgConnectOptions,
    pub(super) seen: Seen,
    /// How the database is used.
    pub settings: Settings,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("database", &self.options.get_database())
            .field("user", &self.options.get_username())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl FromStr for Target {
    type Err = StoreError;

    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS` or the same with `alloydb://`.
    ///
    /// What the URL leaves out comes from the environment (`PGHOST`, `PGPASSWORD` and so on) and from `.pgpass`, as with libpq;
    /// `password_file=PATH` names a file that has the password. An unknown parameter is refused.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        // Errors never repeat the text: it may have a password.
        let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        let mut plain = url.clone();
        plain.set_query(None);
        let (mut settings, mut password_file) = (Settings::default(), None);
        for (name, value) in url.query_pairs() {
            if name == "password_file" {
                password_file = Some(value.into_owned());
            } else if CONNECTION_PARAMETERS.contains(&name.as_ref()) || name.starts_with("options[") {
                plain.query_pairs_mut().append_pair(&name, &value);
            } else {
                settings.set(&name, &value)?;
            }
        }
        let options = PgConnectOptions::from_url(&plain).map_err(|error| invalid(error.to_string()))?;
        let mut options = match url.scheme() {
            "alloydb" => private(options, &url)?,
            _ => options,
        };
        if let Some(path) = password_file {
            let read = std::fs::read_to_string(&path);
            let password = read.map_err(|error| invalid(format!("the password file {path}: {error}")))?;
            options = options.password(password.trim_end_matches(['\r', '\n']));
        }
        if options.get_application_name().is_none() {
            options = options.application_name("tape");
        }
        Ok(Self {
            options: options.disable_statement_logging(),
            seen: Seen::default(),
            settings,
        })
    }
}

impl Settings {
    fn set(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        let number = || {
            let number = value.parse::<u32>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| invalid(format!("{name} is not a positive number")))
        };
        let connections = || {
            let given = number()?;
            u16::try_from(given).map_err(|_| invalid(format!("{name} is at most {}", u16::MAX)))
        };
        let millis = || number().map(|number| Duration::from_millis(number.into()));
        match name {
            "commit_connections" => self.commit_connections = connections()?,
            "read_connections" => self.read_connections = connections()?,
            "connect_timeout" => self.connect_timeout = Duration::from_secs(number()?.into()),
            "statement_timeout_ms" => self.statement_timeout = millis()?,
            "wait_timeout_ms" => self.wait_timeout = millis()?,
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

/// AlloyDB behind its Auth Proxy is a loopback address, and the proxy encrypts; any other address is TLS.
fn private(options: PgConnectOptions, url: &Url) -> Result<PgConnectOptions, StoreError> {
    let host = options.get_host();
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || options.get_socket().is_some() || is_encrypted(options.get_ssl_mode()) {
        return Ok(options);
    }
    if url.query_pairs().any(|(name, _)| name == "sslmode") {
        let problem = "an AlloyDB that is not behind its Auth Proxy is reached by TLS: sslmode must be require, verify-ca or verify-full";
        return Err(invalid(problem.to_owned()));
    }
    Ok(options.ssl_mode(PgSslMode::Require))
}

const fn is_encrypted(mode: PgSslMode) -> bool {
    matches!(
        mode,
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
    )
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
        let read = target("postgres://ann:secret@db.example:5433/tape?sslmode=verify-full&commit_connections=3&statement_timeout_ms=250&connect_timeout=2&migrate=never").unwrap();
        assert_eq!(
            (read.options.get_host(), read.options.get_port()),
            ("db.example", 5433)
        );
        assert!(matches!(read.options.get_ssl_mode(), PgSslMode::VerifyFull));
        let expected = Settings {
            commit_connections: 3,
            statement_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(2),
            migrate: false,
            ..Settings::default()
        };
        assert_eq!(read.settings, expected);
    }

    #[test]
    fn a_password_is_never_shown() {
        let read = target("postgres://ann:secret@db.example/tape?password=secret").unwrap();
        assert!(!format!("{read:?}").contains("secret"));
        for bad in [
            "postgres://ann:secret@db.example:port/tape",
            "postgres://ann:secret@db.example/tape?passwort=secret",
            "postgres://ann:secret@db.example/tape?sslmode=secret-mode&read_connections=0",
            "postgres://ann:secret@db.example/tape?password_file=/no/such/file",
        ] {
            let error = target(bad).unwrap_err();
            assert!(
                !error.contains("ann:secret") && !error.contains("=secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_is_read_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, "fromafile\n").unwrap();
        let read = target(&format!(
            "postgres://ann@db.example/tape?password_file={}",
            path.display()
        ))
        .unwrap();
        let connected = read.options.to_url_lossy();
        assert_eq!(connected.password(), Some("fromafile"));
    }

    #[test]
    fn alloydb_is_encrypted_beyond_its_proxy() {
        let mode = |url: &str| target(url).map(|read| is_encrypted(read.options.get_ssl_mode()));
        assert_eq!(mode("alloydb://ann@127.0.0.1/tape"), Ok(false));
        assert_eq!(mode("alloydb://ann@10.1.2.3/tape"), Ok(true));
        assert_eq!(mode("alloydb://ann@10.1.2.3/tape?sslmode=verify-full"), Ok(true));
        assert!(mode("alloydb://ann@10.1.2.3/tape?sslmode=disable").is_err());
        assert_eq!(mode("postgres://ann@10.1.2.3/tape?sslmode=disable"), Ok(false));
    }
}
