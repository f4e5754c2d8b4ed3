//! Replays recorded runs of an airline's service agent while agents and servers are killed, and counts what was done.
//!
//! ```text
//! cargo run --release -p tape-examples --bin airline -- --trajectories FILE --store sqlite:PATH \
//!     --agents 16 --agent-kills 400 --server-kills 50 --seed 1
//! ```

mod agent;
mod ground;
mod recording;
mod schedule;
mod stage;
mod verdict;
mod world;

use crate::agent::{Talk, Tools, converse};
use crate::ground::{Ground, run_id};
use crate::recording::Conversation;
use crate::schedule::{Kills, Schedule};
use crate::stage::{Open, Played, Stage, conversation_file};
use crate::verdict::Verdict;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tape_client::core::id::Epoch;
use tape_client::{Begun, RunId, Tape};
use tape_examples::model::{self, Model};
use tape_examples::notes::Notes;
use tape_examples::parent::Parent;
use tape_examples::stops::{Stop, Stops, Victim};
use tape_examples::supervisor::{Troupe, say};
use tape_examples::taped::Taped;
use tape_examples::upstream::{self, Upstream};
use tape_examples::{ledger, supervisor};

/// Replays recorded agent runs over Tape while agents and servers are killed.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    play: Option<Play>,
}

/// The longest deadline.
const MONTH_SECONDS: u64 = 31 * 86_400;

#[derive(Args)]
struct Play {
    /// The recorded runs.
    #[arg(long)]
    trajectories: PathBuf,
    /// The store of the journals, such as `sqlite:airline.db`; without it, an SQLite file that is removed at the end.
    #[arg(long, value_parser = shared_store)]
    store: Option<String>,
    /// How many servers serve the store; with none, the agents open it themselves.
    #[arg(long, default_value_t = 1)]
    servers: usize,
    /// How many agents run at the same time.
    #[arg(long, default_value_t = 16)]
    agents: usize,
    /// How many times an agent is killed.
    #[arg(long, default_value_t = 400)]
    agent_kills: usize,
    /// How many times a server is killed.
    #[arg(long, default_value_t = 50)]
    server_kills: usize,
    /// The seed of the schedule of kills: a number, or any other text.
    #[arg(long, default_value = "1", value_parser = schedule::seed)]
    seed: u64,
    /// After so many seconds the play fails and says which runs are still open.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=MONTH_SECONDS))]
    deadline_seconds: u64,
    /// Runs the agents without Tape, on their own notes, under the same kills of agents.
    #[arg(long)]
    unprotected: bool,
}

/// Under which name it says why it fails.
const NAME: &str = "airline";

/// A store that all processes of the play see alike.
fn shared_store(url: &str) -> Result<String> {
    ensure!(
        url != "memory:",
        "a store in memory is not shared: servers, agents and recovery are processes of their own, and each would have an empty \
         one; say sqlite:PATH, or leave --store out for a file that is removed at the end"
    );
    Ok(url.to_owned())
}

/// The processes that the play starts.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Agent(AgentArgs),
    #[command(hide = true)]
    Airline { trajectories: PathBuf, ledger: PathBuf },
    #[command(hide = true)]
    Model { trajectories: PathBuf },
}

#[derive(Args)]
struct AgentArgs {
    #[arg(long)]
    conversation: PathBuf,
    #[arg(long)]
    airline: String,
    #[arg(long)]
    model: String,
    #[arg(long)]
    stops: String,
    #[arg(long, requires = "tenant", required_unless_present = "notes")]
    tape: Option<String>,
    #[arg(long)]
    tenant: Option<String>,
    #[arg(long)]
    adopt: Option<u64>,
    #[arg(long)]
    notes: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match (cli.role, cli.play) {
        (Some(role), _) => supervisor::told(NAME, play_role(role).await),
        (None, Some(play)) => supervisor::perform(NAME, perform(&play)).await,
        (None, None) => supervisor::told(NAME, Err(anyhow!("--trajectories is missing; see --help"))),
    }
}

async fn play_role(role: Role) -> Result<()> {
    let parent = Parent::attach();
    match role {
        Role::Agent(args) => be_agent(args, parent).await,
        Role::Airline { trajectories, ledger } => {
            upstream::serve(
                world::Airline::of(&recording::read(&trajectories)?),
                &ledger,
                parent,
            )
            .await
        }
        Role::Model { trajectories } => {
            model::serve(world::Recorded::of(&recording::read(&trajectories)?), parent).await
        }
    }
}

async fn be_agent(args: AgentArgs, parent: Parent) -> Result<()> {
    let conversation: Conversation = serde_json::from_slice(&std::fs::read(&args.conversation)?)?;
    let stops = Stops::new(serde_json::from_str::<Vec<Stop>>(&args.stops)?, parent.clone());
    let (airline, model) = (Upstream::new(&args.airline), Model::new(&args.model));
    let tools = Tools {
        airline,
        model,
        stops,
        parent: parent.clone(),
    };
    let talk = Talk::of(&conversation);
    match (&args.notes, &args.tape, &args.tenant) {
        (Some(file), _, _) => {
            let mut notes = Notes::open(file, parent.clone())?;
            parent.say("begun");
            converse(&mut notes, &tools, &talk).await?;
        }
        (None, Some(url), Some(tenant)) => {
            let run = run_id(tenant, &conversation.name)?;
            drive(url, run, args.adopt, &tools, &talk).await?;
        }
        _ => bail!("an agent stands on something"),
    }
    parent.say("done");
    Ok(())
}

