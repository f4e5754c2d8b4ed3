//! The binary `tape-server`.

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use tape_server::config::Config;
use tape_server::server::{Server, ServerError};
use tape_server::{shutdown, telemetry};

/// The exit code for a configuration that cannot be served, as for flags that cannot be read.
const MISCONFIGURED: u8 = 2;

/// The Tape server: the journal over gRPC.
#[derive(Parser)]
#[command(
    name = "tape-server",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    config: Option<Config>,
}

#[derive(Subcommand)]
enum Task {
    /// Makes the tables of a database, or brings them to the version of this build; servers may run meanwhile.
    Migrate(Migrate),
}

#[derive(Args)]
struct Migrate {
    /// The database: `postgres://...` or `alloydb://...`.
    #[arg(long, env = "TAPE_STORE", value_name = "URL", hide_env_values = true)]
    store: String,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Task::Migrate(task)) = cli.task {
        return migrate(&task).await;
    }
    let config = cli.config.unwrap_or_else(Config::parse);
    let started = telemetry::start(&config.log);
    if let Err(problem) = started.and_then(|()| config.check().map_err(|refused| refused.to_string())) {
        eprintln!("tape-server: {problem}");
        return ExitCode::from(MISCONFIGURED);
    }
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tape-server: {}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the line says what was done")]
async fn migrate(task: &Migrate) -> ExitCode {
    match tape_store::open::migrate(&task.store, task.dry_run).await {
        Ok(done) => {
            let word = if task.dry_run { "would migrate" } else { "migrated" };
            if done.from == done.to {
                println!("the database is at schema version {}", done.to);
            } else {
                println!(
                    "{word} the database from schema version {} to {}",
                    done.from, done.to
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tape-server: {}", ServerError::from(error).with_causes());
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<(), ServerError> {
    let ready_file = config.ready_file.clone();
    // Listened for before anything is announced: a signal that follows the announcement is not lost.
    let stop = shutdown::signalled().map_err(|source| ServerError::Io {
        doing: "listens for signals",
        source,
    })?;
    let server = Server::bind(config).await?;
    announce(&server, ready_file.as_deref())?;
    server.run(stop).await
}

#[expect(clippy::print_stdout, reason = "the line says where the server listens")]
fn announce(server: &Server, ready_file: Option<&std::path::Path>) -> Result<(), ServerError> {
    if let Some(path) = ready_file {
        server.write_address(path)?;
    }
    println!("tape-server listening on {}", server.address());
    Ok(())
}
