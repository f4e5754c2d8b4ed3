//! `tape`: looks into a journal and answers for people what only people can answer.

mod act;
mod age;
mod agenda;
mod consent;
mod driver;
mod erase;
mod export;
mod foreseen;
mod list;
mod name;
mod overdue;
mod release;
mod remedy;
mod retention;
mod runs;
mod show;
mod stuck;
mod tail;
mod text;
mod timeline;
mod verify;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use consent::{Consent, Weight};
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tape_client::core::causes::causes;
use tape_client::core::id::Principal;
use tape_client::core::json::canonical;
use tape_client::{Error, StoreUrl, Tape};
use tape_program::without_empty_variables;

/// The variable that tells the other programs where the journal is.
const OTHERS: &str = "TAPE_STORE";

/// The exit code for arguments that cannot be read.
const MISUSED: u8 = 2;
/// The exit code for a journal that cannot be used as it is.
const DAMAGED: u8 = 4;
/// The exit code for everything else.
const FAILED: u8 = 1;

/// Looks into a Tape journal, and tells its runs what people decide.
#[derive(Debug, Parser)]
#[command(name = "tape", version)]
struct Cli {
    /// The journal: a server, tape://HOST:PORT, or a store: sqlite:PATH, and where this build has them postgres://, alloydb://, bigtable://
    /// and spanner://. Without it and TAPE_URL, TAPE_STORE says it, as to the other programs.
    #[arg(
        long,
        env = "TAPE_URL",
        value_name = "URL",
        global = true,
        hide_env_values = true
    )]
    store: Option<String>,
    /// Prints JSON, one value a line.
    #[arg(long, global = true)]
    json: bool,
    /// In whose name, for the journal's record; what decides something or cannot be taken back needs it.
    #[arg(long = "as", env = "TAPE_PRINCIPAL", value_name = "NAME", global = true)]
    principal: Option<Principal>,
    /// Does without asking what cannot be taken back: `settle`, `release`, `cancel`, `erase`, `retention`, `agenda rebuild`.
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Runs(runs::Runs),
    Stuck(stuck::Stuck),
    Show(show::Show),
    Verify(verify::Verify),
    Export(export::Export),
    Tail(tail::Tail),
    Signal(act::Signal),
    Approve(act::Approve),
    Settle(act::Settle),
    Retry(act::Retry),
    Release(release::Release),
    Cancel(act::Cancel),
    Erase(erase::Erase),
    Retention(retention::Retention),
    Agenda(agenda::Agenda),
}

/// What every command gets.
struct Context<'a> {
    tape: Tape,
    json: bool,
    consent: Consent,
    out: &'a mut (dyn Write + Send),
}

impl Context<'_> {
    /// Writes what is to be said: the value where JSON was asked for, a line of the text otherwise.
    fn say(&mut self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            self.value(value)
        } else {
            self.line(text)
        }
    }

    /// Tells people what a command is about; programs read the state for themselves.
    fn note(&mut self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(text) }
    }

    /// Writes one line of JSON, the members of objects sorted by name, numbers to the letter, and strings with escapes for what could steer
    /// a terminal.
    fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
        let text = canonical(&text).map_err(std::io::Error::other)?;
        Ok(writeln!(self.out, "{}", text::plain_json(&text))?)
    }

    /// Writes one line, whatever the text has in it.
    fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", text::plain(text))?)
    }
}

/// Why the command ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tape(#[from] Error),
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(Error),
    /// An argument cannot be read.
    #[error(transparent)]
    Misused(Error),
    #[error("the journal has to say who decides this: say --as NAME, or set TAPE_PRINCIPAL")]
    Anonymous,
    /// A name cannot be read.
    #[error("{0}")]
    Named(String),
    /// There is nothing to look at.
    #[error("{0}: there is nothing to verify")]
    Empty(String),
    #[error("nothing was done: this {0}. Without a terminal to ask on, add --yes")]
    NotAgreed(String),
    #[error("nothing was done")]
    Declined,
    /// Who reads the output has gone.
    #[error("cannot write")]
    Io(#[from] std::io::Error),
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Tape(Error::Damaged { .. }) | Self::Open(Error::Damaged { .. }) => DAMAGED,
            Self::Misused(_) | Self::Named(_) => MISUSED,
            _ => FAILED,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let given = without_empty_variables(Cli::command()).try_get_matches();
    let mut cli = match given.and_then(|given| Cli::from_arg_matches(&given)) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let others = || std::env::var(OTHERS).ok().filter(|url| !url.is_empty());
    cli.store = cli.store.or_else(others);
    let server = cli.store.as_ref().is_some_and(|url| url.starts_with("tape:"));
    let light = cli.command.weight() == Weight::Light;
    let mut out: Box<dyn Write + Send> = match &cli.command {
        Command::Export(export) if export.fills_stdout() => Box::new(std::io::stderr()),
        _ => Box::new(std::io::stdout()),
    };
    match run(cli, out.as_mut()).await {
        Ok(code) => code,
        // A pipe that was closed, as by `head`, is no failure of what looks; what decides something may not have come to that.
        Err(Failure::Io(error)) if light && error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            explain(&failure, server);
            ExitCode::from(failure.code())
        }
    }
}

