//! Programs of the workspace that a scenario starts beside its own.

use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// The program `name` of a package, beside this one. It is built where it is missing, and where cargo runs this program, so that no
/// outdated program runs; the tests' runner has built it already.
///
/// # Errors
/// Where it cannot be built.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // Test programs are one directory below.
    let beside = this.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    let candidates: Vec<PathBuf> = beside.collect();
    let found = candidates.iter().find(|path| path.is_file());
    let by_cargo = std::env::var_os("CARGO").is_some() && std::env::var_os("NEXTEST").is_none();
    if let Some(found) = found.filter(|_| !by_cargo) {
        return Ok(found.clone());
    }
    let release = this
        .ancestors()
        .any(|dir| dir.file_name().is_some_and(|name| name == "release"));
    if found.is_none() {
        eprintln!("{name} is not built yet; building it (once)");
    }
    build(package, name, if release { "release" } else { "dev" })?;
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("{name} was built, but not beside this program"))
}

fn build(package: &str, name: &str, profile: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let stores = [
        (cfg!(feature = "postgres"), "postgres"),
        (cfg!(feature = "bigtable"), "bigtable"),
        (cfg!(feature = "spanner"), "spanner"),
    ];
    let built = stores.iter().filter(|(built, _)| *built);
    let features: Vec<&str> = built.map(|(_, store)| *store).collect();
    let built = Command::new(cargo)
        .args(["build", "--quiet", "-p", package, "--bin", name])
        .args(["--profile", profile, "--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    ensure!(built.success(), "cargo build -p {package} failed");
    Ok(())
}
