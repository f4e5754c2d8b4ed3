//! Health and readiness over HTTP, and the endpoint that is pushed to, if there is one.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::time::Duration;
use tape_core::agenda::Queue;
use tape_net::{Limits, Port};
use tape_reactors::api::Journal as _;
use tape_reactors::{PushEndpoint, Watched};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Most connections at a time; beyond that, the oldest one is closed.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection lasts, and how long without a byte: probes open another.
const LIMITS: Limits = Limits {
    connections: CONNECTIONS_MAX,
    first_request: Duration::from_secs(20),
    silence: Duration::from_secs(10),
    stall: Duration::from_secs(10),
};
/// A journal that takes longer to answer counts as unreachable.
const TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone)]
struct Asked {
    journal: Watched,
    stop: CancellationToken,
}

/// Answers `/healthz` as long as the process lives, and `/readyz` with 200 while it takes up work and reaches the journal.
pub(crate) async fn serve(
    listener: TcpListener,
    journal: Watched,
    endpoint: Option<PushEndpoint>,
    stop: CancellationToken,
) {
    let pushed = endpoint.as_ref().map(PushEndpoint::router);
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(Asked { journal, stop })
        .merge(pushed.unwrap_or_default());
    let connections = tape_net::connections_max(CONNECTIONS_MAX);
    let port = Port::new(
        listener,
        Limits {
            connections,
            ..LIMITS
        },
    );
    if let Err(error) = axum::serve(port, router).await {
        tracing::error!(%error, "health is not answered any more");
    }
}

async fn ready(State(asked): State<Asked>) -> (StatusCode, &'static str) {
    if asked.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let look = asked.journal.due(Queue::Timers, Duration::ZERO, None, 1);
    match tokio::time::timeout(TIMEOUT, look).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the journal is out of reach\n"),
    }
}