/// Drives a conversation's run over its journal.
async fn drive(url: &str, run: RunId, adopt: Option<u64>, tools: &Tools, talk: &Talk) -> Result<()> {
    let tape = Tape::at(url).lease(ground::LEASE).connect().await?;
    let mut run = tape
        .run(run)
        .input_json(&serde_json::json!({ "decisions_max": talk.decisions_max }));
    if let Some(epoch) = adopt {
        run = run.adopt(Epoch(epoch));
    }
    let Begun::Driving(run) = run.begin().await? else {
        return Ok(());
    };
    tools.parent.say("begun");
    let mut taped = Taped::new(&tape, run).await?;
    converse(&mut taped, tools, talk).await
}

/// Performs the whole play and judges it.
async fn perform(play: &Play) -> Result<()> {
    let runs = recording::read(&play.trajectories)?;
    ensure!(
        play.unprotected || play.servers > 0 || play.server_kills == 0,
        "without servers, none can be killed"
    );
    let kills = Kills {
        agents: play.agent_kills,
        servers: play.server_kills,
        of_servers: play.servers,
    };
    let mut schedule = Schedule::plan(&runs, kills, play.seed)?;
    announce(play, &runs, &schedule);
    if play.unprotected {
        // Without Tape there are no servers to kill.
        schedule
            .stops
            .iter_mut()
            .for_each(|stops| stops.retain(|stop| stop.victim == Victim::Agent));
    }
    let dir = tempfile::tempdir()?;
    let troupe = Troupe::new(dir.path())?;
    let open = Open::of(&runs);
    let deadline = Duration::from_secs(play.deadline_seconds);
    let verdict = tokio::time::timeout(
        deadline,
        on_stage(play, &runs, &schedule, dir.path(), &troupe, &open),
    );
    let verdict = verdict.await.unwrap_or_else(|_| {
        Err(anyhow!(
            "after {} s {open} (--deadline-seconds)",
            play.deadline_seconds
        ))
    });
    let verdict = verdict.with_context(|| troupe.said_last())?;
    say(&verdict.to_string());
    if play.unprotected {
        ensure!(verdict.done_twice + verdict.lost > 0, "the kills did no harm");
        return Ok(());
    }
    verdict.check(&runs)
}

fn announce(play: &Play, runs: &[Conversation], schedule: &Schedule) {
    let decisions: usize = runs.iter().map(|run| run.decisions.len()).sum();
    let (agents, runs) = (play.agents, runs.len());
    say(&format!(
        "{runs} recorded conversations with {decisions} decisions, {agents} agents at a time"
    ));
    let seed = play.seed;
    let stops = schedule.all().count();
    say(&format!(
        "{stops} kills are planned by seed {seed}; the digest of the schedule is {}",
        schedule.digest()
    ));
}

async fn on_stage(
    play: &Play,
    runs: &[Conversation],
    schedule: &Schedule,
    dir: &Path,
    troupe: &Troupe,
    open: &Open,
) -> Result<Verdict> {
    for run in runs {
        std::fs::write(conversation_file(dir, &run.name), serde_json::to_vec(run)?)?;
    }
    let trajectories = play.trajectories.display().to_string();
    let ledger = dir.join("ledger");
    let (_model, model_url) = troupe.serve(["model", &trajectories]).await?;
    let (airline, airline_url) = troupe
        .serve(["airline", &trajectories, &ledger.display().to_string()])
        .await?;
    let ground = if play.unprotected {
        Ground::notes(dir)
    } else {
        let store = play
            .store
            .clone()
            .unwrap_or_else(|| format!("sqlite:{}", dir.join("journal.db").display()));
        Ground::tape(&store, play.servers, play.agents, runs, troupe.errors()).await?
    };
    let stage = Arc::new(Stage::new(dir, troupe, &airline_url, &model_url, ground, open));
    let played = Arc::clone(&stage)
        .play(runs, &schedule.stops, play.agents, airline)
        .await?;
    report(&played);
    let kept = stage.ground.kept(runs).await?;
    let asked = Model::new(&model_url).asked().await?;
    let verdict = Verdict::of(runs, &kept, &asked, &ledger::read(&ledger)?, played.hit.len());
    say(&format!(
        "the model was asked {} times for {} decisions",
        verdict.asked, verdict.decisions
    ));
    Ok(verdict)
}

fn report(played: &Played) {
    let mut counts = BTreeMap::new();
    for stop in &played.hit {
        *counts
            .entry((stop.victim != Victim::Agent, stop.point))
            .or_insert(0) += 1;
    }
    say("killed with SIGKILL:");
    for ((server, point), count) in counts {
        let who = if server { "servers" } else { "agents" };
        say(&format!("  {count:>4} {who} {point}"));
    }
    if played.unplanned > 0 {
        say(&format!(
            "  {} drives ended early without a kill of their own and were taken up again",
            played.unplanned
        ));
    }
}
