//! The connection to a server, and its replacement when it fails.

use super::versions::negotiate;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tape_api::JournalError;
use tokio::sync::{OnceCell, watch};
use tonic::transport::{Channel, Endpoint};

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest keep-alive interval of a quiet connection, and the longest wait for its answer. Twice this is less than the grace period
/// that a server gives a client whose connection closed, so the client notices first.
const SIGN_OF_LIFE_MAX: Duration = Duration::from_secs(1);
/// The shortest such interval and wait, however short the leases.
const SIGN_OF_LIFE_MIN: Duration = Duration::from_millis(250);
/// The keep-alive interval is a lease divided by this, within those bounds. That leaves time to notice a loss, to reconnect and to renew.
const SIGNS_PER_LEASE: u32 = 6;

/// How many bytes of one stream wait in this process until they are read.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// The same for all streams of the connection: no bound of their own. Otherwise streams that are not read would hold up the answers to other
/// calls, renewals of leases among them. What waits is bounded by the streams that this process has opened.
const CONNECTION_WINDOW_BYTES: u32 = i32::MAX as u32;

/// The connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    current: Mutex<Connection>,
    /// The number of the connection: the count of connections that were given up.
    number: watch::Sender<u64>,
    /// The longest wait for an answer.
    answer_timeout: Duration,
}

/// A connection, and whether its server has agreed on versions.
#[derive(Clone, Debug)]
struct Connection {
    channel: Channel,
    agreed: Arc<OnceCell<()>>,
}

impl Connection {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            channel: endpoint.connect_lazy(),
            agreed: Arc::default(),
        }
    }
}

impl Link {
    /// A link to the server at `authority`, which has `answer_timeout` to answer, for a client that holds leases of length `lease`. Nothing is
    /// connected before it is needed.
    pub(super) fn new(
        authority: &str,
        lease: Duration,
        answer_timeout: Duration,
    ) -> Result<Self, JournalError> {
        let sign_of_life = (lease / SIGNS_PER_LEASE).clamp(SIGN_OF_LIFE_MIN, SIGN_OF_LIFE_MAX);
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| JournalError::Invalid(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(sign_of_life)
            .keep_alive_timeout(sign_of_life)
            .keep_alive_while_idle(true);
        Ok(Self(Arc::new(Inner {
            current: Mutex::new(Connection::new(&endpoint)),
            endpoint,
            number: watch::Sender::new(0),
            answer_timeout,
        })))
    }

    /// The connection as it is now, once its server has agreed on versions.
    pub(super) async fn channel(&self) -> Result<Channel, JournalError> {
        let Connection { channel, agreed } = self.current().clone();
        agreed.get_or_try_init(|| negotiate(channel.clone())).await?;
        Ok(channel)
    }

    /// The server of connection `number` may have been replaced by another: versions are agreed on anew.
    pub(super) fn agree_anew(&self, number: u64) {
        if self.number() == number {
            self.current().agreed = Arc::default();
        }
    }

    /// Tells when the connection is given up for another.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.number.subscribe()
    }

    /// The number of the current connection.
    pub(super) fn number(&self) -> u64 {
        *self.0.number.borrow()
    }

    /// The longest wait for an answer.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.0.answer_timeout
    }

    /// Gives up connection `number`: later requests use a new one, which may lead to another server. Does nothing if it was given up
    /// already.
    pub(super) fn give_up(&self, number: u64) {
        self.0.number.send_if_modified(|current| {
            let is_current = *current == number;
            if is_current {
                *self.current() = Connection::new(&self.0.endpoint);
                *current += 1;
            }
            is_current
        });
    }

    fn current(&self) -> MutexGuard<'_, Connection> {
        self.0
            .current
            .lock()
            .expect("nothing panics while it holds the connection")
    }
}
