//! The binary `tape-server`.

use clap::Parser as _;
use std::process::ExitCode;
use tape_server::config::Config;
use tape_server::server::{Server, ServerError};
use tape_server::{shutdown, telemetry};

/// The exit code for a configuration that cannot be served, as for flags that cannot be read.
const MISCONFIGURED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
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
