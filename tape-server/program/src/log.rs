//! The log of a program: lines on standard error.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Starts logging what `filter` chooses, in colours where a terminal shows them and `NO_COLOR` does not forbid them. Standard output
/// stays free for the one line that says that the program is ready.
///
/// # Errors
/// The problem with the filter, as a text.
pub fn start_log(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter '{filter}': {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !colours_are_forbidden())
        .with_writer(std::io::stderr);
    lines.try_init().map_err(|error| error.to_string())
}

/// By <https://no-color.org>: the variable is set to anything but an empty text.
fn colours_are_forbidden() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
