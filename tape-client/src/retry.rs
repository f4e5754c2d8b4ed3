//! Sending a request until it is answered: the same request, by its id, with jittered backoff, within a deadline.
//!
//! A command that is refused for the age of its id when it is sent for the first time was not executed: it gets a new id and is
//! sent again. Once an earlier send may have arrived, the command keeps its id, and the journal's answer to that id is final.

use crate::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tape_api::JournalError;
use tape_api::Source;
use tape_api::backoff::Backoff;
use tape_core::command::Command;
use tape_core::id::RequestId;
use tape_core::reply::Rejection;
use tape_environment::Environment;
use tokio::time::Instant;

/// The first wait between two tries.
const FIRST: Duration = Duration::from_millis(10);
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(2);

/// Most new ids that one command gets because its id was refused.
const FRESH_IDS_MAX: u32 = 8;

/// Asks until there is an answer or a refusal, or no try is left. What is asked has no request id: a command goes through
/// [`until_executed`].
pub(crate) async fn until_answered<T, F>(mut tries: Tries, mut send: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, JournalError>>,
{
    loop {
        match tries.next(send()).await {
            Ok(answer) => return Ok(answer),
            Err(JournalError::Unavailable(source)) => tries.pause(source).await?,
            Err(other) => return Err(other.into()),
        }
    }
}

/// Sends a command until it is executed or refused, or no try is left. `fresh` makes new request ids.
pub(crate) async fn until_executed<B: Clone, T, F>(
    mut tries: Tries,
    mut command: Command<B>,
    fresh: impl Fn() -> RequestId,
    mut send: impl FnMut(Command<B>) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, JournalError>>,
{
    // Whether an earlier send may have arrived, and how many ids were refused that were sent once.
    let (mut doubtful, mut refused) = (false, 0);
    loop {
        match tries.next(send(command.clone())).await {
            Ok(reply) => return Ok(reply),
            Err(JournalError::Unavailable(source)) => {
                doubtful = true;
                tries.pause(source).await?;
            }
            Err(JournalError::Rejected(rejection)) if !doubtful && rejection.is_for_its_age() => {
                refused += 1;
                if refused > FRESH_IDS_MAX {
                    return Err(rejection.into());
                }
                command.request = fresh();
                if refused > 1 {
                    tries.pause(rejection.into()).await?;
                }
            }
            // The id was dated by another server's clock: this one takes it once its own has come so far.
            Err(JournalError::Rejected(rejection @ Rejection::RequestFromFuture { .. })) => {
                tries.pause(rejection.into()).await?;
            }
            Err(other) => return Err(other.into()),
        }
    }
}

/// Tries until a deadline.
pub(crate) struct Tries {
    deadline: Instant,
    backoff: Backoff,
    environment: Arc<dyn Environment>,
}

impl Tries {
    /// Tries from now on, for at most `retry_for`.
    pub(crate) fn within(retry_for: Duration, environment: Arc<dyn Environment>) -> Self {
        Self {
            deadline: Instant::now() + retry_for,
            backoff: backoff(),
            environment,
        }
    }

    async fn next<T>(&self, sent: impl Future<Output = Result<T, JournalError>>) -> Result<T, JournalError> {
        tokio::time::timeout_at(self.deadline, sent)
            .await
            .unwrap_or_else(|_| Err(JournalError::Unavailable("there was no answer in time".into())))
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where there is no time for one.
    async fn pause(&mut self, source: Source) -> Result<(), Error> {
        let wait = self.backoff.next(self.environment.chance());
        if Instant::now() + wait > self.deadline {
            return Err(Error::Unavailable { source });
        }
        tracing::debug!(error = %source, wait_ms = wait.as_millis(), "the journal did not answer; trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// The waits of this crate.
pub(crate) const fn backoff() -> Backoff {
    Backoff::new(FIRST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tape_core::id::RequestClock;
    use tape_core::reply::{Missing, Reply};
    use tape_core::time::Timestamp;
    use tape_environment::machine;

    fn tries() -> Tries {
        Tries::within(Duration::from_secs(5), machine())
    }

    #[tokio::test(start_paused = true)]
    async fn a_retryable_failure_is_tried_again_until_the_deadline() {
        let mut asked = 0;
        let outcome: Result<(), Error> = until_answered(tries(), || {
            asked += 1;
            std::future::ready(Err(JournalError::Unavailable("down".into())))
        })
        .await;
        assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
        assert!(asked > 5, "{asked} tries");
    }

    fn too_old(request: RequestId) -> JournalError {
        let now = Timestamp::from_micros(0).plus_millis(3_600_000);
        JournalError::Rejected(Rejection::RequestTooOld {
            request,
            forgotten: RequestId::new(now.minus_millis(1), 7),
            now,
        })
    }

    fn reply() -> Reply {
        Reply {
            seq: tape_core::id::Seq(1),
            result: tape_core::reply::ReplyResult::Recorded,
        }
    }

    /// The answer to one attempt: a reply, or a failure that may name the request's id.
    type Answer = Result<Reply, fn(RequestId) -> JournalError>;

    async fn executed(answers: Vec<Answer>) -> (Result<Reply, Error>, Vec<RequestId>) {
        let mut clock = RequestClock::default();
        let first = clock.next(Timestamp::from_micros(0), 1);
        let clock = Mutex::new(clock);
        let mut answers = answers.into_iter();
        let mut sent = Vec::new();
        let fresh = || clock.lock().unwrap().next(Timestamp::from_micros(0), 2);
        let command = Command::new(first, ());
        let outcome = until_executed(tries(), command, fresh, |command| {
            sent.push(command.request);
            let answer = answers
                .next()
                .unwrap()
                .map_err(|failure| failure(command.request));
            if let Err(JournalError::Rejected(rejection)) = &answer {
                clock.lock().unwrap().learn(Timestamp::from_micros(0), rejection);
            }
            std::future::ready(answer)
        })
        .await;
        (outcome, sent)
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_send_that_is_too_old_is_sent_again_under_a_new_id() {
        let (outcome, sent) = executed(vec![Err(too_old), Ok(reply())]).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(sent[1] > sent[0], "{sent:?}");
        assert_eq!(
            sent[1].made_at(),
            Some(Timestamp::from_micros(0).plus_millis(3_600_000)),
            "dated by the journal's clock"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_true_repeat_that_is_too_old_is_told_so() {
        let lost = |_| JournalError::Unavailable("the answer was lost".into());
        let (outcome, sent) = executed(vec![Err(lost), Err(too_old)]).await;
        let told = matches!(&outcome, Err(Error::Rejected(rejection)) if rejection.is_for_its_age());
        assert!(told, "{outcome:?}");
        assert_eq!(sent[0], sent[1], "a repeat keeps its id");
    }

    #[tokio::test(start_paused = true)]
    async fn a_true_repeat_from_the_future_waits_for_the_journal() {
        let lost = |_| JournalError::Unavailable("the answer was lost".into());
        let early = |request| {
            JournalError::Rejected(Rejection::RequestFromFuture {
                request,
                now: Timestamp::from_micros(0),
            })
        };
        let (outcome, sent) = executed(vec![Err(lost), Err(early), Err(early), Ok(reply())]).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(sent.iter().all(|request| *request == sent[0]), "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_is_not_tried_again() {
        let mut asked = 0;
        let outcome: Result<(), Error> = until_answered(tries(), || {
            asked += 1;
            std::future::ready(Err(JournalError::Rejected(Rejection::not_found(Missing::Run))))
        })
        .await;
        assert!(matches!(outcome, Err(Error::Rejected(_))), "{outcome:?}");
        assert_eq!(asked, 1);
    }
}
