//! Flags, and the variables of the environment that stand for them.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use tape_core::id::{Holder, RelayId, Seq, Tenant};
use tape_core::limits::{LEASE_MS_MIN, RELAY_LEASE_MS_MAX};

/// Longest name that is given to a process, in bytes: more is added to it.
const NAME_BYTES_MAX: usize = 100;

/// Sends the feed of a Tape journal to other systems: to Pub/Sub, to webhooks, to files. Any number of copies may run; each part of a relay
/// is carried by one of them at a time.
#[derive(Debug, Parser)]
#[command(name = "tape-relay", version)]
pub(crate) struct Flags {
    /// The journal: a server, `tape://HOST:PORT`, or directly a store: `sqlite:PATH`, `postgres://...`, `alloydb://...`,
    /// `bigtable://PROJECT/INSTANCE/TABLE` or `spanner://PROJECT/INSTANCE/DATABASE`.
    #[arg(
        long,
        env = "TAPE_STORE",
        value_name = "URL",
        hide_env_values = true,
        global = true,
        default_value = ""
    )]
    pub(crate) store: String,
    /// The relays and their sinks.
    #[arg(long, env = "TAPE_RELAY_CONFIG", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// What is logged to standard error, such as `info` or `tape_relay=debug,warn`.
    #[arg(
        long,
        env = "TAPE_LOG",
        value_name = "FILTER",
        default_value = "info",
        global = true
    )]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sends entries again that a sink refused for good, and puts on record those that it takes now.
    Redeliver(Redeliver),
}

/// Carrying relays.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Carries only these relays of the file.
    #[arg(long, env = "TAPE_RELAY_ONLY", value_name = "RELAY", value_delimiter = ',')]
    pub(crate) only: Vec<RelayId>,
    /// Carries the reactions of these tenants, too.
    #[arg(
        long,
        env = "TAPE_RELAY_REACTIONS",
        value_name = "TENANT",
        value_delimiter = ','
    )]
    pub(crate) reactions: Vec<Tenant>,
    /// How often the definitions of reactions are looked at, in milliseconds.
    #[arg(long, env = "TAPE_RELAY_REACTIONS_MS", value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(50..=3_600_000))]
    pub(crate) reactions_ms: u64,
    /// How long a copy that falls silent keeps the reactions that it carries, in milliseconds.
    #[arg(long, env = "TAPE_RELAY_REACTIONS_LEASE_MS", value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(LEASE_MS_MIN..=RELAY_LEASE_MS_MAX))]
    pub(crate) reactions_lease_ms: u64,
    /// Where health, readiness and numbers are answered, at `/healthz`, `/readyz` and `/metrics`; port 0 takes a free one.
    #[arg(long, env = "TAPE_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// The port to listen on at all addresses, as Cloud Run sets it; `--listen` and TAPE_LISTEN take precedence over PORT.
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The name under which parts are carried; by default the number of the process. Something unique is added.
    #[arg(long, env = "TAPE_HOLDER", value_name = "NAME")]
    pub(crate) holder: Option<HolderName>,
    /// After a stop signal, calls of sinks have this many milliseconds to finish; other processes take over the rest.
    #[arg(long, env = "TAPE_DRAIN_MS", value_name = "MS", default_value_t = 8_000)]
    pub(crate) drain_ms: u64,
}

/// Sending refused entries again.
#[derive(Debug, Args)]
pub(crate) struct Redeliver {
    /// The relay, as the file names it: `TENANT/NAME`, or `*/NAME`. That of a reaction is `TENANT/reaction:NAME`, and needs no file.
    pub(crate) relay: RelayId,
    /// The tenant whose refused entries are sent; needed for a relay of all tenants.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<Tenant>,
    /// Only these refusals: entries of the relay's stream, as `tape relay refused` lists them. All that are outstanding where none is given.
    #[arg(long, value_name = "SEQ", value_delimiter = ',', value_parser = seq)]
    pub(crate) refusal: Vec<Seq>,
}

fn seq(text: &str) -> Result<Seq, std::num::ParseIntError> {
    text.parse().map(Seq)
}

impl Run {
    /// Where to listen.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let everywhere = |port| SocketAddr::from(([0, 0, 0, 0], port));
        self.listen.or_else(|| self.port.map(everywhere))
    }
}

/// The name that is given to a process.
#[derive(Clone, Debug)]
pub(crate) struct HolderName(Holder);

impl HolderName {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for HolderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > NAME_BYTES_MAX {
            return Err(format!("has {} bytes, the limit is {NAME_BYTES_MAX}", text.len()));
        }
        Holder::new(text)
            .map(Self)
            .map_err(|invalid| invalid.problem.to_string())
    }
}
