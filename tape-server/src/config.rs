//! The configuration of a server: flags, and for each a `TAPE_*` environment variable.

use clap::Parser;
use clap::builder::BoolishValueParser;
use std::net::SocketAddr;
use std::path::PathBuf;
use tape_core::limits::BACKOFF_MS_MAX;

/// The Tape server: the journal over gRPC.
#[derive(Clone, Debug, Parser)]
#[command(name = "tape-server", version)]
pub struct Config {
    /// The store: `sqlite:PATH`, `postgres://...`, `alloydb://...`, `bigtable://PROJECT/INSTANCE/TABLE`,
    /// `spanner://PROJECT/INSTANCE/DATABASE`, or `memory:` for one that ends with the server.
    #[arg(long, env = "TAPE_STORE", value_name = "URL", hide_env_values = true)]
    pub store: String,
    /// Where to listen; port 0 takes a free one, and the address is printed once the server is ready.
    #[arg(
        long,
        env = "TAPE_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7878"
    )]
    pub listen: SocketAddr,
    /// Serves every client that can reach the port, without authentication, also from other machines.
    #[arg(long, env = "TAPE_INSECURE", value_parser = BoolishValueParser::new())]
    pub insecure: bool,
    /// A client that closed its connection has this many milliseconds to reconnect, at most a day; then recovery may take the runs that it
    /// has not written to since. A silent connection ends no lease early.
    #[arg(long, env = "TAPE_LEASE_GRACE_MS", value_name = "MS", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(..=BACKOFF_MS_MAX))]
    pub lease_grace_ms: u64,
    /// A connection that is silent for this many milliseconds is closed; the server pings it before. Leases that are held over it continue.
    #[arg(long, env = "TAPE_SILENCE_MS", value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub silence_ms: u64,
    /// Most connections at a time, and fewer where the system lets the process open few files: some are left for the store. Where all are
    /// taken, the oldest one without a call so far is closed for a new one.
    #[arg(long, env = "TAPE_MAX_CONNECTIONS", value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Most calls under way on one connection at a time, streams among them.
    #[arg(long, env = "TAPE_MAX_STREAMS", value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_streams: u32,
    /// Most commands under way on one Drive stream at a time; further ones wait in the connection.
    #[arg(long, env = "TAPE_MAX_COMMANDS", value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_commands: u32,
    /// After a stop signal, calls under way have this many milliseconds to finish.
    #[arg(long, env = "TAPE_DRAIN_MS", value_name = "MS", default_value_t = 10_000)]
    pub drain_ms: u64,
    /// The address is written to this file, whole or not at all, once the server is ready.
    #[arg(long, env = "TAPE_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// What is logged to standard error, such as `info` or `tape_server=debug,warn`.
    #[arg(long, env = "TAPE_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// The configuration is refused because it is unsafe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Every client that reaches the address could read and write everything.
    #[error(
        "refusing to listen on {listen}: it can be reached from other machines, and this server has no authentication. \
         Listen on a loopback address such as 127.0.0.1:7878, or say --insecure if every client that can reach {listen} \
         may read and write every journal"
    )]
    Exposed {
        /// The address.
        listen: SocketAddr,
    },
}

impl Config {
    /// The defaults, for a store and an address.
    #[must_use]
    pub fn new(store: &str, listen: SocketAddr) -> Self {
        Self {
            store: store.to_owned(),
            listen,
            insecure: false,
            lease_grace_ms: 3_000,
            silence_ms: 15_000,
            max_connections: 4_096,
            max_streams: 16_384,
            max_commands: 1_024,
            drain_ms: 10_000,
            ready_file: None,
            log: "info".to_owned(),
        }
    }

    /// Refuses an unsafe configuration.
    ///
    /// # Errors
    /// [`Refused`] says what to change.
    pub fn check(&self) -> Result<(), Refused> {
        if self.insecure || self.listen.ip().is_loopback() {
            return Ok(());
        }
        Err(Refused::Exposed { listen: self.listen })
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use clap::Parser as _;

    #[test]
    fn defaults_are_the_same_in_both_ways() {
        let parsed = Config::parse_from(["tape-server", "--store", "memory:", "--listen", "127.0.0.1:0"]);
        let made = Config::new("memory:", "127.0.0.1:0".parse().unwrap());
        assert_eq!(format!("{parsed:?}"), format!("{made:?}"));
    }

    #[test]
    fn only_loopback_without_being_told() {
        for (listen, fine) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            let mut config = Config::new("memory:", listen.parse().unwrap());
            assert_eq!(config.check().is_ok(), fine, "{listen}");
            config.insecure = true;
            assert!(config.check().is_ok());
        }
    }
}
