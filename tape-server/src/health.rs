//! The health of the server: it takes calls while its store would take a commit and it knows the time of the journal.
//!
//! The store is probed periodically, and at once when a call to it failed.

use crate::service::Context;
use async_trait::async_trait;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tape_core::causes::Causes;
use tape_core::id::StreamId;
use tape_core::outage::Outage;
use tape_engine::Engine;
use tape_proto::v1;
use tape_store::contract::{Batch, Committed, Head, JournalStore};
use tape_store::error::{CommitError, StoreError};
use tape_store::layer::Layer;
use tokio::sync::Notify;
use tonic::server::NamedService;
use tonic_health::server::HealthReporter;

/// How often a healthy store is probed.
const WELL_EVERY: Duration = Duration::from_secs(5);
/// How often an unhealthy store is probed.
const UNWELL_EVERY: Duration = Duration::from_secs(1);
/// A store that takes longer to answer counts as unhealthy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often the log repeats that the store takes no commits.
const COMMITS_AGAIN: Duration = Duration::from_secs(60);

/// A signal to probe the store. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubt(Arc<Notify>);

/// A store that triggers a probe where a call fails. While it takes no commits the log says so, once and then rarely, whatever it answers
/// to probes.
pub(crate) struct HealthTracked {
    inner: Arc<dyn JournalStore>,
    doubt: Doubt,
    commits: Mutex<Outage>,
}

impl HealthTracked {
    pub(crate) fn new(inner: Arc<dyn JournalStore>, doubt: &Doubt) -> Self {
        Self {
            inner,
            doubt: doubt.clone(),
            commits: Mutex::new(Outage::new(COMMITS_AGAIN)),
        }
    }

    /// Records the results of commits.
    fn note(&self, answers: &[Result<Committed, CommitError>]) {
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let now = std::time::Instant::now();
        if let Some(problem) = answers.iter().find_map(fault) {
            if let Some(spell) = commits.lost(now, &problem) {
                tracing::error!(%problem, %spell, "the store takes no commits");
            }
        } else if answers.iter().any(Result::is_ok)
            && let Some(spell) = commits.back(now)
        {
            tracing::info!(%spell, "the store takes commits again");
        }
    }
}

/// Why a batch was not committed, where the batch is not the reason.
fn fault(answer: &Result<Committed, CommitError>) -> Option<String> {
    match answer {
        Err(CommitError::Store(StoreError::Invalid { .. })) => None,
        Err(CommitError::Store(error)) => Some(Causes(error).to_string()),
        // The id of the batch differs each time.
        Err(CommitError::OutcomeUnknown { source, .. }) => Some(Causes(source.as_ref()).to_string()),
        _ => None,
    }
}

#[async_trait]
impl Layer for HealthTracked {
    fn inner(&self) -> &dyn JournalStore {
        self.inner.as_ref()
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<Head>, StoreError> {
        let head = self.inner.head(stream).await;
        if matches!(
            head,
            Err(StoreError::Unavailable { .. } | StoreError::Poisoned { .. })
        ) {
            self.doubt.0.notify_one();
        }
        head
    }

    async fn commit(&self, batches: Vec<Batch>) -> Vec<Result<Committed, CommitError>> {
        let answers = self.inner.commit(batches).await;
        if answers.iter().any(|answer| fault(answer).is_some()) {
            self.doubt.0.notify_one();
        }
        self.note(&answers);
        answers
    }
}

/// The answers to health checks.
pub(crate) struct Health(HealthReporter);

impl Health {
    /// The server takes calls.
    pub(crate) async fn new(reporter: HealthReporter) -> Self {
        let health = Self(reporter);
        health.set(true).await;
        health
    }

    /// Sets for the server as a whole and for each service whether it takes calls.
    pub(crate) async fn set(&self, serving: bool) {
        use tonic_health::ServingStatus::{NotServing, Serving};
        let status = if serving { Serving } else { NotServing };
        let services = [
            "",
            <v1::run_service_server::RunServiceServer<Context> as NamedService>::NAME,
            <v1::session_service_server::SessionServiceServer<Context> as NamedService>::NAME,
            <v1::value_service_server::ValueServiceServer<Context> as NamedService>::NAME,
            <v1::relay_service_server::RelayServiceServer<Context> as NamedService>::NAME,
            <v1::feed_service_server::FeedServiceServer<Context> as NamedService>::NAME,
            <v1::stream_service_server::StreamServiceServer<Context> as NamedService>::NAME,
            <v1::work_service_server::WorkServiceServer<Context> as NamedService>::NAME,
            <v1::server_service_server::ServerServiceServer<Context> as NamedService>::NAME,
            <v1::retention_service_server::RetentionServiceServer<Context> as NamedService>::NAME,
        ];
        for service in services {
            self.0.set_service_status(service, status).await;
        }
    }

    /// Follows the health of the store.
    pub(crate) async fn follow(&self, engine: &Engine, doubt: &Doubt) -> Infallible {
        let mut well = true;
        loop {
            let problem = problem(engine).await;
            if well != problem.is_none() {
                well = problem.is_none();
                match problem {
                    Some(problem) => tracing::error!(%problem, "not ready"),
                    None => tracing::info!("ready again"),
                }
                self.set(well).await;
            }
            let again = if well { WELL_EVERY } else { UNWELL_EVERY };
            tokio::select! {
                // A doubt is taken up by the look that follows, and causes no other.
                biased;
                () = doubt.0.notified(), if well => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }
}

/// Why the server is not ready, if it is not: the store would take no commit, or the time of the journal is unknown here.
async fn problem(engine: &Engine) -> Option<String> {
    match tokio::time::timeout(TIMEOUT, engine.store().probe()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Some(format!("the store would take no commit: {}", Causes(&error))),
        Err(_) => return Some(format!("the store has not answered within {TIMEOUT:?}")),
    }
    match engine.read_clock().await {
        Ok(now) => (!now.is_sure()).then(|| "the time of the journal is not known well enough".to_owned()),
        Err(error) => Some(format!(
            "the time of the journal is not known: {}",
            Causes(&error)
        )),
    }
}
