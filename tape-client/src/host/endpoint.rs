//! The endpoint to which others post re-drives.

use super::Host;
use super::agent::let_go;
use super::queue::Adopted;
use crate::error::Error;
use crate::run::Begun;
use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::routing::post;
use axum::serve::IncomingStream;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tape_api::recovery::Redrive;
use tape_api::signature::{SIGNATURE_HEADER, verify};
use tape_core::causes::Causes;
use tape_core::reply::{Missing, Rejection};
use tape_net::{Limits, Peer, Port};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::watch;
use tokio::time::Instant;

/// Most connections at a time; where they are taken, the oldest one makes room.
const CONNECTIONS_MAX: usize = 256;
/// A connection on which nothing was signed lasts this long, and one that is older is closed after an answer: recovery opens another.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);
const LIMITS: Limits = Limits {
    connections: CONNECTIONS_MAX,
    first_request: CONNECTION_AGE_MAX,
    silence: Duration::from_secs(120),
    stall: Duration::from_secs(10),
};
/// A request names a run and an epoch.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// A signature counts for so long, and so long before its time: clocks differ.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Where re-drives are posted to, and how they are signed.
#[derive(Clone)]
pub(super) struct Endpoint {
    listener: Arc<TcpListener>,
    secret: Arc<[u8]>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Takes re-drives by `POST /redrive` on `listener` too, while it serves: `{"run": {...}, "epoch": N}`, signed under `secret` in the header
    /// `tape-signature`, as a `tape-reactor` with `secret_env` sends them.
    ///
    /// It answers with 202 once it has adopted the run, which then goes on without the request; 200 where the run has ended already;
    /// 401 without a good signature of at most five minutes; 404 where the app has no agent here, or none that
    /// takes the run's version; 409 where the run cannot be adopted from that epoch, because it was adopted already, recovery let it go, or a
    /// later one took it; 503 where the app has no place, the journal is out of reach or the host is told to stop; 400 where the body makes no
    /// sense. So a request that comes late, or again, drives nothing.
    ///
    /// An empty `secret` makes [`Host::serve_until`] fail: anyone could sign with it.
    #[must_use]
    pub fn endpoint(mut self, listener: TcpListener, secret: impl Into<Vec<u8>>) -> Self {
        let secret = secret.into();
        if secret.is_empty() {
            self.refused
                .get_or_insert_with(|| ("secret", "is empty: anyone could sign with it".to_owned()));
        }
        self.endpoint = Some(Endpoint {
            listener: listener.into(),
            secret: secret.into(),
        });
        self
    }

    /// Leaves it to others to find runs that are due: while it serves, runs come by its [endpoint](Host::endpoint) alone.
    #[must_use]
    pub const fn only_endpoint(mut self) -> Self {
        self.watches = false;
        self
    }
}

/// What the endpoint answers from.
struct Served {
    host: Host,
    secret: Arc<[u8]>,
    adopted: UnboundedSender<Adopted>,
    stopping: watch::Receiver<bool>,
}

impl Endpoint {
    /// Answers, until it is dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the listener cannot be used.
    pub(super) fn serve(
        &self,
        host: Host,
        adopted: UnboundedSender<Adopted>,
        stopping: watch::Receiver<bool>,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
        let listener = self
            .listener()
            .map_err(|error| Error::Unavailable { source: error.into() })?;
        let connections = tape_net::connections_max(CONNECTIONS_MAX);
        let port = Port::new(
            listener,
            Limits {
                connections,
                ..LIMITS
            },
        );
        let served = Served {
            host,
            secret: Arc::clone(&self.secret),
            adopted,
            stopping,
        };
        let router = Router::new()
            .route("/redrive", post(answer))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::new(served));
        let service = router.into_make_service_with_connect_info::<Connection>();
        Ok(async {
            if let Err(error) = axum::serve(port, service).await {
                tracing::error!(%error, "re-drives are not answered any more");
            }
        })
    }

    fn listener(&self) -> std::io::Result<tokio::net::TcpListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    }
}

type Answer = (StatusCode, String);

/// A connection, as the answers on it see it.
#[derive(Clone)]
struct Connection {
    peer: Peer,
    since: Instant,
}

impl Connected<IncomingStream<'_, Port>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Port>) -> Self {
        Self {
            peer: stream.io().peer().clone(),
            since: Instant::now(),
        }
    }
}

impl Connection {
    /// The headers of an answer on it: an old connection ends between two requests.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.since.elapsed() >= CONNECTION_AGE_MAX {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers
    }
}

async fn answer(
    State(served): State<Arc<Served>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, String) {
    let (status, text) = match served.take(&connection.peer, &headers, &body).await {
        Ok(status) => (status, String::new()),
        Err(refused) => refused,
    };
    (status, connection.headers(), text)
}

impl Served {
    async fn take(&self, peer: &Peer, headers: &HeaderMap, body: &[u8]) -> Result<StatusCode, Answer> {
        self.check_signature(headers, body)?;
        // Others keep the place of a connection that asks for nothing.
        peer.asked();
        let redrive: Redrive =
            serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        self.check_is_taken(&redrive).await?;
        let app = &redrive.run.app;
        let place = self.host.agents.get(app).and_then(|agent| agent.place());
        let place = place.ok_or_else(|| unavailable(format!("'{app}' has no place for another run")))?;
        let run = self.host.tape.run(redrive.run).existing().adopt(redrive.epoch);
        match run.begin().await.map_err(refusal)? {
            Begun::Ended(_) => Ok(StatusCode::OK),
            Begun::Driving(run) => {
                if let Err(SendError(adopted)) = self.adopted.send(Adopted { run, place }) {
                    let_go(&adopted.run).await;
                    return Err(unavailable("this host is stopping"));
                }
                Ok(StatusCode::ACCEPTED)
            }
        }
    }

    fn check_signature(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Answer> {
        let signature = headers
            .get(SIGNATURE_HEADER)
            .and_then(|value| value.to_str().ok());
        let now = u64::try_from(self.host.tape.environment.wall().as_micros() / 1_000_000).unwrap_or(0);
        let good = signature.is_some_and(|header| verify(&self.secret, header, body, now, TOLERANCE));
        if good {
            Ok(())
        } else {
            let text = format!("the header {SIGNATURE_HEADER} has no good signature");
            Err((StatusCode::UNAUTHORIZED, text))
        }
    }

    /// Whether this host drives such runs, and takes up any now.
    async fn check_is_taken(&self, redrive: &Redrive) -> Result<(), Answer> {
        let app = &redrive.run.app;
        if *self.stopping.borrow() {
            return Err(unavailable("this host is stopping"));
        }
        if !self.host.agents.contains_key(app) {
            return Err((StatusCode::NOT_FOUND, format!("'{app}' has no agent here")));
        }
        match self.host.takes(&redrive.run).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("'{app}' has no agent of the run's version here");
                Err((StatusCode::NOT_FOUND, text))
            }
            Err(error) => Err(refusal(error.into())),
        }
    }
}

fn unavailable(why: impl Into<String>) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, why.into())
}

/// The answer to a caller for an error of the journal.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn refusal(error: Error) -> Answer {
    let status = match &error {
        Error::Busy { .. } | Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::Rejected(rejection) if **rejection == Rejection::not_found(Missing::Run) => {
            StatusCode::NOT_FOUND
        }
        _ => StatusCode::CONFLICT,
    };
    (status, Causes(&error).to_string())
}
