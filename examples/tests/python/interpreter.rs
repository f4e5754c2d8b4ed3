//! The Python that the test runs, and the modules that it makes of the contract.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::process::Command;

/// An interpreter with the packages of `requirements.txt`, and modules that are generated from the contract.
#[derive(Clone)]
pub(crate) struct Python {
    program: PathBuf,
    generated: Arc<tempfile::TempDir>,
}

impl Python {
    /// That of `TAPE_PYTHON`, or of the virtual environment that `.ci/setup` makes. None where it is missing: the test says so and passes,
    /// but in CI it fails.
    pub(crate) async fn find() -> Result<Option<Self>> {
        let program = program();
        if !has_packages(&program).await {
            let missing = format!(
                "{} is missing, or lacks packages: run .ci/setup",
                program.display()
            );
            ensure!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
            eprintln!("SKIPPED: {missing}");
            return Ok(None);
        }
        let generated = Arc::new(tempfile::tempdir()?);
        generate(&program, generated.path()).await?;
        Ok(Some(Self { program, generated }))
    }

    /// The agent in Python, without its arguments.
    pub(crate) fn agent(&self) -> Command {
        let mut agent = Command::new(&self.program);
        agent
            .arg(here().join("agent.py"))
            .env("PYTHONPATH", self.generated.path());
        agent.env("PYTHONDONTWRITEBYTECODE", "1");
        agent
    }
}

fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("TAPE_PYTHON") {
        return program.into();
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(home);
    cache.unwrap_or_default().join("tape-python/bin/python")
}

async fn has_packages(program: &Path) -> bool {
    let check = Command::new(program)
        .args(["-c", "import grpc, grpc_status, grpc_tools"])
        .output()
        .await;
    check.is_ok_and(|output| output.status.success())
}

async fn generate(program: &Path, out: &Path) -> Result<()> {
    let contract = here().join("../../../tape-client/proto/proto");
    let files = std::fs::read_dir(contract.join("tape/v1"))?;
    let files: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    let mut protoc = Command::new(program);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&contract);
    for flag in ["--python_out", "--grpc_python_out"] {
        protoc.arg(format!("{flag}={}", out.display()));
    }
    let made = protoc
        .args(&files)
        .output()
        .await
        .context("protoc does not start")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}
