//! The binary `tape-server`.

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use std::process::ExitCode;
use std::sync::Arc;
use tape_environment::{Environment, machine};
use tape_program::{start_log, without_empty_variables};
use tape_server::config::Config;
use tape_server::server::{Server, ServerError};
use tape_server::shutdown;

/// The exit code for an invalid configuration, the same as for invalid flags.
const MISCONFIGURED: u8 = 2;

/// Makes the tables of a database, or brings them to the version of this build; servers may run meanwhile.
#[derive(Parser)]
#[command(name = "migrate")]
struct Migrate {
    /// The database: `postgres://...`, `alloydb://...` or `bigtable://PROJECT/INSTANCE/TABLE`.
    #[arg(long, env = "TAPE_STORE", value_name = "URL", hide_env_values = true)]
    store: String,
    /// Only says what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// The task of the program.
enum Task {
    Serve(Box<Config>),
    Migrate(Migrate),
}

impl Task {
    fn of_arguments() -> Result<Self, clap::Error> {
        let command = Config::command()
            .subcommand(Migrate::command())
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true);
        let matches = without_empty_variables(command).get_matches();
        match matches.subcommand() {
            Some((_, given)) => Ok(Self::Migrate(Migrate::from_arg_matches(given)?)),
            None => Ok(Self::Serve(Box::new(Config::from_arg_matches(&matches)?))),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Task::of_arguments().unwrap_or_else(|error| error.exit()) {
        Task::Serve(config) => serve_until_told(*config).await,
        Task::Migrate(task) => migrate(&task).await,
    }
}

async fn serve_until_told(config: Config) -> ExitCode {
    let started = start_log(&config.log);
    if let Err(problem) = started.and_then(|()| config.check().map_err(|refused| refused.to_string())) {
        eprintln!("tape-server: {problem}");
        return ExitCode::from(MISCONFIGURED);
    }
    match serve(config, machine()).await {
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

async fn serve(config: Config, environment: Arc<dyn Environment>) -> Result<(), ServerError> {
    let ready_file = config.ready_file.clone();
    // The handlers are installed before anything is announced, so that a signal after the announcement is not lost.
    let stop = shutdown::signalled().map_err(|source| ServerError::Io {
        doing: "listens for signals",
        source,
    })?;
    let server = Server::bind(config, environment).await?;
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
