//! The services of the contract, one a file, over one engine.

mod drive;
mod due;
mod entries;
mod feed;
mod read;
mod retention;
mod runs;
mod sessions;
mod tail;
mod values;
mod watch;

use crate::drivers::Drivers;
use crate::failure::of_store;
use crate::hub::Hub;
use crate::shutdown::Gate;
use std::sync::Arc;
use tape_proto::MESSAGE_BYTES_MAX;
use tape_proto::failure::Failure;
use tape_proto::v1::entries_server::EntriesServer;
use tape_proto::v1::feed_server::FeedServer;
use tape_proto::v1::retention_server::RetentionServer;
use tape_proto::v1::runs_server::RunsServer;
use tape_proto::v1::sessions_server::SessionsServer;
use tape_proto::v1::values_server::ValuesServer;
use tape_store::contract::JournalStore;
use tape_store::engine::Engine;
use tape_store::error::StoreError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Messages of a stream that wait for a slow reader; then the stream waits too.
const MESSAGES_WAITING_MAX: usize = 4;
/// About how many bytes of entries one message of a stream has.
const MESSAGE_BYTES: usize = 256 * 1024;

/// What all services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context(Arc<Shared>);

struct Shared {
    engine: Engine,
    gate: Gate,
    hub: Hub,
    drivers: Drivers,
    lease_grace_ms: u64,
    max_commands: u32,
}

/// A stream of messages as the generated services want it.
type Messages<T> = ReceiverStream<Result<T, Status>>;

impl Context {
    pub(crate) fn new(engine: Engine, gate: Gate, lease_grace_ms: u64, max_commands: u32) -> Self {
        let hub = Hub::new(Arc::clone(engine.store()));
        let drivers = Drivers::default();
        Self(Arc::new(Shared {
            engine,
            gate,
            hub,
            drivers,
            lease_grace_ms,
            max_commands,
        }))
    }

    pub(crate) fn runs(&self) -> RunsServer<Self> {
        RunsServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn sessions(&self) -> SessionsServer<Self> {
        SessionsServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn values(&self) -> ValuesServer<Self> {
        ValuesServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn feed(&self) -> FeedServer<Self> {
        FeedServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn entries(&self) -> EntriesServer<Self> {
        EntriesServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn retention(&self) -> RetentionServer<Self> {
        RetentionServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
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
        Ok(Response::new(work.await?))
    }

    /// Answers a call with a stream, fed by a task of its own until `work` ends, the reader goes or the server shuts down.
    fn stream<T, W, F>(&self, work: W) -> Result<Response<Messages<T>>, Status>
    where
        T: Send + 'static,
        W: FnOnce(Self, Arc<Sink<T>>) -> F,
        F: Future<Output = Result<(), Stop>> + Send + 'static,
    {
        let call = self.0.gate.enter()?;
        let (sink, messages) = Sink::new();
        let sink = Arc::new(sink);
        let work = work(self.clone(), Arc::clone(&sink));
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = work => ended,
                () = call.closing() => Err(Stop::Failed(Failure::Draining)),
                () = sink.gone() => Err(Stop::Gone),
            };
            if let Err(Stop::Failed(failure)) = ended {
                sink.fail(failure).await;
            }
        });
        Ok(Response::new(messages))
    }
}

/// Where a task hands the messages of a stream over, one at a time; a slow reader makes it wait.
struct Sink<T>(mpsc::Sender<Result<T, Status>>);

/// The reader of a stream is gone.
struct Gone;

impl<T> Sink<T> {
    fn new() -> (Self, Messages<T>) {
        let (sender, receiver) = mpsc::channel(MESSAGES_WAITING_MAX);
        (Self(sender), ReceiverStream::new(receiver))
    }

    async fn send(&self, message: T) -> Result<(), Gone> {
        self.0.send(Ok(message)).await.map_err(|_| Gone)
    }

    /// Ends the stream with a failure.
    async fn fail(&self, failure: Failure) {
        // Where the reader is gone, nobody needs to be told.
        let _ = self.0.send(Err(failure.into())).await;
    }

    /// Waits until the reader is gone.
    async fn gone(&self) {
        self.0.closed().await;
    }
}

/// Why a stream ends before its natural end.
enum Stop {
    /// The reader is gone.
    Gone,
    /// Something went wrong.
    Failed(Failure),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
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
