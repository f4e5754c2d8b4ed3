//! What the server says about itself: lines on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging what `filter` chooses. Standard output stays free for the one line that says where the server listens.
///
/// # Errors
/// The text of what is wrong with the filter.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter '{filter}': {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    lines.try_init().map_err(|error| error.to_string())
}
