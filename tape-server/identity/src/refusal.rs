//! Why a token is not taken.

use crate::source::SourceError;
use std::sync::Arc;

/// Why a token is not taken. No text of it has any part of the token.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token is longer than [`TOKEN_BYTES_MAX`](crate::TOKEN_BYTES_MAX).
    #[error("the token has more than {max} bytes")]
    TooLong {
        /// The most bytes that a token may have.
        max: usize,
    },
    /// It is no signed JWT.
    #[error("what is shown is no signed JWT: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It is signed in another way than is allowed, or not at all.
    #[error("the token is signed by another algorithm than is allowed, or not at all")]
    Algorithm,
    /// The issuer has no key of its key id and algorithm.
    #[error("the token is signed by a key that is not one of the issuer's")]
    UnknownKey,
    /// The signature is not by the key that it names, or the token was changed.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It was issued for another audience.
    #[error("the token is for another audience")]
    Audience,
    /// It was issued by an issuer that is not allowed.
    #[error("the token is by another issuer")]
    Issuer,
    /// It is about another account than the expected one.
    #[error("the token is of another account")]
    Account,
    /// The issuer has not verified that the account has the address.
    #[error("the email address of the token is not verified")]
    EmailNotVerified,
    /// It lacks a claim.
    #[error("the token has no claim `{0}`")]
    Missing(Claim),
    /// A claim is not of the type that the specification asks for.
    #[error("the claim `{0}` of the token is of another type than is specified")]
    Invalid(Claim),
    /// Whether the token is good cannot be told, since the issuer's keys are not known. Trying again later may help.
    #[error("the keys of the issuer cannot be fetched")]
    KeysUnavailable(#[source] Arc<SourceError>),
}

/// A claim of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// `iss`, the issuer.
    Issuer,
    /// `sub`, the account, by the issuer's own id.
    Subject,
    /// `aud`, for whom the token is.
    Audience,
    /// `exp`, from when on it is no longer valid.
    Expiry,
    /// `nbf`, before when it is not valid.
    NotBefore,
    /// `iat`, when it was issued.
    IssuedAt,
    /// `email`, the account's address.
    Email,
    /// `email_verified`, whether the issuer has verified that address.
    EmailVerified,
}

impl Claim {
    /// Its name in a token.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issuer => "iss",
            Self::Subject => "sub",
            Self::Audience => "aud",
            Self::Expiry => "exp",
            Self::NotBefore => "nbf",
            Self::IssuedAt => "iat",
            Self::Email => "email",
            Self::EmailVerified => "email_verified",
        }
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
