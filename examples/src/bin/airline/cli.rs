//! The command line, for users and for the processes that the scenario starts.

use crate::schedule;
use crate::soak::Length;
use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Replays recorded agent runs over Tape while agents, servers and workers are killed.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    #[command(flatten)]
    pub(crate) scenario: Option<Scenario>,
}

/// The longest deadline.
const MONTH_SECONDS: u64 = 31 * 86_400;
/// The default number of workers.
const REACTORS: usize = 4;
/// The default number of kills of workers.
const REACTOR_KILLS: usize = 200;
/// The default number of relays.
const RELAYS: usize = 2;
/// The default number of kills of relays.
const RELAY_KILLS: usize = 100;

#[derive(Args)]
pub(crate) struct Scenario {
    /// The recorded runs.
    #[arg(long)]
    pub(crate) trajectories: PathBuf,
    /// The store of the journals, such as `sqlite:airline.db`; without it, an SQLite file that is removed at the end.
    #[arg(long, value_parser = shared_store)]
    pub(crate) store: Option<String>,
    /// What happens at the airline if an act is sent twice. A non-idempotent airline ignores idempotency keys, loses and delays answers,
    /// and can be asked by business key only; workers make the calls that change something.
    #[arg(long, value_enum, default_value_t = Semantics::Idempotent)]
    pub(crate) semantics: Semantics,
    /// How many servers serve the store; with none, agents and workers open it themselves.
    #[arg(long, default_value_t = 1)]
    pub(crate) servers: usize,
    /// How many workers there are: processes of `tape-reactor` [default: 4].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    reactors: Option<u16>,
    /// How many agents run at the same time.
    #[arg(long, default_value_t = 16)]
    pub(crate) agents: usize,
    /// How many times an agent is killed.
    #[arg(long, default_value_t = 400)]
    pub(crate) agent_kills: usize,
    /// How many times a server is killed.
    #[arg(long, default_value_t = 50)]
    pub(crate) server_kills: usize,
    /// How many times a worker is killed [default: 200].
    #[arg(long)]
    reactor_kills: Option<usize>,
    /// What wakes the workers: the journal, or messages of Pub/Sub alone, one for each entry, which relays publish. Then the workers do not
    /// sweep. The emulator of Pub/Sub is the one that PUBSUB_EMULATOR_HOST names, or else is started where it is installed.
    #[arg(long, value_enum, default_value_t = WakeBy::Poll)]
    pub(crate) wake: WakeBy,
    /// With `--wake pubsub`: how many relays compete, processes of `tape-relay` [default: 2].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    relays: Option<u16>,
    /// With `--wake pubsub`: how many times a relay is killed, at random moments [default: 100].
    #[arg(long)]
    relay_kills: Option<usize>,
    /// The seed of the schedule of kills and of the airline's failures: a number, or any other text.
    #[arg(long, default_value = "1", value_parser = schedule::seed)]
    pub(crate) seed: u64,
    /// After this many seconds the scenario fails and lists the runs that are still open.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=MONTH_SECONDS))]
    pub(crate) deadline_seconds: u64,
    /// Runs the agents without Tape, on their own notes, under the same kills of agents.
    #[arg(long)]
    pub(crate) unprotected: bool,
    /// Replays the runs repeatedly under new names, for a time (`90s`, `10m`) or a number of rounds (`3rounds`), while agents, servers,
    /// workers and the airline, which is not idempotent, are restarted repeatedly.
    #[arg(long, conflicts_with_all = ["unprotected", "agent_kills", "server_kills", "reactor_kills", "relay_kills"])]
    pub(crate) soak: Option<Length>,
}

/// What happens at the airline if an act is sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Semantics {
    /// It honours the key, and acts once. Agents act themselves.
    Idempotent,
    /// It acts twice. Agents leave their acts to workers.
    NonIdempotent,
}

/// What wakes the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WakeBy {
    /// The journal.
    Poll,
    /// Messages of Pub/Sub.
    Pubsub,
}

