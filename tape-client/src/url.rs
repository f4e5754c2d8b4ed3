//! The address of a journal.

use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// The address of a journal.
///
/// ```
/// use tape_client::StoreUrl;
/// assert_eq!("tape://127.0.0.1:7878".parse::<StoreUrl>().unwrap().to_string(), "tape://127.0.0.1:7878");
/// assert!("sqlite:book.db".parse::<StoreUrl>().is_ok());
/// let error = "http://127.0.0.1".parse::<StoreUrl>().unwrap_err().to_string();
/// assert!(error.starts_with("store URL: 'http://127.0.0.1' is none of tape://HOST:PORT, sqlite:PATH, memory:"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A tape-server at `host:port`.
    Server(String),
    /// A store in this process, by the URL that tape-store opens.
    Embedded(String),
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(authority) = text.strip_prefix(SERVER) {
            return server(authority).map(|authority| Self::Server(authority.to_owned()));
        }
        if text == "memory:" || text.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty()) {
            return Ok(Self::Embedded(text.to_owned()));
        }
        let mut databases = DATABASES.iter().filter(|(built, _)| *built);
        if databases.any(|(_, scheme)| text.starts_with(scheme)) {
            return Ok(Self::Embedded(text.to_owned()));
        }
        let shown = without_secrets(text);
        let databases = DATABASES.iter().filter(|(built, _)| *built);
        let databases: String = databases.map(|(_, scheme)| format!(", {scheme}...")).collect();
        let problem = format!("'{shown}' is none of tape://HOST:PORT, sqlite:PATH, memory:{databases}");
        Err(Error::invalid("store URL", problem))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(authority) => write!(f, "tape://{authority}"),
            Self::Embedded(url) => f.write_str(&without_secrets(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Databases that can hold a journal: whether this build supports each, and how its URLs begin.
const DATABASES: [(bool, &str); 5] = [
    (cfg!(feature = "postgres"), "postgres://"),
    (cfg!(feature = "postgres"), "postgresql://"),
    (cfg!(feature = "postgres"), "alloydb://"),
    (cfg!(feature = "bigtable"), "bigtable://"),
    (cfg!(feature = "spanner"), "spanner://"),
];

/// How the URL of a server begins.
const SERVER: &str = "tape://";

/// The address of a server, without a final slash: `HOST:PORT` and nothing else.
///
/// # Errors
/// [`Error::Invalid`] where it is not an address, such as one without a port or with a path.
pub(crate) fn server(authority: &str) -> Result<&str, Error> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let parts = authority.rsplit_once(':').filter(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let named = !host.is_empty() && (bracketed || !host.contains([':', '[', ']']));
        let other = |c: char| c.is_whitespace() || "/\\@?#".contains(c);
        let number = port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
        named && !host.contains(other) && number
    });
    parts.map(|_| authority).ok_or_else(|| {
        let shown = without_secrets(&format!("{SERVER}{authority}"));
        Error::invalid(
            "store URL",
            format!("'{shown}' is not of the form tape://HOST:PORT"),
        )
    })
}

/// The URL without the parts that may contain a password: user and parameters.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_host_and_a_port_and_nothing_else() {
        for url in [
            "tape://h:1",
            "tape://h:1/",
            "tape://10.0.0.1:7878",
            "tape://[::1]:7878",
        ] {
            let parsed = url.parse::<StoreUrl>().unwrap();
            assert_eq!(parsed.to_string(), url.trim_end_matches('/'));
        }
        for url in [
            "tape://db",
            "tape://db:",
            "tape://db:+1",
            "tape://db:65536",
            "tape://:7878",
            "tape://h:1/x",
            "tape://h/x:1",
            "tape://h:1//",
            "tape://::1:7878",
            "tape://h:1?a=b:1",
            "tape://ann:secret@h:1",
        ] {
            let error = url.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(
                error.contains("tape://HOST:PORT") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = StoreUrl::Embedded("postgres://ann:secret@db/tape?password=secret".to_owned());
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://db/tape StoreUrl(postgres://db/tape)"
        );
        let unknown = "postgress://ann:secret@db/tape"
            .parse::<StoreUrl>()
            .unwrap_err()
            .to_string();
        assert!(!unknown.contains("secret"), "{unknown}");
    }
}
