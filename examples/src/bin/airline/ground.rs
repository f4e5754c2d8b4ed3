//! What the agents of a play stand on: Tape, or nothing but their own notes.

use crate::recording::Conversation;
use crate::verdict::{Kept, KeptDecision};
use anyhow::Result;
use std::path::{Path, PathBuf};
use tape_examples::notes;

/// How an agent begins its drive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// By itself.
    Anew,
}

/// What the agents stand on.
pub(crate) enum Ground {
    /// Notes files in a directory.
    Notes(PathBuf),
}

impl Ground {
    /// Starts what the agents need.
    pub(crate) fn notes(dir: &Path) -> Self {
        Self::Notes(dir.to_owned())
    }

    /// What an agent is told about it.
    pub(crate) fn args(&self, run: &str, begin: Begin) -> Vec<String> {
        match (self, begin) {
            (Self::Notes(dir), Begin::Anew) => {
                vec!["--notes".to_owned(), notes_file(dir, run).display().to_string()]
            }
        }
    }

    /// Waits until a run whose agent was killed may be driven again.
    pub(crate) async fn recover(&self, _run: &str) -> Result<Begin> {
        match self {
            // Nobody looks after such an agent; it is started again.
            Self::Notes(_) => Ok(Begin::Anew),
        }
    }

    /// Kills a server of the journal and starts it again.
    pub(crate) async fn kill_server(&self, _server: usize) -> Result<()> {
        match self {
            Self::Notes(_) => Ok(()),
        }
    }

    /// What was kept of the runs.
    pub(crate) async fn kept(&self, runs: &[Conversation]) -> Result<Vec<Kept>> {
        match self {
            Self::Notes(dir) => runs
                .iter()
                .map(|run| noted(&notes_file(dir, &run.name)))
                .collect(),
        }
    }
}

fn notes_file(dir: &Path, run: &str) -> PathBuf {
    dir.join(format!("{run}.notes"))
}

fn noted(file: &Path) -> Result<Kept> {
    let notes = notes::read(file)?;
    let decisions = notes
        .iter()
        .filter(|note| note.step == notes::DECISION)
        .enumerate();
    let decisions = decisions.map(|(k, note)| KeptDecision {
        k,
        message: note.value.clone(),
        at_us: note.at_us,
        epoch: None,
    });
    let decisions = decisions.collect();
    let heard = notes.iter().filter(|note| note.step.starts_with("user-"));
    let said = heard
        .filter_map(|note| Some(note.value["content"].as_str()?.to_owned()))
        .collect();
    let ended = notes.last().is_some_and(|note| note.step == notes::FINISHED);
    Ok(Kept {
        decisions,
        said,
        ended,
        chain: None,
    })
}
