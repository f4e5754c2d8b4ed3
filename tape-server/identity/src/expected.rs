//! What a token has to say.

use crate::algorithm::Algorithm;
use std::time::Duration;

/// The longest leeway: clocks that differ by more are to be set, not tolerated.
pub const LEEWAY_MAX: Duration = Duration::from_mins(5);

/// Clocks of issuers and of this machine may differ by this much, where nothing else is said.
const LEEWAY: Duration = Duration::from_secs(30);

/// What a token has to say to be taken.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(crate) issuers: Vec<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) account: Option<String>,
    pub(crate) leeway: Duration,
}

impl Expected {
    /// Tokens of one of these issuers for one of these audiences, each exactly as written. Without any, no token is taken. They may be
    /// signed by any [`Algorithm`], be about any account, and clocks may differ by 30 s.
    #[must_use]
    pub fn new<I: Into<String>, A: Into<String>>(
        issuers: impl IntoIterator<Item = I>,
        audiences: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            issuers: issuers.into_iter().map(Into::into).collect(),
            audiences: audiences.into_iter().map(Into::into).collect(),
            algorithms: Algorithm::ALL.to_vec(),
            account: None,
            leeway: LEEWAY,
        }
    }

    /// Tokens of Google: of service accounts, of Pub/Sub, Cloud Tasks and Cloud Scheduler. Their keys are at
    /// [`JwksUrl::GOOGLE`](crate::JwksUrl::GOOGLE).
    #[must_use]
    pub fn of_google<A: Into<String>>(audiences: impl IntoIterator<Item = A>) -> Self {
        // Google writes its name in both ways.
        let issuers = ["https://accounts.google.com", "accounts.google.com"];
        Self::new(issuers, audiences).signed_by([Algorithm::Rs256])
    }

    /// Only tokens signed by one of these.
    #[must_use]
    pub fn signed_by(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Only tokens of the account with this email address, exactly as written, which the issuer has verified.
    #[must_use]
    pub fn of_account(mut self, email: impl Into<String>) -> Self {
        self.account = Some(email.into());
        self
    }

    /// How much the issuer's clock and this machine's may differ, [`LEEWAY_MAX`] at most.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(LEEWAY_MAX);
        self
    }
}
