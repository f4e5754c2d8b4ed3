//! The claims of a token, checked one by one.

use crate::expected::Expected;
use crate::refusal::{Claim, Refusal};
use crate::verifier::Identity;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tape_core::time::Timestamp;
use tape_environment::micros;

/// The claims as they stand in a token whose signature is right. Values of other types than specified are refused claim by claim, so that
/// the refusal names the claim.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    email: Option<Value>,
    email_verified: Option<Value>,
}

impl Claims {
    /// Whom the token is about, if it says all that is expected.
    pub(crate) fn check(&self, expected: &Expected, now: Timestamp) -> Result<Identity, Refusal> {
        let expires = self.check_times(expected.leeway, now)?;
        let issuer = required(Claim::Issuer, text(Claim::Issuer, self.iss.as_ref())?)?;
        if !expected.issuers.contains(&issuer) {
            return Err(Refusal::Issuer);
        }
        let audience = self.audience(&expected.audiences)?;
        let email = self.email(expected.account.as_deref())?;
        Ok(Identity {
            issuer,
            subject: required(Claim::Subject, text(Claim::Subject, self.sub.as_ref())?)?,
            audience,
            email,
            expires,
        })
    }

    /// When the token expires, if it is valid now.
    fn check_times(&self, leeway: Duration, now: Timestamp) -> Result<Timestamp, Refusal> {
        let time = |claim, value: &Option<Value>| value.as_ref().map(|value| time(claim, value)).transpose();
        let expires = required(Claim::Expiry, time(Claim::Expiry, &self.exp)?)?;
        let leeway = micros(leeway);
        if expires.as_micros().saturating_add(leeway) <= now.as_micros() {
            return Err(Refusal::Expired);
        }
        // A token of the future is one of an issuer whose clock is not to be trusted with the expiry either.
        let not_before = time(Claim::NotBefore, &self.nbf)?;
        let issued = time(Claim::IssuedAt, &self.iat)?;
        for begins in [not_before, issued].into_iter().flatten() {
            if begins.as_micros() > now.as_micros().saturating_add(leeway) {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(expires)
    }

    /// The audience that is expected, of those of the token.
    fn audience(&self, expected: &[String]) -> Result<String, Refusal> {
        let audience = required(Claim::Audience, self.aud.as_ref())?;
        let all = match audience {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut found = None;
        for one in all {
            let one = one.as_str().ok_or(Refusal::Invalid(Claim::Audience))?;
            found = found.or_else(|| expected.iter().find(|expected| *expected == one));
        }
        found.cloned().ok_or(Refusal::Audience)
    }

    /// The address that the issuer has verified. Where an account is expected, it must be that one's.
    fn email(&self, account: Option<&str>) -> Result<Option<String>, Refusal> {
        let email = text(Claim::Email, self.email.as_ref())?;
        let verified = match &self.email_verified {
            None => None,
            Some(Value::Bool(verified)) => Some(*verified),
            Some(_) => return Err(Refusal::Invalid(Claim::EmailVerified)),
        };
        if let Some(account) = account {
            let email = required(Claim::Email, email.as_deref())?;
            if !required(Claim::EmailVerified, verified)? {
                return Err(Refusal::EmailNotVerified);
            }
            if email != account {
                return Err(Refusal::Account);
            }
        }
        Ok(email.filter(|_| verified == Some(true)))
    }
}

fn required<T>(claim: Claim, value: Option<T>) -> Result<T, Refusal> {
    value.ok_or(Refusal::Missing(claim))
}

fn text(claim: Claim, value: Option<&Value>) -> Result<Option<String>, Refusal> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::Invalid(claim)),
    }
}

/// Seconds since 1970, which may have a fraction.
fn time(claim: Claim, value: &Value) -> Result<Timestamp, Refusal> {
    let seconds = value.as_f64().ok_or(Refusal::Invalid(claim))?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| Refusal::Invalid(claim))?;
    Ok(Timestamp::from_micros(micros(since)))
}
