//! `tape`: shows a journal to people, and records their decisions.

mod act;
mod age;
mod agenda;
mod checkpoint;
mod consent;
mod driver;
mod erase;
mod export;
mod foreseen;
mod gates;
mod heads;
mod key;
mod list;
mod moment;
mod name;
mod overdue;
mod published;
mod queues;
mod reactions;
mod relay;
mod release;
mod remedy;
mod replacement;
mod retention;
mod runs;
mod sessions;
mod show;
mod stuck;
mod tail;
mod text;
mod timeline;
mod values;
mod verify;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
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

/// The environment variable that names the journal for the other programs.
const OTHERS: &str = "TAPE_STORE";

/// The exit code for arguments that cannot be read.
const MISUSED: u8 = 2;
/// The exit code for a journal that cannot be used as it is.
const DAMAGED: u8 = 4;
/// The exit code for everything else.
const FAILED: u8 = 1;

/// Shows a Tape journal, and tells its runs what people decide.
#[derive(Debug, Parser)]
#[command(name = "tape", version)]
struct Cli {
    /// The journal: a server, tape://HOST:PORT, or a store: sqlite:PATH and, if this build has them, postgres://, alloydb://, bigtable://
    /// and spanner://. Without it and TAPE_URL, TAPE_STORE is used, as in the other programs.
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
    /// The name to record in the journal. Commands that decide something or are irreversible need it.
    #[arg(long = "as", env = "TAPE_PRINCIPAL", value_name = "NAME", global = true)]
    principal: Option<Principal>,
    /// Runs irreversible commands without asking: `settle`, `release`, `cancel`, `erase`, `retention`, `agenda rebuild`,
    /// `relay reset`, `relay forget`.
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Runs(runs::Runs),
    Stuck(stuck::Stuck),
    Gates(gates::Gates),
    Sessions(sessions::Sessions),
    Values(values::Values),
    Queues(queues::Queues),
    Key(key::Key),
    Show(show::Show),
    Verify(verify::Verify),
    Export(export::Export),
    Heads(heads::Heads),
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
    Relay(relay::Relay),
    #[command(subcommand)]
    Reactions(reactions::Reactions),
}

impl Command {
    /// A tenant that was not typed gives way to what is named.
    fn forget_tenant(&mut self) {
        match self {
            Self::Verify(command) => command.forget_tenant(),
            Self::Export(command) => command.forget_tenant(),
            Self::Heads(command) => command.forget_tenant(),
            Self::Queues(command) => command.forget_tenant(),
            _ => {}
        }
    }

    /// Whether the exit code says something about all that there is, so that a part of it is no success.
    const fn vouches(&self) -> bool {
        matches!(
            self,
            Self::Verify(_) | Self::Export(_) | Self::Heads(_) | Self::Agenda(_)
        )
    }
}

/// Whether a tenant is on the command line, not only in the environment.
fn tenant_is_typed(given: &ArgMatches) -> bool {
    let of = given.subcommand().map(|(_, of)| of);
    let has_one = |of: &&ArgMatches| of.try_contains_id("tenant").unwrap_or(false);
    of.filter(has_one).and_then(|of| of.value_source("tenant")) == Some(ValueSource::CommandLine)
}

/// The context of a command.
struct Context<'a> {
    tape: Tape,
    consent: Consent,
    print: Printer<'a>,
}

impl Context<'_> {
    /// As [`Printer::say`].
    fn say(&mut self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        self.print.say(value, text)
    }

    /// Writes a note for people. With `--json` it is left out, since programs read the state themselves.
    fn note(&mut self, text: &str) -> Result<(), Failure> {
        if self.print.json { Ok(()) } else { self.line(text) }
    }

    /// As [`Printer::value`].
    fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.print.value(value)
    }

    /// As [`Printer::line`].
    fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.print.line(text)
    }
}

