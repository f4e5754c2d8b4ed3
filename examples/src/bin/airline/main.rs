//! Replays recorded runs of an airline's service agent while agents, servers and workers are killed, and counts the acts.
//!
//! ```text
//! cargo run --release -p tape-examples --bin airline -- --trajectories FILE --store sqlite:PATH \
//!     --agents 16 --agent-kills 400 --server-kills 50 --seed 1
//! cargo run --release -p tape-examples --bin airline -- --trajectories FILE --semantics non-idempotent \
//!     --agent-kills 400 --server-kills 50 --reactor-kills 200
//! cargo run --release -p tape-examples --features pubsub --bin airline -- --trajectories FILE --semantics non-idempotent \
//!     --wake pubsub --agent-kills 400 --server-kills 50 --reactor-kills 200 --relay-kills 100
//! cargo run --release -p tape-examples --bin airline -- --trajectories FILE --soak 10m
//! ```

mod agent;
mod agreement;
mod airline;
mod backing;
mod cli;
mod journals;
mod messages;
mod recording;
mod scenario;
mod schedule;
mod soak;
mod supervisor;
mod verdict;
mod world;

use crate::agent::{Talk, Tools, converse};
use crate::cli::{AgentArgs, Cli, NonIdempotentArgs, Role};
use crate::journals::run_id;
use crate::recording::Conversation;
use anyhow::{Result, anyhow, bail};
use clap::Parser as _;
use std::process::ExitCode;
use tape_client::core::id::Epoch;
use tape_client::{Begun, Error, RunId, Tape};
use tape_examples::model::{self, Model};
use tape_examples::non_idempotent_upstream::{self, Conduct};
use tape_examples::notes::Notes;
use tape_examples::parent::Parent;
use tape_examples::processes;
use tape_examples::stops::{Stop, Stops};
use tape_examples::taped::Taped;
use tape_examples::upstream::{self, Upstream};

/// The program's name in its error messages.
const NAME: &str = "airline";

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match (cli.role, cli.scenario) {
        (Some(role), _) => processes::told(NAME, run_role(role).await),
        (None, Some(scenario)) => processes::run(NAME, scenario::run(&scenario)).await,
        (None, None) => processes::told(NAME, Err(anyhow!("--trajectories is missing; see --help"))),
    }
}

async fn run_role(role: Role) -> Result<()> {
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
        Role::NonIdempotentAirline(args) => be_non_idempotent(args, parent).await,
        Role::Model { trajectories } => {
            model::serve(world::Recorded::of(&recording::read(&trajectories)?), parent).await
        }
    }
}

async fn be_non_idempotent(args: NonIdempotentArgs, parent: Parent) -> Result<()> {
    let desk = world::Airline::of(&recording::read(&args.trajectories)?);
    let conduct = Conduct {
        seed: args.seed,
        timeout: airline::TIMEOUT,
        holds: serde_json::from_slice(&std::fs::read(&args.holds)?)?,
    };
    non_idempotent_upstream::serve(desk, &args.ledger, &args.listen, conduct, parent).await
}

/// A non-idempotent airline has the name of the scenario, so that workers of another scenario over the same store leave its acts alone.
fn connector(args: &AgentArgs) -> String {
    let scenario = args.tenant.as_ref().filter(|_| args.non_idempotent);
    scenario.map_or_else(|| "airline".to_owned(), Clone::clone)
}

async fn be_agent(args: AgentArgs, parent: Parent) -> Result<()> {
    let conversation: Conversation = serde_json::from_slice(&std::fs::read(&args.conversation)?)?;
    let stops = Stops::new(serde_json::from_str::<Vec<Stop>>(&args.stops)?, parent.clone());
    let (mut airline, model) = (Upstream::new(&args.airline), Model::new(&args.model));
    if args.non_idempotent {
        airline = airline.timeout(airline::TIMEOUT);
    }
    let tools = Tools {
        airline,
        connector: connector(&args),
        non_idempotent: args.non_idempotent,
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
            match drive(url, run, args.adopt, &tools, &talk).await {
                Err(error) if matches!(error.downcast_ref(), Some(Error::Suspended)) => {
                    parent.say("suspended");
                    return Ok(());
                }
                driven => driven?,
            }
        }
        _ => bail!("an agent stands on something"),
    }
    parent.say("done");
    Ok(())
}

/// Drives a conversation's run over its journal.
async fn drive(url: &str, run: RunId, adopt: Option<u64>, tools: &Tools, talk: &Talk) -> Result<()> {
    let tape = Tape::at(url)
        .lease(journals::LEASE)
        .suspend_after(journals::SUSPEND_AFTER)
        .connect()
        .await?;
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
