//! Retries an operation until it works.

use anyhow::Result;
use std::time::Duration;

/// Most tries in a row.
const TRIES_MAX: usize = 40;
/// The time between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// Tries as often as it takes, up to a limit: in a scenario, a process is often unavailable for a moment.
///
/// # Errors
/// That of the last try.
pub async fn until_it_works<T, F: Future<Output = Result<T>>>(what: impl Fn() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match what().await {
            Err(_) if tries < TRIES_MAX => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
        tries += 1;
    }
}
