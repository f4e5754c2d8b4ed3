//! The table behind gRPC: connections, credentials, timeouts, and retries.

use super::error::Failure;
use super::settings::Target;
use super::table::{Cell, Change, Check, Row, RowFilter, Rows, Table, ordinal};
use crate::error::{STORE_URL, StoreError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use google_cloud_auth::credentials::{self, CacheableResource, Credentials};
use googleapis_tonic_google_bigtable_v2::google::bigtable::v2 as proto;
use proto::bigtable_client::BigtableClient;
use proto::read_rows_response::CellChunk;
use proto::read_rows_response::cell_chunk::RowStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

const SERVICE: &str = "https://bigtable.googleapis.com";
const ADMIN: &str = "https://bigtableadmin.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Bytes of an answer: a row has far less than this.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(30);
const SIGN_OF_LIFE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a repeatable call with transient failures is made.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(10);

/// The endpoints of the service and the credentials.
#[derive(Clone)]
pub(super) struct Access {
    emulator: Option<String>,
    credentials: Option<Credentials>,
    timeout: Duration,
}

impl Access {
    pub(super) fn new(target: &Target) -> Result<Self, StoreError> {
        let emulator = target.settings.emulator.clone();
        let credentials = match &emulator {
            Some(_) => None,
            None => Some(find_credentials()?),
        };
        Ok(Self {
            emulator,
            credentials,
            timeout: target.settings.timeout,
        })
    }

    /// A connection to the data service, which is made when it is needed.
    pub(super) fn data(&self) -> Result<Channel, StoreError> {
        self.channel(SERVICE)
    }

    /// The same to the admin service.
    pub(super) fn admin(&self) -> Result<Channel, StoreError> {
        self.channel(ADMIN)
    }

    fn channel(&self, service: &'static str) -> Result<Channel, StoreError> {
        let url = self
            .emulator
            .as_ref()
            .map_or_else(|| service.to_owned(), |emulator| format!("http://{emulator}"));
        let wrong = |error: tonic::transport::Error| StoreError::Invalid {
            what: STORE_URL,
            problem: format!("names no address of a service: {error}"),
        };
        let mut endpoint = Endpoint::from_shared(url).map_err(wrong)?;
        if self.emulator.is_none() {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(SIGN_OF_LIFE_EVERY)
            .keep_alive_timeout(SIGN_OF_LIFE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy())
    }

    /// A request with credentials, routed by its resource.
    pub(super) async fn request<T>(&self, about: &str, message: T) -> Result<Request<T>, Failure> {
        let mut request = Request::new(message);
        if let Some(credentials) = &self.credentials {
            let headers = credentials.headers(http::Extensions::new()).await;
            let headers = headers.map_err(|error| Failure::Credentials(Arc::new(error)))?;
            if let CacheableResource::New { data, .. } = headers {
                *request.metadata_mut() = MetadataMap::from_headers(data);
            }
        }
        if let Ok(value) = MetadataValue::try_from(about.replace('/', "%2F")) {
            request.metadata_mut().insert("x-goog-request-params", value);
        }
        Ok(request)
    }

    /// Waits for an answer, up to the timeout.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<T, Failure> {
        let answer = tokio::time::timeout(self.timeout, call).await;
        Ok(answer.map_err(|_| Failure::Silent(self.timeout))??)
    }
}

fn find_credentials() -> Result<Credentials, StoreError> {
    // The first provider stays; either one works.
    let _ = rustls::crypto::ring::default_provider().install_default();
    credentials::Builder::default()
        .with_scopes([SCOPE])
        .build()
        .map_err(|error| StoreError::unavailable("looks for credentials", error))
}

/// A table of the service.
pub(super) struct Links {
    access: Access,
    clients: Vec<BigtableClient<Channel>>,
    next: AtomicUsize,
    table_name: String,
    app_profile_id: String,
    about: String,
}

impl Links {
    pub(super) fn new(target: &Target, access: &Access) -> Result<Self, StoreError> {
        let client = || {
            let client = BigtableClient::new(access.data()?);
            Ok(client.max_decoding_message_size(ANSWER_BYTES_MAX))
        };
        let clients = (0..target.settings.connections.max(1)).map(|_| client());
        let (table_name, app_profile_id) = (target.table_name(), target.settings.app_profile.clone());
        Ok(Self {
            access: access.clone(),
            clients: clients.collect::<Result<_, StoreError>>()?,
            next: AtomicUsize::new(0),
            about: format!("table_name={table_name}&app_profile_id={app_profile_id}"),
            table_name,
            app_profile_id,
        })
    }

    fn client(&self) -> BigtableClient<Channel> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.clients[next % self.clients.len()].clone()
    }

    async fn try_read(&self, message: proto::ReadRowsRequest) -> Result<Vec<Row>, Failure> {
        let request = self.access.request(&self.about, message).await?;
        let mut client = self.client();
        let read = async move {
            let mut answers = client.read_rows(request).await?.into_inner();
            let mut rows = Assembly::default();
            while let Some(answer) = answers.message().await? {
                answer.chunks.into_iter().try_for_each(|chunk| rows.add(chunk))?;
            }
            Ok(rows.done)
        };
        self.access.answer(read).await
    }

    async fn try_mutate(&self, changes: Vec<Change>) -> Result<Vec<Result<(), Failure>>, Failure> {
        let count = changes.len();
        let entries = changes
            .into_iter()
            .map(|change| proto::mutate_rows_request::Entry {
                row_key: change.key,
                mutations: change.mutations,
                ..Default::default()
            });
        let message = proto::MutateRowsRequest {
            table_name: self.table_name.clone(),
            app_profile_id: self.app_profile_id.clone(),
            entries: entries.collect(),
            ..Default::default()
        };
        let request = self.access.request(&self.about, message).await?;
        let mut client = self.client();
        let mutate = async move {
            let unanswered = || Err(Status::unavailable("the row was not answered for").into());
            let mut outcomes: Vec<Result<(), Failure>> = (0..count).map(|_| unanswered()).collect();
            let mut answers = client.mutate_rows(request).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                for entry in answer.entries {
                    let place = usize::try_from(entry.index).ok();
                    if let Some(outcome) = place.and_then(|place| outcomes.get_mut(place)) {
                        *outcome = match entry.status {
                            Some(status) if status.code != 0 => {
                                Err(Status::new(Code::from(status.code), status.message).into())
                            }
                            _ => Ok(()),
                        };
                    }
                }
            }
            Ok(outcomes)
        };
        self.access.answer(mutate).await
    }
}

