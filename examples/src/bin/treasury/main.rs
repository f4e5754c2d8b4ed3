//! An agent closes the day's book of a treasury while it is killed at the worst moments.
//!
//! ```text
//! cargo run --release -p tape-examples --bin treasury
//! cargo run --release -p tape-examples --bin treasury -- --unprotected
//! ```
//!
//! With the feature `real-model` and a key in the environment (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY` or `GEMINI_API_KEY`), a real
//! model decides instead of the scripted one.

mod agent;
mod backing;
mod bank;
mod book;
#[cfg(feature = "real-model")]
mod real;
mod report;
mod scripted;
mod supervisor;

use crate::agent::Tools;
use crate::backing::Backing;
use crate::book::Book;
use crate::supervisor::Supervisor;
use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tape_client::core::id::Epoch;
use tape_client::{Begun, Tape};
use tape_examples::model::{self, Model};
use tape_examples::notes::{self, Notes};
use tape_examples::parent::Parent;
use tape_examples::processes::{self, Left, Processes, say};
use tape_examples::stops::{Stop, Stops, Victim};
use tape_examples::taped::Taped;
use tape_examples::upstream::{self, Upstream};
use tape_examples::{ledger, record};

/// The program's name in its error messages.
const NAME: &str = "treasury";
/// How long the agent waits in its process for a person before it leaves the wait to the journal.
const SUSPEND_AFTER: Duration = Duration::from_secs(60);
/// The amount reserved from the model's budget before each question, in millionths of a US dollar.
const RESERVE_MICRO_USD: u64 = 20_000;

/// Closes a day's book while the agent is killed at the worst moments.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    /// The same agent and the same kills without Tape: the agent keeps notes of its own.
    #[arg(long)]
    unprotected: bool,
}

/// The processes that the scenario starts.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Agent(AgentArgs),
    #[command(hide = true)]
    Bank { ledger: PathBuf },
    #[command(hide = true)]
    Model,
}

#[derive(Args)]
struct AgentArgs {
    #[arg(long)]
    bank: String,
    #[arg(long)]
    model: String,
    #[arg(long)]
    stops: String,
    #[arg(long, conflicts_with = "notes", required_unless_present = "notes")]
    tape: Option<String>,
    #[arg(long)]
    adopt: Option<u64>,
    #[arg(long)]
    notes: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.role {
        Some(role) => processes::told(NAME, run_role(role).await),
        None => processes::run(NAME, run(cli.unprotected)).await,
    }
}

async fn run_role(role: Role) -> Result<()> {
    let parent = Parent::attach();
    match role {
        Role::Agent(args) => be_agent(args, parent).await,
        Role::Bank { ledger } => upstream::serve(bank::Bank, &ledger, parent).await,
        #[cfg(feature = "real-model")]
        Role::Model if real::key_is_there() => model::serve(real::Real::new()?, parent).await,
        Role::Model => model::serve(scripted::Scripted, parent).await,
    }
}

async fn be_agent(args: AgentArgs, parent: Parent) -> Result<()> {
    let book = Book::of_the_day()?;
    let stops = Stops::new(serde_json::from_str::<Vec<Stop>>(&args.stops)?, parent.clone());
    let tools = Tools {
        run: "close".to_owned(),
        bank: Upstream::new(&args.bank),
        model: Model::new(&args.model),
        stops,
        parent: parent.clone(),
    };
    if let Some(file) = &args.notes {
        let mut notes = Notes::open(file, parent.clone())?;
        agent::close(&mut notes, &tools, &book).await?;
    } else {
        let url = args.tape.context("an agent stands on something")?;
        drive(&url, args.adopt, &tools, &book).await?;
    }
    parent.say("done");
    Ok(())
}

/// Drives the run over its journal.
async fn drive(url: &str, adopt: Option<u64>, tools: &Tools, book: &Book) -> Result<()> {
    let tape = Tape::at(url)
        .lease(backing::LEASE)
        .suspend_after(SUSPEND_AFTER)
        .connect()
        .await?;
    let mut run = tape
        .run(backing::run()?)
        .label("desk", &book.desk)
        .input_json(book);
    if let Some(epoch) = adopt {
        run = run.adopt(Epoch(epoch));
    }
    let Begun::Driving(run) = run.begin().await? else {
        return Ok(());
    };
    let taped = Taped::new(&tape, run).await?;
    let mut taped = taped
        .with_model_budget(book.model_budget_micro_usd, RESERVE_MICRO_USD)
        .await?;
    agent::close(&mut taped, tools, book).await
}

