//! The connection to the database: every request goes through here, with its deadline.

use super::error::Failure;
use super::settings::{Settings, Target};
use crate::error::StoreError;
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::options::RequestOptions;
use google_cloud_gax::retry_policy::{NeverRetry, RetryPolicyExt as _};
use google_cloud_spanner::builder::SpannerBuilderExt as _;
use google_cloud_spanner::channel_pool::StaticChannelPoolConfig;
use google_cloud_spanner::client::{DatabaseClient, Spanner};
use google_cloud_spanner::mutation::Mutation;
use google_cloud_spanner::read::ReadRequest;
use google_cloud_spanner::result::Row;
use google_cloud_spanner::retry_policy::SpannerRetryPolicy;
use google_cloud_spanner::statement::Statement;
use google_cloud_spanner::transaction::{
    BasicTransactionRetryPolicy, BeginTransactionOption, TimestampBound,
};
use google_cloud_spanner::value::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes of entries after which a page takes no further one.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Connections to an emulator, which gains nothing from more.
const EMULATOR_CHANNELS: usize = 1;

#[derive(Clone, Debug)]
pub(super) struct Link {
    client: DatabaseClient,
    settings: Settings,
    /// Room for commits under way.
    room: Arc<Semaphore>,
}

/// What is read.
pub(super) enum Question {
    Query(Statement),
    Keys(ReadRequest),
}

impl Link {
    pub(super) async fn open(target: &Target) -> Result<Self, StoreError> {
        use_ring();
        let connected = timeout(target.settings.read_timeout, Box::pin(connect(target))).await;
        let client = connected
            .unwrap_or(Err(Failure::Silent(target.settings.read_timeout)))
            .map_err(|failure| failure.store_error("opens the database"))?;
        Ok(Self {
            client,
            room: Arc::new(Semaphore::new(target.settings.commits_under_way)),
            settings: target.settings.clone(),
        })
    }

    /// How many commits are under way at most.
    pub(super) fn commits_at_once(&self) -> u16 {
        u16::try_from(self.settings.commits_under_way).unwrap_or(u16::MAX)
    }

    /// Commits mutations as one transaction, by one request unless Spanner aborts it. A request whose answer is lost is not repeated.
    pub(super) async fn write(&self, mutations: Vec<Mutation>) -> Result<(), Failure> {
        let limit = self.settings.commit_timeout;
        let room = timeout(limit, self.room.acquire())
            .await
            .map_err(|_| Failure::Busy(limit))?;
        let _room = room.expect("room for commits is never closed");
        let transaction = self
            .client
            .write_only_transaction()
            .with_retry_policy(BasicTransactionRetryPolicy::new().with_total_timeout(limit))
            .with_commit_retry_policy(NeverRetry)
            .with_commit_attempt_timeout(limit)
            .build();
        let written = timeout(limit, Box::pin(transaction.write_at_least_once(mutations))).await;
        written.map_err(|_| Failure::Silent(limit))??;
        Ok(())
    }

    /// What is committed, by rows.
    pub(super) async fn ask<T>(
        &self,
        doing: &'static str,
        question: Question,
        row: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.page(doing, question, |_| 0, row).await
    }

    /// The same, up to [`PAGE_BYTES_MAX`] and the row that goes over.
    pub(super) async fn page<T>(
        &self,
        doing: &'static str,
        question: Question,
        size: impl Fn(&T) -> usize,
        row: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let strong = TimestampBound::strong();
        // The future of a read is large; callers should not have to hold it.
        let read = Box::pin(self.read(strong, question, size, row));
        let read = timeout(self.settings.read_timeout, read).await;
        read.unwrap_or(Err(Failure::Silent(self.settings.read_timeout)))
            .map_err(|failure| failure.store_error(doing))?
    }

    /// Reads data that may be stale by up to `staleness`, for callers to whom a fresh answer is not worth the round trip to the leader.
    pub(super) async fn ask_stale<T>(
        &self,
        staleness: Duration,
        question: Question,
        row: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let bound = TimestampBound::max_staleness(staleness);
        let read = timeout(
            self.settings.read_timeout,
            Box::pin(self.read(bound, question, |_| 0, row)),
        )
        .await;
        read.unwrap_or(Err(Failure::Silent(self.settings.read_timeout)))
            .map_err(|failure| failure.store_error("looks for commits"))?
    }

    async fn read<T>(
        &self,
        bound: TimestampBound,
        question: Question,
        size: impl Fn(&T) -> usize,
        mut row: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Result<Vec<T>, StoreError>, Failure> {
        let transaction = self.client.single_use().set_timestamp_bound(bound).build();
        let mut rows = match question {
            Question::Query(statement) => transaction.execute_query(statement).await?,
            Question::Keys(request) => transaction.execute_read(request).await?,
        };
        let (mut read, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES_MAX {
            let Some(next) = rows.next().await.transpose()? else {
                break;
            };
            match row(&next) {
                Ok(value) => {
                    bytes += size(&value);
                    read.push(value);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(read))
    }

    /// A time with all present commits at or before it, and all later commits after it.
    pub(super) async fn now(&self, doing: &'static str) -> Result<Timestamp, StoreError> {
        let begun = self
            .client
            .read_only_transaction()
            .set_begin_transaction_option(BeginTransactionOption::ExplicitBegin)
            .build();
        let limit = self.settings.read_timeout;
        let begun = timeout(limit, Box::pin(begun))
            .await
            .map_err(|_| Failure::Silent(limit));
        let begun = begun.and_then(|begun| Ok(begun?));
        let begun = begun.map_err(|failure| failure.store_error(doing))?;
        let missing = || StoreError::unavailable(doing, "Spanner began to read and did not say as of when");
        begun.read_timestamp().ok_or_else(missing)
    }
}

/// The libraries underneath take the TLS of the process, and panic where there is none. A TLS provider that is already set stays.
pub(super) fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn connect(target: &Target) -> Result<DatabaseClient, Failure> {
    let mut builder = Spanner::builder();
    if let Some(emulator) = &target.emulator {
        builder = builder
            .with_endpoint(emulator.grpc.as_str())
            .with_credentials(anonymous::Builder::new().build())
            .with_channel_pool(StaticChannelPoolConfig::new(EMULATOR_CHANNELS));
    }
    let spanner = builder.build().await.map_err(Failure::Client)?;
    // The client also makes sessions again in the background, so this is bounded.
    let mut options = RequestOptions::default();
    let limit = target.settings.read_timeout;
    options.set_attempt_timeout(limit);
    options.set_retry_policy(SpannerRetryPolicy::new().with_time_limit(limit));
    let client = spanner
        .database_client(&target.database)
        .with_request_options(options);
    Ok(client.build().await?)
}
