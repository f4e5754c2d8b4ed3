//! A server: one port, one engine, until it is told to stop.

use crate::config::Config;
use crate::health::{Doubt, Health, HealthTracked};
use crate::port;
use crate::service::Context;
use crate::shutdown::Gate;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tape_engine::Engine;
use tape_environment::Environment;
use tape_store::error::StoreError;
use tokio::net::TcpListener;
use tonic::service::{InterceptorLayer, Routes};

/// Flow-control window of one stream, in bytes: how much a sender may have under way that was not read yet.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for one connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The transport itself never closes a silent connection: it would end calls as if their caller had. The port closes it.
const NEVER: Duration = Duration::from_secs(86_400);
/// Connections have this long to close once no call is under way.
const CLOSING_PATIENCE: Duration = Duration::from_secs(1);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    config: Config,
    address: SocketAddr,
    listener: TcpListener,
    engine: Engine,
    doubt: Doubt,
}

/// Why a server does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration is refused because it is unsafe.
    #[error(transparent)]
    Refused(#[from] crate::config::Refused),
    /// The store cannot be used.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// An operation of the operating system failed.
    #[error("the system refuses while it {doing}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The error of the system.
        #[source]
        source: std::io::Error,
    },
    /// The transport broke down.
    #[error("the transport failed")]
    Transport(#[from] tonic::transport::Error),
}

impl ServerError {
    /// The error with its causes, in one line.
    #[must_use]
    pub fn with_causes(&self) -> String {
        tape_core::causes::Causes(self).to_string()
    }
}

impl Server {
    /// Opens the store in an environment and listens; calls wait until [`Server::run`].
    ///
    /// # Errors
    /// [`ServerError`] says what stands in the way.
    pub async fn bind(config: Config, environment: Arc<dyn Environment>) -> Result<Self, ServerError> {
        config.check()?;
        let store = tape_store::open::open_in(&config.store, Arc::clone(&environment)).await?;
        let doubt = Doubt::default();
        let store = Arc::new(HealthTracked::new(store, &doubt));
        let server = Self::over(config, Engine::start_in(store, environment))?;
        Ok(Self { doubt, ..server })
    }

    /// Listens, over an existing engine; the configuration's store is not opened.
    ///
    /// # Errors
    /// [`ServerError`] says why not.
    pub fn over(config: Config, engine: Engine) -> Result<Self, ServerError> {
        config.check()?;
        let io = |source| ServerError::Io {
            doing: "listens",
            source,
        };
        let listener = port::listen(config.listen).map_err(io)?;
        let address = listener.local_addr().map_err(io)?;
        Ok(Self {
            config,
            address,
            listener,
            engine,
            doubt: Doubt::default(),
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes the address into a file, atomically.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_address(&self, path: &Path) -> Result<(), ServerError> {
        let io = |source| ServerError::Io {
            doing: "writes the ready file",
            source,
        };
        let part = path.with_extension("part");
        std::fs::write(&part, format!("{}\n", self.address)).map_err(io)?;
        std::fs::rename(&part, path).map_err(io)
    }

    /// Serves until `stop`, then lets calls under way finish within the configured time.
    ///
    /// # Errors
    /// [`ServerError::Transport`] where the transport broke down.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let gate = Gate::default();
        let Config {
            lease_grace_ms,
            max_commands,
            drain_ms,
            ..
        } = self.config;
        let engine = self.engine.clone();
        let context = Context::new(self.engine, gate.clone(), lease_grace_ms, max_commands);
        let (health, routes) = routes(&context).await;
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        let silence = Duration::from_millis(self.config.silence_ms);
        let transport = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(self.config.max_streams)
            .http2_keepalive_interval(Some(silence * 2 / 3))
            .http2_keepalive_timeout(Some(NEVER))
            .layer(InterceptorLayer::new(port::asked))
            .layer(context.calls())
            .add_routes(routes);
        // The task ends when it is done, or with the server.
        let mut upkeep = tokio::task::JoinSet::new();
        let kept = engine.clone();
        upkeep.spawn(async move { kept.keep_index_current().await });
        let connections = port::connections(self.listener, self.config.max_connections, silence);
        let serving = transport.serve_with_incoming_shutdown(connections, async { drop(closed.await) });
        let mut serving = std::pin::pin!(serving);
        tracing::info!(address = %self.address, "serving");
        tokio::select! {
            // A transport that broke down is told as that, whatever else is due.
            biased;
            ended = &mut serving => return Ok(ended?),
            () = stop => {}
            never = health.follow(&engine, &self.doubt) => match never {},
        }
        let draining = async {
            health.set(false).await;
            if !gate.drain(Duration::from_millis(drain_ms)).await {
                tracing::warn!("calls are still under way; they are cut off");
            }
            // The transport may have ended by itself; then the receiver is gone.
            let _ = close.send(());
            tokio::time::sleep(CLOSING_PATIENCE).await;
        };
        tokio::select! {
            // So it is here.
            biased;
            ended = &mut serving => Ok(ended?),
            () = draining => Ok(()),
        }
    }
}

async fn routes(context: &Context) -> (Health, Routes) {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let health = Health::new(reporter).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tape_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptor sets were made by the compiler");
    let routes = Routes::new(context.runs())
        .add_service(context.sessions())
        .add_service(context.values())
        .add_service(context.relays())
        .add_service(context.feed())
        .add_service(context.streams())
        .add_service(context.work())
        .add_service(context.server())
        .add_service(context.retention())
        .add_service(health_service)
        .add_service(reflection);
    (health, routes)
}
