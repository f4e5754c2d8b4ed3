//! Programs of the workspace that a scenario starts beside its own.

use crate::built::built;
use anyhow::Result;
use std::path::PathBuf;

/// The program `name` of a package, beside this one, with the same features as this one. It is built where it is missing, and where cargo runs
/// this program, so that no outdated program runs; the tests' runner has built it already.
///
/// # Errors
/// Where it cannot be built.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let features = [
        (cfg!(feature = "postgres"), "postgres"),
        (cfg!(feature = "bigtable"), "bigtable"),
        (cfg!(feature = "spanner"), "spanner"),
        (cfg!(feature = "pubsub") && package != "tape-server", "pubsub"),
    ];
    let features = features.iter().filter(|(built, _)| *built);
    let features: Vec<&str> = features.map(|(_, name)| *name).collect();
    Ok(built(package, name, &features)?)
}