/// Waits longer each time.
async fn pause(attempt: u32) {
    tokio::time::sleep(PAUSE * 3_u32.saturating_pow(attempt)).await;
}

#[async_trait]
impl Table for Links {
    async fn read(&self, rows: Rows, filter: RowFilter, limit: usize) -> Result<Vec<Row>, Failure> {
        let message = proto::ReadRowsRequest {
            table_name: self.table_name.clone(),
            app_profile_id: self.app_profile_id.clone(),
            rows: Some(rows.into()),
            filter: Some(filter),
            rows_limit: i64::try_from(limit).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let mut attempt = 0;
        loop {
            match self.try_read(message.clone()).await {
                Err(failure) if failure.is_passing() && attempt + 1 < ATTEMPTS_MAX => pause(attempt).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn mutate(&self, changes: Vec<Change>) -> Vec<Result<(), Failure>> {
        let mut outcomes: Vec<Result<(), Failure>> = changes.iter().map(|_| Ok(())).collect();
        let mut left: Vec<(usize, Change)> = changes.into_iter().enumerate().collect();
        for attempt in 0..ATTEMPTS_MAX {
            let asked = left.iter().map(|(_, change)| change.clone()).collect();
            let tried = match self.try_mutate(asked).await {
                Ok(tried) => tried,
                Err(failure) => left.iter().map(|_| Err(failure.clone())).collect(),
            };
            for ((place, _), outcome) in left.iter().zip(tried) {
                outcomes[*place] = outcome;
            }
            let is_left = |place: usize| matches!(&outcomes[place], Err(failure) if failure.is_passing());
            left.retain(|(place, _)| is_left(*place));
            if left.is_empty() {
                break;
            }
            pause(attempt).await;
        }
        outcomes
    }

    async fn check_and_mutate(&self, check: Check) -> Result<bool, Failure> {
        let message = proto::CheckAndMutateRowRequest {
            table_name: self.table_name.clone(),
            app_profile_id: self.app_profile_id.clone(),
            row_key: check.key,
            predicate_filter: Some(check.predicate),
            true_mutations: check.then,
            false_mutations: check.otherwise,
            ..Default::default()
        };
        let request = self.access.request(&self.about, message).await?;
        let mut client = self.client();
        let answer = self.access.answer(client.check_and_mutate_row(request)).await?;
        Ok(answer.into_inner().predicate_matched)
    }
}

/// Rows being put together from the pieces that they are sent in.
#[derive(Default)]
struct Assembly {
    done: Vec<Row>,
    row: Row,
    family: String,
    qualifier: Bytes,
    /// The first pieces of a value that is sent in several.
    value: BytesMut,
    timestamp: i64,
}

impl Assembly {
    fn add(&mut self, chunk: CellChunk) -> Result<(), Status> {
        let damaged = || Status::data_loss("the service sent rows in no order");
        if let Some(RowStatus::ResetRow(true)) = chunk.row_status {
            (self.row, self.value) = (Row::default(), BytesMut::new());
            return Ok(());
        }
        if !chunk.row_key.is_empty() {
            if !self.row.key.is_empty() && self.row.key != chunk.row_key {
                return Err(damaged());
            }
            self.row.key = chunk.row_key;
        }
        if let Some(family) = chunk.family_name {
            self.family = family;
        }
        if let Some(qualifier) = chunk.qualifier {
            self.qualifier = Bytes::from(qualifier);
        }
        if self.row.key.is_empty() {
            return Err(damaged());
        }
        if self.value.is_empty() {
            self.timestamp = chunk.timestamp_micros;
        }
        if chunk.value_size > 0 {
            self.value.extend_from_slice(&chunk.value);
            return Ok(());
        }
        let value = if self.value.is_empty() {
            chunk.value
        } else {
            self.value.extend_from_slice(&chunk.value);
            std::mem::take(&mut self.value).freeze()
        };
        self.row.cells.push(Cell {
            family: self.family.clone(),
            qualifier: self.qualifier.clone(),
            ordinal: ordinal(self.timestamp),
            value,
        });
        if let Some(RowStatus::CommitRow(true)) = chunk.row_status {
            self.done.push(std::mem::take(&mut self.row));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(key: &str, family: Option<&str>, qualifier: Option<&str>, value: &str) -> CellChunk {
        CellChunk {
            row_key: Bytes::copy_from_slice(key.as_bytes()),
            family_name: family.map(str::to_owned),
            qualifier: qualifier.map(|qualifier| qualifier.as_bytes().to_vec()),
            timestamp_micros: 5_000,
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..CellChunk::default()
        }
    }

    fn last(chunk: CellChunk) -> CellChunk {
        CellChunk {
            row_status: Some(RowStatus::CommitRow(true)),
            ..chunk
        }
    }

    fn part(chunk: CellChunk) -> CellChunk {
        CellChunk {
            value_size: 99,
            ..chunk
        }
    }

    fn rows(chunks: Vec<CellChunk>) -> Result<String, Code> {
        let mut rows = Assembly::default();
        for chunk in chunks {
            rows.add(chunk).map_err(|status| status.code())?;
        }
        let cell = |cell: &Cell| {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            format!(
                "{}:{}@{}={}",
                cell.family,
                text(&cell.qualifier),
                cell.ordinal,
                text(&cell.value)
            )
        };
        let row = |row: &Row| {
            format!(
                "{:?} {}",
                row.key,
                row.cells.iter().map(cell).collect::<Vec<_>>().join(" ")
            )
        };
        Ok(rows.done.iter().map(row).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn rows_are_put_together_from_their_pieces() {
        let pieces = vec![
            chunk("a", Some("e"), Some("1"), "x"),
            chunk("", None, Some("2"), "y"),
            part(chunk("", Some("p"), Some("1"), "one ")),
            part(chunk("", None, None, "two ")),
            last(chunk("", None, None, "three")),
            // The cells sent of this row so far do not count.
            chunk("b", Some("e"), Some("1"), "gone"),
            CellChunk {
                row_status: Some(RowStatus::ResetRow(true)),
                ..CellChunk::default()
            },
            last(chunk("b", Some("e"), Some("1"), "")),
        ];
        let expected = "b\"a\" e:1@5=x e:2@5=y p:1@5=one two three; b\"b\" e:1@5=";
        assert_eq!(rows(pieces).as_deref(), Ok(expected));
    }

    #[test]
    fn pieces_in_no_order_are_refused() {
        let amid = vec![
            chunk("a", Some("e"), Some("1"), "x"),
            chunk("b", Some("e"), Some("1"), "x"),
        ];
        assert_eq!(rows(amid), Err(Code::DataLoss));
        assert_eq!(
            rows(vec![chunk("", Some("e"), Some("1"), "x")]),
            Err(Code::DataLoss)
        );
    }

    /// Where no server listens, nothing was sent: the failure is definite. Where a server may have received the call, it is not.
    #[tokio::test]
    async fn what_could_not_be_sent_is_not_unknown() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let target: Target = format!("bigtable://p/i/t?emulator={free}").parse().unwrap();
        let links = Links::new(&target, &Access::new(&target).unwrap()).unwrap();
        let check = Check {
            key: Bytes::from_static(b"k"),
            predicate: super::super::table::family("h"),
            then: Vec::new(),
            otherwise: Vec::new(),
        };
        let failure = links.check_and_mutate(check).await.unwrap_err();
        assert!(failure.is_definite(), "{failure:?}");
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Unknown,
            Code::Internal,
            Code::Aborted,
            Code::Cancelled,
            Code::ResourceExhausted,
        ] {
            assert!(!Failure::from(Status::new(code, "lost")).is_definite(), "{code}");
        }
        assert!(!Failure::Silent(Duration::ZERO).is_definite());
        assert!(Failure::from(Status::permission_denied("no")).is_definite());
    }
}
