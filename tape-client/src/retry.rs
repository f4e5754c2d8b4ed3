//! Sending a request until it is answered: the same request, by its id, with jittered backoff, within a deadline.

use crate::backend::Failure;
use crate::error::Error;
use std::time::Duration;
use tape_core::id::RequestId;
use tokio::time::Instant;

/// The first wait between two tries.
const FIRST: Duration = Duration::from_millis(10);
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(2);

/// A new name for a request.
pub(crate) fn request_id() -> RequestId {
    RequestId::from_u128(rand::random())
}

/// Tries until there is an answer or a refusal, for at most `patience`. `send` repeats one request by its id, so a
/// lost answer is not a failure.
pub(crate) async fn until_answered<T, F>(patience: Duration, mut send: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failure>>,
{
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::default();
    loop {
        let failure = match tokio::time::timeout_at(deadline, send()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Retryable("there was no answer in time".into()),
        };
        let source = match failure {
            Failure::Retryable(source) => source,
            other => return Err(other.into()),
        };
        let wait = backoff.next();
        if Instant::now() + wait > deadline {
            return Err(Error::Unavailable { source });
        }
        tracing::debug!(error = %source, wait_ms = wait.as_millis(), "the journal did not answer; trying again");
        tokio::time::sleep(wait).await;
    }
}

/// Waits that double, each shortened by chance so that many clients do not come back at once.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(rand::random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_retryable_failure_is_tried_again_until_the_deadline() {
        let mut tries = 0;
        let outcome: Result<(), Error> = until_answered(Duration::from_secs(5), || {
            tries += 1;
            std::future::ready(Err(Failure::Retryable("down".into())))
        })
        .await;
        assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
        assert!(tries > 5, "{tries} tries");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_not_tried_again() {
        let mut tries = 0;
        let outcome: Result<(), Error> = until_answered(Duration::from_secs(5), || {
            tries += 1;
            std::future::ready(Err(Failure::Rejected(tape_core::reply::Rejection::NotFound {
                what: "run",
            })))
        })
        .await;
        assert!(matches!(outcome, Err(Error::Rejected(_))), "{outcome:?}");
        assert_eq!(tries, 1);
    }
}