/// Prints what commands say.
struct Printer<'a> {
    json: bool,
    out: &'a mut (dyn Write + Send),
}

impl Printer<'_> {
    /// Writes a result: the value as JSON if `--json` is given, otherwise the text as a line.
    fn say(&mut self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            self.value(value)
        } else {
            self.line(text)
        }
    }

    /// Writes one line of JSON, the members of objects sorted by name, numbers as recorded, and strings with escapes for characters that
    /// could control a terminal.
    fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
        let text = canonical(&text).map_err(std::io::Error::other)?;
        Ok(writeln!(self.out, "{}", text::plain_json(&text))?)
    }

    /// Writes one line, even if the text contains line breaks.
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
    /// There is nothing to verify.
    #[error("{0}: there is nothing to verify")]
    Empty(String),
    /// A log of heads or a checkpoint of it does not hold.
    #[error("{0}")]
    Log(String),
    #[error("nothing was done: this {0}. Without a terminal to ask on, add --yes")]
    NotAgreed(String),
    #[error("nothing was done")]
    Declined,
    /// The reader of the output is gone.
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
    let read = given.and_then(|given| {
        let mut cli = Cli::from_arg_matches(&given)?;
        if !tenant_is_typed(&given) {
            cli.command.forget_tenant();
        }
        Ok(cli)
    });
    let mut cli = match read {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let others = || std::env::var(OTHERS).ok().filter(|url| !url.is_empty());
    cli.store = cli.store.or_else(others);
    let server = cli.store.as_ref().is_some_and(|url| url.starts_with("tape:"));
    let partial = cli.command.weight() == Weight::Light && !cli.command.vouches();
    let mut out: Box<dyn Write + Send> = match &cli.command {
        Command::Export(export) if export.fills_stdout() => Box::new(std::io::stderr()),
        _ => Box::new(std::io::stdout()),
    };
    match run(cli, out.as_mut()).await {
        Ok(code) => code,
        // A closed pipe, for example by `head`, is not a failure of a command that only shows. A command that decides something may not
        // have done it yet, and one that vouches for what it found has not looked at the rest.
        Err(Failure::Io(error)) if partial && error.kind() == std::io::ErrorKind::BrokenPipe => {
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
    let mut print = Printer { json: cli.json, out };
    let command = match cli.command {
        // A file is verified, and a log of heads is read, without a journal.
        Command::Verify(verify) if verify.reads_file() => return verify.run_on_file(&mut print),
        Command::Heads(heads) if heads.needs_no_journal() => return heads.without_journal(&mut print),
        command => command,
    };
    let tape = connect(cli.store, cli.principal).await?;
    let mut context = Context { tape, consent, print };
    let code = carry_out(command, &mut context).await?;
    context.consent.check();
    Ok(code)
}

async fn carry_out(command: Command, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    match command {
        Command::Runs(command) => command.run(context).await,
        Command::Stuck(command) => command.run(context).await,
        Command::Gates(command) => command.run(context).await,
        Command::Sessions(command) => command.run(context).await,
        Command::Values(command) => command.run(context).await,
        Command::Queues(command) => command.run(context).await,
        Command::Key(command) => command.run(context).await,
        Command::Show(command) => command.run(context).await,
        Command::Verify(command) => command.run(context).await,
        Command::Export(command) => command.run(context).await,
        Command::Heads(command) => command.run(context).await,
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
        Command::Relay(command) => command.run(context).await,
        Command::Reactions(command) => command.run(context).await,
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
        // A part of the URL that only the store checks.
        Error::Invalid { .. } => Failure::Misused(error),
        error => Failure::Open(error),
    })
}

/// Prints what is wrong with the arguments, or the requested help.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let short = text::cut(&text);
    if short == text {
        // With colours, if the terminal shows them.
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
    // If standard error is closed, only the exit code reports the error.
    let _ = std::io::stderr().write_all(text::cut(&lines).as_bytes());
}