impl Scenario {
    /// How many workers the scenario has.
    pub(crate) fn reactors(&self) -> Option<usize> {
        let workers = self.semantics == Semantics::NonIdempotent && !self.unprotected;
        (workers || self.soak.is_some()).then(|| self.reactors.map_or(REACTORS, usize::from))
    }

    /// How many times a worker is killed.
    pub(crate) fn reactor_kills(&self) -> Option<usize> {
        let kills = self.reactor_kills.unwrap_or(REACTOR_KILLS);
        self.reactors().map(|_| kills)
    }

    /// How many relays publish the messages that wake the workers; none where the journal wakes them.
    pub(crate) fn relays(&self) -> Option<usize> {
        (self.wake == WakeBy::Pubsub).then(|| self.relays.map_or(RELAYS, usize::from))
    }

    /// How many times a relay is killed.
    pub(crate) fn relay_kills(&self) -> usize {
        self.relays()
            .map_or(0, |_| self.relay_kills.unwrap_or(RELAY_KILLS))
    }

    /// Checks what depends on more than one flag.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.unprotected || self.servers > 0 || self.server_kills == 0 || self.soak.is_some(),
            "without servers, none can be killed"
        );
        ensure!(
            self.soak.is_none() || self.servers > 0,
            "a soak restarts servers, and wants some"
        );
        let workers = self.semantics == Semantics::NonIdempotent || self.soak.is_some();
        ensure!(
            workers || (self.reactors.is_none() && self.reactor_kills.is_none()),
            "an idempotent airline is called by the agents themselves: there are no workers without --semantics non-idempotent"
        );
        self.check_wake()
    }

    fn check_wake(&self) -> Result<()> {
        if self.wake == WakeBy::Poll {
            ensure!(
                self.relays.is_none() && self.relay_kills.is_none(),
                "the journal wakes the workers: there are no relays without --wake pubsub"
            );
            return Ok(());
        }
        ensure!(
            cfg!(feature = "pubsub"),
            "this build has no Pub/Sub: build it with --features pubsub"
        );
        ensure!(
            self.reactors().is_some(),
            "--wake pubsub is about workers: there are none without --semantics non-idempotent, and with --unprotected"
        );
        Ok(())
    }
}

/// A store that all processes of the scenario share.
fn shared_store(url: &str) -> Result<String> {
    ensure!(
        url != "memory:",
        "a store in memory is not shared: servers, agents and recovery are processes of their own, and each would have an empty \
         one; say sqlite:PATH, or leave --store out for a file that is removed at the end"
    );
    Ok(url.to_owned())
}

/// The processes that the scenario starts.
#[derive(Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Agent(AgentArgs),
    #[command(hide = true)]
    Airline { trajectories: PathBuf, ledger: PathBuf },
    #[command(hide = true)]
    NonIdempotentAirline(NonIdempotentArgs),
    #[command(hide = true)]
    Model { trajectories: PathBuf },
}

#[derive(Args)]
pub(crate) struct AgentArgs {
    #[arg(long)]
    pub(crate) conversation: PathBuf,
    #[arg(long)]
    pub(crate) airline: String,
    /// Whether the airline is non-idempotent.
    #[arg(long)]
    pub(crate) non_idempotent: bool,
    #[arg(long)]
    pub(crate) model: String,
    #[arg(long)]
    pub(crate) stops: String,
    #[arg(long, requires = "tenant", required_unless_present = "notes")]
    pub(crate) tape: Option<String>,
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    #[arg(long)]
    pub(crate) adopt: Option<u64>,
    #[arg(long)]
    pub(crate) notes: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct NonIdempotentArgs {
    pub(crate) trajectories: PathBuf,
    pub(crate) ledger: PathBuf,
    #[arg(long)]
    pub(crate) listen: String,
    #[arg(long)]
    pub(crate) seed: u64,
    /// A file with the calls that are held.
    #[arg(long)]
    pub(crate) holds: PathBuf,
}
