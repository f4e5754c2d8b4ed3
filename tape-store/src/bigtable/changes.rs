//! The table's change stream: every change of a row, in partitions of the keys.

use super::error::Failure;
use super::links::{ANSWER_BYTES_MAX, Access};
use super::migrate;
use super::settings::Target;
use crate::error::StoreError;
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2 as proto;
use proto::bigtable_client::BigtableClient;
use proto::{GenerateInitialChangeStreamPartitionsRequest, ReadChangeStreamRequest};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(super) use proto::read_change_stream_request::StartFrom;
pub(super) use proto::read_change_stream_response::{CloseStream, DataChange, StreamRecord};
pub(super) use proto::{
    ReadChangeStreamResponse, StreamContinuationToken, StreamContinuationTokens, StreamPartition,
};

pub(super) type Client = BigtableClient<Channel>;

/// Partitions that share a connection at first. The service takes about a hundred streams on one, and partitions split.
const PARTITIONS_PER_CONNECTION: usize = 32;

/// A client of the table's change streams.
pub(super) struct Changes {
    access: Access,
    target: Target,
    about: String,
    /// How often the service sends a heartbeat where there are no changes.
    heartbeat: Duration,
    /// How long it may be silent.
    silence: Duration,
}

impl Changes {
    pub(super) fn new(target: &Target, access: &Access, heartbeat: Duration, silence: Duration) -> Self {
        let (table, profile) = (target.table_name(), &target.settings.app_profile);
        Self {
            access: access.clone(),
            about: format!("table_name={table}&app_profile_id={profile}"),
            target: target.clone(),
            heartbeat,
            silence,
        }
    }

    /// Whether the table has a change stream. The admin service says so, which not every account may call.
    pub(super) async fn exist(&self) -> Result<bool, Failure> {
        let mut client = migrate::client(&self.access).map_err(unusable)?;
        let table = migrate::describe(&self.target, &self.access, &mut client).await?;
        Ok(table.change_stream_config.is_some())
    }

    /// Connections for `partitions` partitions.
    pub(super) fn connect(&self, partitions: usize) -> Result<Vec<Client>, Failure> {
        let connections = partitions.div_ceil(PARTITIONS_PER_CONNECTION).max(1);
        (0..connections).map(|_| self.client()).collect()
    }

    fn client(&self) -> Result<Client, Failure> {
        let channel = self.access.data().map_err(unusable)?;
        Ok(BigtableClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
    }

    /// The present partitions; together they cover the whole table.
    pub(super) async fn partitions(&self) -> Result<Vec<StreamPartition>, Failure> {
        let message = GenerateInitialChangeStreamPartitionsRequest {
            table_name: self.target.table_name(),
            app_profile_id: self.target.settings.app_profile.clone(),
        };
        let request = self.access.request(&self.about, message).await?;
        let mut client = self.client()?;
        let ask = async move {
            let asked = client.generate_initial_change_stream_partitions(request);
            let mut answers = asked.await?.into_inner();
            let mut partitions = Vec::new();
            while let Some(answer) = answers.message().await? {
                partitions.extend(answer.partition);
            }
            Ok(partitions)
        };
        self.within(ask).await
    }

    /// Opens the stream of a partition.
    pub(super) async fn read(
        &self,
        mut client: Client,
        partition: StreamPartition,
        from: StartFrom,
    ) -> Result<Streaming<ReadChangeStreamResponse>, Failure> {
        let message = ReadChangeStreamRequest {
            table_name: self.target.table_name(),
            app_profile_id: self.target.settings.app_profile.clone(),
            partition: Some(partition),
            start_from: Some(from),
            heartbeat_duration: self.heartbeat.try_into().ok(),
            ..Default::default()
        };
        let request = self.access.request(&self.about, message).await?;
        let opened = async move { client.read_change_stream(request).await };
        Ok(self.within(opened).await?.into_inner())
    }

    /// The next record of the stream of a partition. A stream that ends without a close record is lost.
    pub(super) async fn next(
        &self,
        stream: &mut Streaming<ReadChangeStreamResponse>,
    ) -> Result<Option<StreamRecord>, Failure> {
        let message = self.within(stream.message()).await?;
        let ended = || Status::unavailable("the stream ended");
        Ok(message.ok_or_else(ended)?.stream_record)
    }

    /// Waits for the service as long as it may be silent.
    async fn within<T>(&self, call: impl Future<Output = Result<T, Status>> + Send) -> Result<T, Failure> {
        let answer = tokio::time::timeout(self.silence, call).await;
        Ok(answer.map_err(|_| Failure::Silent(self.silence))??)
    }
}

fn unusable(error: StoreError) -> Failure {
    Failure::Refused(Status::invalid_argument(error.to_string()))
}