async fn run(cli: Cli, out: &mut (dyn Write + Send)) -> Result<ExitCode, Failure> {
    let consent = Consent::of(cli.command.weight(), cli.principal.is_some(), cli.yes)?;
    let tape = connect(cli.store, cli.principal).await?;
    let mut context = Context {
        tape,
        json: cli.json,
        consent,
        out,
    };
    let code = carry_out(cli.command, &mut context).await?;
    context.consent.check();
    Ok(code)
}

async fn carry_out(command: Command, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    match command {
        Command::Runs(command) => command.run(context).await,
        Command::Stuck(command) => command.run(context).await,
        Command::Show(command) => command.run(context).await,
        Command::Verify(command) => command.run(context).await,
        Command::Export(command) => command.run(context).await,
        Command::Tail(command) => command.run(context).await,
        Command::Signal(command) => command.run(context).await,
        Command::Approve(command) => command.run(context).await,
        Command::Settle(command) => command.run(context).await,
        Command::Release(command) => command.run(context).await,
        Command::Retry(command) => command.run(context).await,
        Command::Cancel(command) => command.run(context).await,
        Command::Erase(command) => command.run(context).await,
        Command::Retention(command) => command.run(context).await,
        Command::Agenda(command) => command.run(context).await,
    }
}

async fn connect(store: Option<String>, principal: Option<Principal>) -> Result<Tape, Failure> {
    let invalid = |problem: &str| Error::Invalid {
        what: "store",
        problem: problem.to_owned(),
    };
    let url =
        store.ok_or_else(|| Failure::Misused(invalid("say --store URL, or set TAPE_URL or TAPE_STORE")))?;
    url.parse::<StoreUrl>().map_err(Failure::Misused)?;
    if url == "memory:" {
        let problem = "a journal in memory is of one process, so this command would see an empty one: name a server or a file";
        return Err(Failure::Misused(invalid(problem)));
    }
    let connect = Tape::at_existing(&url).retry_for(Duration::from_secs(5));
    let tape = match principal {
        Some(principal) => connect.principal(principal).connect().await,
        None => connect.connect().await,
    };
    tape.map_err(|error| match error {
        // Something in the URL that only the store knows.
        Error::Invalid { .. } => Failure::Misused(error),
        error => Failure::Open(error),
    })
}

/// Says what is wrong with the arguments, or what was asked to be said about them.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let short = text::cut(&text);
    if short == text {
        // With colours, where they can be seen.
        error.exit();
    }
    let _ = std::io::stderr().write_all(short.as_bytes());
    ExitCode::from(MISUSED)
}

fn explain(failure: &Failure, server: bool) {
    let said = causes(failure);
    let said: Vec<_> = said.iter().map(|cause| text::plain(cause)).collect();
    let mut lines = format!("tape: {}\n", said.join("\n  because: "));
    let away = matches!(
        failure,
        Failure::Tape(Error::Unavailable { .. }) | Failure::Open(Error::Unavailable { .. })
    );
    if server && away {
        lines.push_str("  is the server up, and --store right?\n");
    }
    if matches!(failure, Failure::Tape(Error::Damaged { .. })) {
        lines.push_str("  `tape verify` says which streams are damaged and where; what is gone has to come from a backup\n");
    }
    // Where nobody can read the error, its exit code is left.
    let _ = std::io::stderr().write_all(text::cut(&lines).as_bytes());
}
