//! `tape heads --consistency` and `--inclusion`: proofs from the log alone.

use super::Heads;
use crate::Failure;
use crate::checkpoint::log::{self, Log};
use crate::checkpoint::{base64, merkle};
use crate::name::of_tenant;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tape_client::Error;

impl Heads {
    /// Prints the proof that was asked for.
    pub(super) fn prove(self, json: bool, out: &mut dyn Write) -> Result<ExitCode, Failure> {
        let path = self.log.as_deref().expect("the arguments have a log");
        let log = read(path, self.size)?;
        of_tenant(self.tenant.as_ref(), log.streams().cloned())?;
        let size = log.size();
        let (index, proof) = if let Some(stream) = &self.inclusion {
            let absent = || Failure::Log(format!("{}: it has no line of {stream}", path.display()));
            let line = log.newest(stream).ok_or_else(absent)?;
            (Some(line.index), merkle::inclusion(line.index, log.leaves()))
        } else {
            let old = self.consistency.expect("one of the two is asked for");
            if old > size {
                return Err(too_large("consistency", old, size));
            }
            (None, merkle::consistency(old, log.leaves()))
        };
        let hashes: Vec<String> = proof.iter().map(base64).collect();
        if json {
            writeln!(out, "{}", json!({"index": index, "size": size, "hashes": hashes}))?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(index) = index {
            writeln!(out, "index {index}\nsize {size}")?;
        }
        for hash in hashes {
            writeln!(out, "{hash}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The whole lines of a log, or the first of them.
fn read(path: &Path, size: Option<usize>) -> Result<Log, Failure> {
    let wrong = |problem: String| Failure::Log(format!("{}: {problem}", path.display()));
    let bytes = fs::read(path).map_err(|error| {
        Failure::Misused(Error::Invalid {
            what: "log",
            problem: format!("{}: {error}", path.display()),
        })
    })?;
    let (whole, _) = log::whole(&bytes);
    let Some(size) = size else {
        return Log::parse(whole).map_err(wrong);
    };
    let lines = || whole.iter().filter(|byte| **byte == b'\n').count();
    let first = log::first(whole, size).ok_or_else(|| too_large("size", size, lines()))?;
    Log::parse(first).map_err(wrong)
}

fn too_large(what: &'static str, asked: usize, size: usize) -> Failure {
    Failure::Misused(Error::Invalid {
        what,
        problem: format!("the log has {size} lines, not {asked}"),
    })
}
