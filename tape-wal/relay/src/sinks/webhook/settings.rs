//! Where a webhook posts, and how.

use super::Secret;
use reqwest::Url;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Most secrets that sign at once: the new one and the old one while they are rotated, and some more.
pub const SECRETS_MAX: usize = 4;
/// How long an endpoint may take for one event, unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest time that an endpoint may be given for one event.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Streams whose events are posted at once, by all parts of a relay in a process together, unless told otherwise.
pub const DEFAULT_CONCURRENCY: usize = 8;
/// Most streams whose events are posted at once.
pub const CONCURRENCY_MAX: usize = 64;
/// After how long of nothing but failures a relay gives an endpoint up, unless its [settings](crate::Settings::disable_after) say another
/// time. The relay records since when its sink fails, so that a restart does not begin to count anew.
pub const DEFAULT_DISABLED_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// The statuses that refuse an event for good, unless told otherwise: too large, and not to be processed. Others, `400` among them, are also
/// what endpoints answer to a signature by a secret that was rotated, which is no reason to give up an event.
const DEFAULT_REFUSED: [u16; 2] = [413, 422];
/// The statuses that may refuse an event for good. The others in 4xx say that the request may be right another time, or for another caller.
const REFUSABLE: [u16; 9] = [400, 405, 406, 409, 411, 413, 414, 415, 422];

/// Where a webhook posts, and how. Shown, it has the host of the URL alone.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    url: Url,
    secrets: Vec<Secret>,
    timeout: Duration,
    concurrency: usize,
    refused: BTreeSet<u16>,
}

/// Why there can be no such webhook. No text repeats the URL or a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidWebhook {
    /// The URL cannot be posted to.
    #[error(
        "the URL of the webhook must begin with https:// and a host, and have no user, password or fragment"
    )]
    Url,
    /// The URL has no TLS.
    #[error(
        "the URL of the webhook has no TLS: use https://, or say `insecure` where the network is trusted"
    )]
    Insecure,
    /// There are no secrets, or too many.
    #[error("a webhook signs with 1 to {SECRETS_MAX} secrets, not {found}")]
    Secrets {
        /// Their number.
        found: usize,
    },
    /// The time limit is zero or too long.
    #[error("the time limit of the webhook must be from 1 ms to {} s", TIMEOUT_MAX.as_secs())]
    Timeout,
    /// No streams at once, or too many.
    #[error("a webhook posts events of 1 to {CONCURRENCY_MAX} streams at once, not {found}")]
    Concurrency {
        /// Their number.
        found: usize,
    },
    /// A status cannot mean that an event is refused.
    #[error("the status {status} cannot refuse an event for good, only {REFUSABLE:?} can")]
    Refused {
        /// The status.
        status: u16,
    },
    /// No HTTP client could be made.
    #[error("no HTTP client: {problem}")]
    NoClient {
        /// What is wrong.
        problem: String,
    },
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("host", &self.url.host_str().unwrap_or_default())
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

impl WebhookSettings {
    /// A webhook at a URL whose requests every one of `secrets` signs. The operator names the URL, so that it may be in a private network.
    /// It must have TLS, unless its host is this machine (`localhost`, `127.0.0.0/8`, `::1`) or `insecure` is set.
    ///
    /// # Errors
    /// [`InvalidWebhook`] says what is wrong.
    pub fn new(url: &str, secrets: Vec<Secret>, insecure: bool) -> Result<Self, InvalidWebhook> {
        let url = Url::parse(url).map_err(|_| InvalidWebhook::Url)?;
        let plain = url.scheme() == "http";
        let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if !url.has_host() || !bare || !(plain || url.scheme() == "https") {
            return Err(InvalidWebhook::Url);
        }
        if plain && !insecure && !is_this_machine(&url) {
            return Err(InvalidWebhook::Insecure);
        }
        if !(1..=SECRETS_MAX).contains(&secrets.len()) {
            let found = secrets.len();
            return Err(InvalidWebhook::Secrets { found });
        }
        Ok(Self {
            url,
            secrets,
            timeout: DEFAULT_TIMEOUT,
            concurrency: DEFAULT_CONCURRENCY,
            refused: DEFAULT_REFUSED.into(),
        })
    }

    /// The same with another time limit for one event, from the connection to the answer.
    ///
    /// # Errors
    /// [`InvalidWebhook::Timeout`] where it is zero or above [`TIMEOUT_MAX`].
    pub fn with_timeout(self, timeout: Duration) -> Result<Self, InvalidWebhook> {
        if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
            return Err(InvalidWebhook::Timeout);
        }
        Ok(Self { timeout, ..self })
    }

    /// The same with events of another number of streams posted at once, by all calls of the sink together.
    ///
    /// # Errors
    /// [`InvalidWebhook::Concurrency`] where it is zero or above [`CONCURRENCY_MAX`].
    pub fn with_concurrency(self, concurrency: usize) -> Result<Self, InvalidWebhook> {
        if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
            return Err(InvalidWebhook::Concurrency { found: concurrency });
        }
        Ok(Self { concurrency, ..self })
    }

    /// The same with other statuses that refuse an event for good. None is allowed.
    ///
    /// # Errors
    /// [`InvalidWebhook::Refused`] where a status says nothing of the event itself.
    pub fn with_refused(self, statuses: &[u16]) -> Result<Self, InvalidWebhook> {
        let other = statuses.iter().find(|status| !REFUSABLE.contains(status));
        if let Some(&status) = other {
            return Err(InvalidWebhook::Refused { status });
        }
        let refused = statuses.iter().copied().collect();
        Ok(Self { refused, ..self })
    }

    pub(super) fn url(&self) -> Url {
        self.url.clone()
    }

    pub(super) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) const fn concurrency(&self) -> usize {
        self.concurrency
    }

    pub(super) const fn refused(&self) -> &BTreeSet<u16> {
        &self.refused
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
