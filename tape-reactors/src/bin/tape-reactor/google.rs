//! Upstreams and timers on Google Cloud, as the configuration says.

use crate::config::Misconfigured;
#[cfg(feature = "cloud-tasks")]
use crate::waking::Pushed;
use serde::Deserialize;
#[cfg(feature = "cloud-tasks")]
use std::time::Duration;
use tape_reactors::HttpAnswers;

/// A topic of Pub/Sub whose subscriber is the upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(feature = "pubsub"),
    expect(dead_code, reason = "no other build reads it")
)]
pub(crate) struct PubsubEntry {
    /// `projects/PROJECT/topics/TOPIC`.
    pub(crate) topic: String,
    /// The host and port of an emulator.
    pub(crate) emulator: Option<String>,
    /// Where the subscriber is asked; it settles effects by itself where that is not set.
    pub(crate) answers: Option<HttpAnswers>,
}

/// A queue of Cloud Tasks whose tasks call the upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(feature = "cloud-tasks"),
    expect(dead_code, reason = "no other build reads it")
)]
pub(crate) struct CloudTasksEntry {
    /// `projects/PROJECT/locations/LOCATION/queues/QUEUE`.
    pub(crate) queue: String,
    /// Where tasks send their requests.
    pub(crate) url: String,
    /// The service account whose token the requests show.
    pub(crate) service_account: Option<String>,
    /// The audience of the token, if it is not the URL.
    pub(crate) audience: Option<String>,
    /// The host and port of an emulator.
    pub(crate) emulator: Option<String>,
    /// Where the subscriber is asked; it settles effects by itself where that is not set.
    pub(crate) answers: Option<HttpAnswers>,
}

/// What wakes timers beside the sweep.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimersEntry {
    pub(crate) cloud_tasks: Option<TimerTasksEntry>,
}

/// A queue of Cloud Tasks whose tasks wake timers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(feature = "cloud-tasks"),
    expect(dead_code, reason = "no other build reads it")
)]
pub(crate) struct TimerTasksEntry {
    /// `projects/PROJECT/locations/LOCATION/queues/QUEUE`.
    pub(crate) queue: String,
    /// The endpoint that wakes the timers.
    pub(crate) url: String,
    /// The host and port of an emulator.
    pub(crate) emulator: Option<String>,
    /// The timers are woken this often, whatever gets lost.
    pub(crate) sweep_ms: Option<u64>,
}

/// The error for a setting that this build cannot serve.
#[cfg(not(all(feature = "cloud-tasks", feature = "pubsub")))]
pub(crate) fn not_built(key: String, feature: &str) -> Misconfigured {
    Misconfigured::Invalid {
        key,
        problem: format!("needs a program that is built with the feature `{feature}`"),
    }
}

/// The error for a place of Google Cloud that cannot be used.
#[cfg(any(feature = "cloud-tasks", feature = "pubsub"))]
pub(crate) fn unusable(key: String, error: tape_reactors::GoogleError) -> Misconfigured {
    match error {
        tape_reactors::GoogleError::Invalid(problem) => Misconfigured::Invalid { key, problem },
        error => Misconfigured::Invalid {
            key,
            problem: format!("is out of reach: {error}"),
        },
    }
}

/// Refuses a URL that no task can send a request to.
#[cfg(feature = "cloud-tasks")]
fn check_url(key: &str, url: &str) -> Result<(), Misconfigured> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(());
    }
    Err(Misconfigured::Invalid {
        key: format!("{key}.url"),
        problem: "is no URL that begins with `http://` or `https://`".to_owned(),
    })
}

#[cfg(feature = "cloud-tasks")]
impl CloudTasksEntry {
    /// The queue and the target of its tasks. `of` is the key that the entry stands under.
    pub(crate) async fn open(
        &self,
        of: &str,
    ) -> Result<(tape_reactors::TaskQueue, tape_reactors::TaskTarget), Misconfigured> {
        check_url(of, &self.url)?;
        let identity = self
            .service_account
            .as_ref()
            .map(|account| tape_reactors::TaskIdentity {
                service_account: account.clone(),
                audience: self.audience.clone(),
            });
        let target = tape_reactors::TaskTarget {
            url: self.url.clone(),
            identity,
        };
        let queue = tape_reactors::TaskQueue::open(&self.queue, self.emulator.as_deref()).await;
        let queue = queue.map_err(|error| unusable(format!("{of}.queue"), error))?;
        Ok((queue, target))
    }
}

impl TimerTasksEntry {
    /// How often the timers are woken, whatever gets lost: every ten minutes, unless it says otherwise.
    #[cfg(feature = "cloud-tasks")]
    pub(crate) fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms.unwrap_or(600_000))
    }

    /// What arms the tasks. Their requests show a token of the account and for the audience that the program takes at its endpoint.
    #[cfg(feature = "cloud-tasks")]
    pub(crate) async fn open(
        &self,
        pushed: Pushed<'_>,
    ) -> Result<(tape_reactors::TaskQueue, tape_reactors::TaskTarget), Misconfigured> {
        let of = "timers.cloud_tasks";
        check_url(of, &self.url)?;
        let target = tape_reactors::TaskTarget {
            url: self.url.clone(),
            identity: Some(tape_reactors::TaskIdentity {
                service_account: pushed.account.to_owned(),
                audience: Some(pushed.audience.to_owned()),
            }),
        };
        let queue = tape_reactors::TaskQueue::open(&self.queue, self.emulator.as_deref()).await;
        let queue = queue.map_err(|error| unusable(format!("{of}.queue"), error))?;
        Ok((queue, target))
    }
}