/// Runs the whole scenario and judges it.
async fn run(unprotected: bool) -> Result<()> {
    let book = Book::of_the_day()?;
    say(&format!(
        "An agent closes the book of {} for {}. A model decides, a bank acts, and the",
        book.desk, book.day
    ));
    say("agent between them is killed (SIGKILL) at the worst moments. All are processes of their own.");
    say(if unprotected {
        "This time without Tape: the agent notes each step that is finished in a file.\n"
    } else {
        ""
    });
    let dir = tempfile::tempdir()?;
    let processes = Processes::new(dir.path())?;
    with_processes(unprotected, dir.path(), &processes)
        .await
        .with_context(|| processes.said_last())
}

async fn with_processes(unprotected: bool, dir: &Path, processes: &Processes) -> Result<()> {
    let (books, notes) = (dir.join("ledger"), dir.join("notes"));
    let (_model, model_url) = processes.serve(["model"]).await?;
    let (bank, bank_url) = processes.serve(["bank", &books.display().to_string()]).await?;
    let mut left = supervisor::worst_moments();
    let backing = if unprotected {
        // There is no server that could be killed.
        left.retain(|stop| !matches!(stop.victim, Victim::Server(_)));
        Backing::Notes(notes.clone())
    } else {
        Backing::tape(dir, processes.errors()).await?
    };
    let args = ["agent", "--bank", &bank_url, "--model", &model_url]
        .map(str::to_owned)
        .to_vec();
    let mut supervisor = Supervisor {
        processes: processes.clone(),
        args,
        backing,
        bank,
        left: Left::all(left),
        kills: 0,
    };
    supervisor.run().await?;
    let scripted = !cfg!(feature = "real-model");
    if scripted {
        supervisor.left.none()?;
    }
    let (ledger, asked) = (ledger::read(&books)?, Model::new(&model_url).asked().await?);
    match supervisor.backing.client() {
        Some(tape) => show_journal(tape, &ledger, &asked, supervisor.kills).await,
        None => show_notes(&notes, &ledger, supervisor.kills),
    }
}

async fn show_journal(
    tape: &Tape,
    ledger: &[ledger::Line],
    asked: &[model::Asked],
    kills: usize,
) -> Result<()> {
    let run = backing::run()?;
    let record = record::read(tape, &run).await?;
    say(&format!("\n{}", report::journal(&record, &run, ledger)));
    let verdict = report::judge(&record, &run, ledger, asked)?;
    let chain = record
        .chain
        .as_ref()
        .map_err(|problem| anyhow::anyhow!("the chain is broken: {problem}"))?;
    let (entries, decisions) = (record.entries.len(), record.decisions()?.len());
    say(&format!(
        "The chain over {entries} entries verifies; it ends in {chain}."
    ));
    ensure!(record.completed(), "the run has not completed");
    ensure!(
        verdict.asked_twice == 0,
        "{} decisions were asked again after they were recorded",
        verdict.asked_twice
    );
    ensure!(
        verdict.done_twice == 0,
        "{} acts were done twice",
        verdict.done_twice
    );
    ensure!(
        verdict.lost == 0 && verdict.acts > 0,
        "{} acts were lost",
        verdict.lost
    );
    say(&format!(
        "The model was asked {} times for {decisions} decisions, never after one was recorded.",
        asked.len()
    ));
    say("Every act stands in the bank's ledger once.");
    say(&format!("treasury: kills={kills} {verdict} chain=ok"));
    Ok(())
}

fn show_notes(notes: &Path, ledger: &[ledger::Line], kills: usize) -> Result<()> {
    say(&format!("\n{}", report::notes(&notes::read(notes)?, ledger)));
    let (acts, done_twice) = report::acts(ledger);
    ensure!(done_twice > 0, "the kills did no harm");
    say(&format!(
        "{done_twice} of {acts} acts were done twice. Nothing in the agent's notes shows it."
    ));
    say(&format!(
        "treasury: kills={kills} acts={acts} done_twice={done_twice} chain=none"
    ));
    Ok(())
}
