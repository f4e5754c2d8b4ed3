//! Where a journal is.

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
/// assert_eq!(error, "store URL: 'http://127.0.0.1' is none of tape://HOST:PORT, sqlite:PATH, memory:");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A tape-server at `host:port`.
    Server(String),
    /// A store in this process, by the URL that tape-store opens.
    Embedded(String),
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(authority) = text.strip_prefix("tape://") {
            let authority = authority.trim_end_matches('/');
            let port = authority.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            return match port {
                Some(Ok(_)) => Ok(Self::Server(authority.to_owned())),
                _ => Err(Error::invalid(
                    "store URL",
                    format!("'{text}' is not of the form tape://HOST:PORT"),
                )),
            };
        }
        if text == "memory:" || text.strip_prefix("sqlite:").is_some_and(|path| !path.is_empty()) {
            return Ok(Self::Embedded(text.to_owned()));
        }
        let problem = format!("'{text}' is none of tape://HOST:PORT, sqlite:PATH, memory:");
        Err(Error::invalid("store URL", problem))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(authority) => write!(f, "tape://{authority}"),
            Self::Embedded(url) => f.write_str(url),
        }
    }
}
