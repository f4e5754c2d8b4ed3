//! A queue of Google Cloud Tasks: named tasks that send a request at a time.

use crate::google::{GoogleError, code, endpoint};
use google_cloud_gax::error::rpc::Code;
use google_cloud_tasks_v2::client::CloudTasks;
use google_cloud_tasks_v2::model::{HttpMethod, HttpRequest, OidcToken, Task};
use google_cloud_wkt::Timestamp as GoogleTime;
use std::time::Duration;
use tape_core::time::Timestamp;

/// A call to the queue that takes longer counts as lost.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest name of a task within its queue, in bytes.
const NAME_BYTES_MAX: usize = 500;

/// A queue of Cloud Tasks. Each call is sent once. Cheap to clone.
///
/// A task is named by its creator. While a task of a name is there, and for about an hour after it was delivered or deleted, no other of
/// that name is created (nine days in queues made from `queue.yaml`). So a creation whose answer was lost is simply repeated.
#[derive(Clone, Debug)]
pub struct TaskQueue {
    client: CloudTasks,
    /// `projects/PROJECT/locations/LOCATION/queues/QUEUE`.
    name: String,
}

/// Where the requests of tasks go, and who they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskTarget {
    /// A URL that begins with `http://` or `https://`.
    pub url: String,
    /// The identity that the requests show; none where they show none.
    pub identity: Option<TaskIdentity>,
}

/// The identity of requests: an OIDC token that Google signs for a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskIdentity {
    /// The account's email address. It is of the queue's project, and who creates tasks may act as it.
    pub service_account: String,
    /// The audience of the token; by default the URL.
    pub audience: Option<String>,
}

/// A task to create.
#[derive(Clone, Debug)]
pub(crate) struct NewTask<'a> {
    /// Its name within the queue.
    pub(crate) name: &'a str,
    /// When its request is sent; none for at once. At most 30 days ahead.
    pub(crate) at: Option<Timestamp>,
    pub(crate) target: &'a TaskTarget,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// The task is in the queue now.
    New,
    /// A task of that name is there, or was within about the last hour.
    Named,
}

impl TaskQueue {
    /// The queue `projects/PROJECT/locations/LOCATION/queues/QUEUE`, with the credentials that Google's libraries find. `emulator` is the
    /// host and port of an emulator, which is reached without credentials and without TLS.
    ///
    /// # Errors
    /// [`GoogleError::Invalid`] where that is no name of a queue, [`GoogleError::Unreached`] where the process has no credentials.
    pub async fn open(name: &str, emulator: Option<&str>) -> Result<Self, GoogleError> {
        check_name(name)?;
        let mut client = CloudTasks::builder().with_attempt_timeout(TIMEOUT);
        if let Some((endpoint, credentials)) = endpoint(emulator) {
            client = client.with_endpoint(endpoint).with_credentials(credentials);
        }
        let client = client.build().await;
        Ok(Self {
            client: client.map_err(|error| GoogleError::Unreached(error.to_string()))?,
            name: name.to_owned(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn create(&self, new: &NewTask<'_>) -> Result<Created, GoogleError> {
        let task = self.task(new)?;
        let creation = self.client.create_task().set_parent(&self.name).set_task(task);
        match creation.send().await {
            Ok(_) => Ok(Created::New),
            Err(error) if code(&error) == Some(Code::AlreadyExists) => Ok(Created::Named),
            Err(error) => Err(GoogleError::of(&error)),
        }
    }

    /// Whether a task is in the queue.
    pub(crate) async fn has(&self, name: &str) -> Result<bool, GoogleError> {
        match self.client.get_task().set_name(self.full_name(name)).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(Code::NotFound) => Ok(false),
            Err(error) => Err(GoogleError::of(&error)),
        }
    }

    /// Deletes a task. One that is not there counts as deleted.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), GoogleError> {
        match self
            .client
            .delete_task()
            .set_name(self.full_name(name))
            .send()
            .await
        {
            Ok(()) => Ok(()),
            Err(error) if code(&error) == Some(Code::NotFound) => Ok(()),
            Err(error) => Err(GoogleError::of(&error)),
        }
    }

    fn task(&self, new: &NewTask<'_>) -> Result<Task, GoogleError> {
        let mut request = HttpRequest::new()
            .set_url(&new.target.url)
            .set_http_method(HttpMethod::Post)
            .set_headers(new.headers.clone())
            .set_body(new.body.clone());
        if let Some(TaskIdentity {
            service_account,
            audience,
        }) = &new.target.identity
        {
            let token = OidcToken::new()
                .set_service_account_email(service_account)
                .set_audience(audience.as_ref().unwrap_or(&new.target.url));
            request = request.set_oidc_token(token);
        }
        let task = Task::new()
            .set_name(self.full_name(new.name))
            .set_http_request(request);
        Ok(match new.at {
            Some(at) => task.set_schedule_time(google_time(at)?),
            None => task,
        })
    }

    fn full_name(&self, name: &str) -> String {
        debug_assert!(name.len() <= NAME_BYTES_MAX, "the names of this crate are short");
        format!("{}/tasks/{name}", self.name)
    }
}

fn check_name(name: &str) -> Result<(), GoogleError> {
    let parts: Vec<&str> = name.split('/').collect();
    let fits = matches!(parts[..], ["projects", project, "locations", location, "queues", queue]
        if [project, location, queue].iter().all(|part| !part.is_empty()));
    let form = "is no name of a queue, such as `projects/PROJECT/locations/LOCATION/queues/QUEUE`";
    fits.then_some(())
        .ok_or_else(|| GoogleError::Invalid(form.to_owned()))
}

fn google_time(at: Timestamp) -> Result<GoogleTime, GoogleError> {
    const SECOND: i64 = 1_000_000;
    let micros = at.as_micros();
    let nanos = i32::try_from(micros.rem_euclid(SECOND) * 1_000).expect("less than a second");
    GoogleTime::new(micros.div_euclid(SECOND), nanos)
        .map_err(|error| GoogleError::Invalid(format!("no task can be scheduled at {at}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{check_name, google_time};
    use tape_core::time::Timestamp;

    #[test]
    fn a_queue_is_named_in_full() {
        assert!(check_name("projects/p/locations/europe-west1/queues/timers").is_ok());
        for wrong in [
            "",
            "timers",
            "projects/p/queues/timers",
            "projects/p/locations//queues/timers",
            "projects/p/locations/l/queues/q/tasks/t",
        ] {
            assert!(check_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_exact_to_the_microsecond_before_1970_too() {
        for (micros, seconds, nanos) in [(0, 0, 0), (1_500_001, 1, 500_001_000), (-1, -1, 999_999_000)] {
            let time = google_time(Timestamp::from_micros(micros)).unwrap();
            assert_eq!((time.seconds(), time.nanos()), (seconds, nanos));
        }
        assert!(google_time(Timestamp::MAX).is_err());
    }
}
