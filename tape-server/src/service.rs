//! The services of the contract, one a file, over one engine.

mod commands;
mod drive;
mod due;
mod feed;
mod frames;
mod lists;
mod read;
mod readers;
mod relay_places;
mod relays;
mod retention;
mod runs;
mod sessions;
mod streams;
mod tail;
mod values;
mod versions;
mod watch;
mod work;

use crate::calls::Calls;
use crate::drivers::Drivers;
use crate::failure::of_store;
use crate::rare::Rare;
use crate::shutdown::Gate;
pub(crate) use drive::PATH as DRIVE;
use drive::Runs;
use due::Looks;
use readers::{Held, Messages, Readers, Unsent, Writer};
use std::sync::Arc;
use std::time::Duration;
use tape_engine::Engine;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
use tape_proto::v1::feed_service_server::FeedServiceServer;
use tape_proto::v1::relay_service_server::RelayServiceServer;
use tape_proto::v1::retention_service_server::RetentionServiceServer;
use tape_proto::v1::run_service_server::RunServiceServer;
use tape_proto::v1::server_service_server::ServerServiceServer;
use tape_proto::v1::session_service_server::SessionServiceServer;
use tape_proto::v1::stream_service_server::StreamServiceServer;
use tape_proto::v1::value_service_server::ValueServiceServer;
use tape_proto::v1::work_service_server::WorkServiceServer;
use tape_store::contract::JournalStore;
use tape_store::error::StoreError;
use tape_wal::SharedFeed;
use tonic::{Response, Status};

/// Bytes of a page in one message: less than a message may have, overhead included.
const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 4 * 3;
/// The approximate bytes of entries in one message of a stream.
const MESSAGE_BYTES: usize = 256 * 1024;

/// What all services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context(Arc<Shared>);

struct Shared {
    engine: Engine,
    gate: Gate,
    /// The one reader of the feed.
    feed: SharedFeed,
    drivers: Drivers,
    readers: Readers,
    calls: Calls,
    /// The looks at due work, one for all watches of a queue.
    looks: Looks,
    /// Clients that are refused for their versions.
    mismatches: Rare,
    lease_grace_ms: u64,
    max_commands: u32,
}

impl Context {
    pub(crate) fn new(engine: Engine, gate: Gate, lease_grace_ms: u64, max_commands: u32) -> Self {
        let feed = SharedFeed::new(Arc::clone(engine.store()));
        let looks = Looks::new(&engine);
        let drivers = Drivers::default();
        Self(Arc::new(Shared {
            engine,
            gate,
            feed,
            drivers,
            readers: Readers::default(),
            calls: Calls::default(),
            looks,
            mismatches: Rare::default(),
            lease_grace_ms,
            max_commands,
        }))
    }

    pub(crate) fn runs(&self) -> Runs {
        let others = RunServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Runs::new(self.clone(), others)
    }

    pub(crate) fn sessions(&self) -> SessionServiceServer<Self> {
        SessionServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn values(&self) -> ValueServiceServer<Self> {
        ValueServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn relays(&self) -> RelayServiceServer<Self> {
        RelayServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn feed(&self) -> FeedServiceServer<Self> {
        FeedServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn streams(&self) -> StreamServiceServer<Self> {
        StreamServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn work(&self) -> WorkServiceServer<Self> {
        WorkServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn server(&self) -> ServerServiceServer<Self> {
        ServerServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn retention(&self) -> RetentionServiceServer<Self> {
        RetentionServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The memory of all calls.
    pub(crate) fn calls(&self) -> Calls {
        self.0.calls.clone()
    }

    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn store(&self) -> &Arc<dyn JournalStore> {
        self.0.engine.store()
    }

    /// Answers a call with one message; refused while the server shuts down. At the caller's deadline the transport ends
    /// the call.
    async fn answer<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<Response<T>, Status> {
        let _call = self.0.gate.enter()?;
        match work.await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(failure) => Err(failure.status(self.retry_after(&failure))),
        }
    }

    /// How long a caller should wait before trying again, where a time is known.
    fn retry_after(&self, failure: &Failure) -> Option<Duration> {
        let now = self.engine().known_time()?;
        failure.retry_after(now)
    }

    /// Answers a call with a stream, fed by a task of its own until `work` ends, the reader leaves or the server shuts down.
    fn stream<T, W, F>(&self, work: W) -> Result<Response<Messages<T>>, Status>
    where
        T: prost::Message + 'static,
        W: FnOnce(Self, Arc<Sink<T>>) -> F,
        F: Future<Output = Result<(), Stop>> + Send + 'static,
    {
        let call = self.0.gate.enter()?;
        let (sink, messages) = Sink::new(&self.0.readers);
        let sink = Arc::new(sink);
        let work = work(self.clone(), Arc::clone(&sink));
        tokio::spawn(async move {
            let ended = tokio::select! {
                // What is done is answered, also while the server drains.
                biased;
                ended = work => ended,
                () = call.closing() => Err(Stop::Failed(Failure::Draining)),
                () = sink.writer.gone() => Err(Stop::Gone),
            };
            if let Err(stop) = ended {
                sink.end(stop);
            }
        });
        Ok(Response::new(messages))
    }
}

/// The sender of a stream's messages, one at a time; a slow reader makes it wait.
struct Sink<T> {
    writer: Writer<T>,
    readers: Readers,
}

impl<T: prost::Message> Sink<T> {
    fn new(readers: &Readers) -> (Self, Messages<T>) {
        let (writer, messages) = readers::queue(readers);
        let sink = Self {
            writer,
            readers: readers.clone(),
        };
        (sink, messages)
    }

    /// The memory for a page that is about to be read.
    async fn page(&self) -> Held {
        self.readers.page().await
    }

    async fn send(&self, message: T) -> Result<(), Stop> {
        Ok(self.writer.send(message, None, None).await?)
    }

    /// Sends a message of a page. A reader that is dropped once it has it continues after `place`.
    async fn send_of(&self, held: &mut Held, message: T, place: String) -> Result<(), Stop> {
        Ok(self.writer.send(message, Some(held), Some(place)).await?)
    }

    /// Sends the reader the reason why its stream ends.
    fn end(&self, stop: Stop) {
        match stop {
            Stop::Failed(failure) => self.writer.fail(failure),
            Stop::Slow => {
                let resume = self.writer.cut();
                tracing::info!(%resume, "a reader takes nothing; it is told where to go on");
            }
            // The reader is gone.
            Stop::Gone => {}
        }
    }
}

/// Why a stream ends before its natural end.
enum Stop {
    /// The reader is gone.
    Gone,
    /// The reader takes nothing.
    Slow,
    /// Something went wrong.
    Failed(Failure),
}

impl From<Unsent> for Stop {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Gone => Self::Gone,
            Unsent::Slow => Self::Slow,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(of_store(&error))
    }
}
