//! Programs of the workspace, beside the one that runs.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::process::Command;

/// The program `name` of a package, beside this one. It is built with these features where it is missing, and where cargo runs this program,
/// so that no outdated program runs; the tests' runner has built it already.
///
/// # Errors
/// Where it cannot be built.
pub(crate) fn built(package: &str, name: &str, features: &[&str]) -> Result<PathBuf, Error> {
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
    build(package, name, features, if release { "release" } else { "dev" })?;
    let built = candidates.into_iter().find(|path| path.is_file());
    let elsewhere = || Error::other(format!("{name} was built, but not beside this program"));
    built.ok_or_else(elsewhere)
}

fn build(package: &str, name: &str, features: &[&str], profile: &str) -> Result<(), Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "-p", package, "--bin", name])
        .args(["--profile", profile, "--features", &features.join(",")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    let failed = || Error::new(ErrorKind::NotFound, format!("cargo build -p {package} failed"));
    built.success().then_some(()).ok_or_else(failed)
}
