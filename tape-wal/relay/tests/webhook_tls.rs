//! Webhooks over TLS: which certificates are trusted, by the program as it runs.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod tls;

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tape_core::command::{Command as Ask, ValueCommand};
use tape_core::id::{Tenant, ValueName};
use tape_core::payload::Payload;
use tape_engine::Engine;
use tape_environment::machine;
use tape_relay::conformance::pen::Pen;
use tape_relay::sink::{Sink as _, SinkError};
use tape_relay::sinks::webhook::{Webhook, WebhookSettings};
use tape_store::sqlite::SqliteStore;
use tls::Secured;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A relay of a journal with three entries to an endpoint, as a process, which is killed with this value.
struct Program {
    child: Child,
    metrics: String,
    _folder: tempfile::TempDir,
}

impl Program {
    /// Trusts the authorities of a file alone.
    async fn start(url: &str, authority: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fill(&at("tape.db")).await;
        std::fs::write(at("authority.pem"), authority).unwrap();
        let config = format!(
            "[relays.\"acme/hook\"]\nstart = \"beginning\"\nwebhook = {{ url = \"{url}\", secrets_env = [\"TAPE_TEST_SECRET\"] }}\n"
        );
        std::fs::write(at("relay.toml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tape-relay"))
            .arg("--store")
            .arg(format!("sqlite:{}", at("tape.db").display()))
            .arg("--config")
            .arg(at("relay.toml"))
            .args(["--log", "error", "--listen", "127.0.0.1:0"])
            .env("TAPE_TEST_SECRET", SECRET)
            .env("SSL_CERT_FILE", at("authority.pem"))
            .env_remove("SSL_CERT_DIR")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("tape-relay ready on ").unwrap();
        Self {
            child,
            metrics: format!("http://{address}/metrics"),
            _folder: folder,
        }
    }

    /// Waits until a number of the relay is not zero.
    async fn counts(&self, name: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let begin = format!("tape_relay_{name}{{relay=\"acme/hook\"}} ");
        loop {
            let text = reqwest::get(&self.metrics).await.unwrap().text().await.unwrap();
            let value = text.lines().find_map(|line| line.strip_prefix(&begin));
            if value.is_some_and(|value| value != "0") {
                return;
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn fill(path: &Path) {
    let engine = Engine::start(Arc::new(SqliteStore::open(path).await.unwrap()));
    for n in 0..3 {
        let value = Payload::json(&serde_json::json!({ "n": n }));
        let command = ValueCommand::Put {
            value,
            expected: None,
        };
        let command = Ask::new(engine.request_id(), command);
        let (tenant, name) = (Tenant::new("acme").unwrap(), ValueName::new("a").unwrap());
        engine.value(&tenant, &name, command).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_a_trusted_certificate_gets_signed_events() {
    let endpoint = Secured::start("localhost");
    let url = format!("https://localhost:{}/hook", endpoint.port);
    let program = Program::start(&url, &endpoint.authority).await;
    program.counts("events_delivered").await;
    let (headers, body) = endpoint.posted().swap_remove(0);
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["id"], "acme/value/a/1");
    let theirs = standardwebhooks::Webhook::new(SECRET).unwrap();
    let signed = headers
        .iter()
        .filter(|(name, _)| name.starts_with("webhook-"))
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    theirs
        .verify(&body, &signed.collect::<axum::http::HeaderMap>())
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_certificate_is_for_another_name_gets_nothing() {
    let endpoint = Secured::start("elsewhere.example");
    let url = format!("https://localhost:{}/hook", endpoint.port);
    let program = Program::start(&url, &endpoint.authority).await;
    program.counts("events_retried").await;
    assert_eq!(endpoint.posted(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_authority_is_not_known_gets_nothing() {
    let (endpoint, other) = (Secured::start("localhost"), Secured::start("localhost"));
    let url = format!("https://localhost:{}/hook?key=hidden", endpoint.port);
    let program = Program::start(&url, &other.authority).await;
    program.counts("events_retried").await;
    // Of a sink in this process, which trusts the authorities of the machine, the answer can be seen.
    let settings = WebhookSettings::new(&url, vec![SECRET.parse().unwrap()], true).unwrap();
    let webhook = Webhook::new(settings, machine()).unwrap();
    let event = Pen::new("acme/value/a").event(&serde_json::json!(1));
    let answer = webhook.deliver(&[event]).await.remove(0);
    let Err(SinkError::Unavailable { reason, .. }) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        reason.contains("certificate") && !reason.contains("hidden"),
        "{reason}"
    );
    assert_eq!(endpoint.posted(), []);
}
