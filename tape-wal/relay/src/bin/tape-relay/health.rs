//! Health, readiness and numbers over HTTP.

use crate::carried::Carried;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tape_api::Journal;
use tape_core::agenda::Queue;
use tape_core::id::RelayId;
use tape_net::{Limits, Port};
use tape_relay::Counts;
use tape_relay::reactions::ReactionCounts;
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
    journal: Arc<dyn Journal>,
    carried: Arc<Carried>,
    stop: CancellationToken,
}

/// Answers `/healthz` as long as the process lives, `/readyz` with 200 while it carries relays and reaches the journal, and `/metrics` with
/// what its relays have done.
pub(crate) async fn serve(
    listener: TcpListener,
    journal: Arc<dyn Journal>,
    carried: Arc<Carried>,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Asked {
            journal,
            carried,
            stop,
        });
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

async fn ready(State(asked): State<Asked>) -> (StatusCode, String) {
    if asked.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    if let Some((relay, _)) = asked
        .carried
        .running()
        .iter()
        .find(|(_, running)| !running.is_running())
    {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the relay {relay} has ended\n"),
        );
    }
    let look = asked.journal.due(Queue::Timers, Duration::ZERO, None, 1);
    match tokio::time::timeout(TIMEOUT, look).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n".to_owned()),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the journal is out of reach\n".to_owned(),
        ),
    }
}

/// The numbers in the text format of Prometheus.
async fn metrics(State(asked): State<Asked>) -> String {
    let now = asked.journal.environment().wall().as_micros();
    let running = asked.carried.running();
    let each = running
        .iter()
        .map(|(relay, running)| (label(relay), running.counts()));
    let each: Vec<(String, Counts)> = each.collect();
    let mut text = String::new();
    for (name, kind, help) in tape_relay::COUNT_NAMES {
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "# HELP tape_relay_{name} {help}\n# TYPE tape_relay_{name} {kind}"
        );
        for (relay, counts) in &each {
            let value = counts.named(name).unwrap_or(0);
            let _ = writeln!(text, "tape_relay_{name}{{relay=\"{relay}\"}} {value}");
        }
    }
    text.push_str(
        "# HELP tape_relay_lag_seconds For how long the oldest event that is read has waited for the sink.\n",
    );
    text.push_str("# TYPE tape_relay_lag_seconds gauge\n");
    for (relay, counts) in &each {
        let lag = counts.lag_us(now) / 1_000_000;
        let _ = writeln!(text, "tape_relay_lag_seconds{{relay=\"{relay}\"}} {lag}");
    }
    if let Some(counts) = asked.carried.reactions() {
        reactions(&mut text, counts);
    }
    text
}

/// The name of a relay as the value of a label.
fn label(relay: &RelayId) -> String {
    let name = relay.to_string();
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

fn reactions(text: &mut String, counts: ReactionCounts) {
    text.push_str("# HELP tape_relay_reactions What became of the definitions of reactions.\n");
    text.push_str("# TYPE tape_relay_reactions gauge\n");
    let states = [
        ("carried", counts.carried),
        ("paused", counts.paused),
        ("invalid", counts.invalid),
    ];
    for (state, number) in states {
        let _ = writeln!(text, "tape_relay_reactions{{state=\"{state}\"}} {number}");
    }
    let looks = counts.looks;
    let _ = writeln!(
        text,
        "# HELP tape_relay_reaction_looks_total How often the definitions of all tenants were looked at.\n\
         # TYPE tape_relay_reaction_looks_total counter\ntape_relay_reaction_looks_total {looks}"
    );
}
