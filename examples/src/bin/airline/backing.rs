//! The backing of a scenario's agents: Tape, or only their own notes.

use crate::journals::Journals;
use crate::recording::Conversation;
use crate::verdict::{Kept, KeptDecision};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use tape_examples::notes;
use tape_examples::recovery::Handover;
use tokio::sync::mpsc::UnboundedReceiver;

/// How an agent begins its drive.
#[derive(Debug)]
pub(crate) enum Begin {
    /// By itself.
    Anew,
    /// Recovery hands it the run.
    HandedOver(Handover),
}

/// The backing of the agents.
pub(crate) enum Backing {
    /// A journal, with recovery.
    Tape(Box<Journals>),
    /// Notes files in a directory.
    Notes(PathBuf),
}

/// The handovers of a run by recovery; none without recovery.
pub(crate) struct Handovers(Option<UnboundedReceiver<Handover>>);

impl Backing {
    /// Notes files in `dir`.
    pub(crate) fn notes(dir: &Path) -> Self {
        Self::Notes(dir.to_owned())
    }

    /// The arguments of an agent about it.
    pub(crate) fn args(&self, run: &str, begin: &Begin) -> Vec<String> {
        match self {
            Self::Notes(dir) => vec!["--notes".to_owned(), notes_file(dir, run).display().to_string()],
            Self::Tape(journals) => journals.args(begin),
        }
    }

    /// The handovers of a run by recovery. Must be requested before the run begins.
    pub(crate) fn handovers(&self, run: &str) -> Result<Handovers> {
        Ok(Handovers(match self {
            Self::Notes(_) => None,
            Self::Tape(journals) => Some(journals.handovers(run)?),
        }))
    }

    /// Waits until a run whose agent is gone may be driven again: returns how the drive begins, or none where the run has ended.
    pub(crate) async fn recover(&self, run: &str, handovers: &mut Handovers) -> Result<Option<Begin>> {
        match (self, &mut handovers.0) {
            (Self::Tape(journals), Some(handovers)) => journals.recover(run, handovers).await,
            // Such an agent has no recovery; it is started again.
            _ => Ok(Some(Begin::Anew)),
        }
    }

    /// The journals, where there are any.
    pub(crate) fn journals(&self) -> Result<&Journals> {
        match self {
            Self::Tape(journals) => Ok(journals),
            Self::Notes(_) => bail!("without Tape only the agents can be killed"),
        }
    }

    /// The records of the runs.
    pub(crate) async fn kept(&self, runs: &[Conversation]) -> Result<Vec<Kept>> {
        match self {
            Self::Tape(journals) => journals.kept(runs).await,
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
        ..Kept::default()
    })
}
