//! One play from beginning to end: it sets the scene, plays, and judges.

use crate::agreement::Agreement;
use crate::airline::Airline;
use crate::cli::{Play, Semantics};
use crate::ground::Ground;
use crate::journals::{self, Journals};
use crate::recording::{self, Conversation};
use crate::schedule::{Kills, Schedule};
use crate::soak;
use crate::stage::{Played, Runs, Stage};
use crate::verdict::Verdict;
use anyhow::{Context as _, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tape_examples::careless::Hold;
use tape_examples::child::Child;
use tape_examples::ledger;
use tape_examples::model::Model;
use tape_examples::stops::Victim;
use tape_examples::supervisor::{Troupe, say};

/// Where a play keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    /// The recorded runs.
    pub(crate) trajectories: PathBuf,
}

impl Files {
    /// The airline's ledger.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// The file with one recorded conversation.
    pub(crate) fn conversation(&self, run: &str) -> PathBuf {
        self.dir.join(format!("{run}.json"))
    }
}

/// The processes around the agents, and where the agents play.
pub(crate) struct Scene {
    pub(crate) stage: Arc<Stage>,
    pub(crate) airline: Airline,
    pub(crate) model: Model,
    pub(crate) _model: Child,
}

/// What came of a play.
pub(crate) struct Outcome {
    /// The runs that were played.
    runs: Vec<Conversation>,
    verdict: Verdict,
    /// None where acts have keys.
    agreement: Option<Agreement>,
}

/// Performs the whole play and judges it.
pub(crate) async fn perform(play: &Play) -> Result<()> {
    play.check()?;
    let runs = recording::read(&play.trajectories)?;
    let schedule = plan(play, &runs)?;
    let dir = tempfile::tempdir()?;
    let troupe = Troupe::new(dir.path())?;
    let open = Runs::default();
    let deadline = Duration::from_secs(play.deadline_seconds);
    let outcome = tokio::time::timeout(
        deadline,
        on_stage(play, &runs, &schedule, dir.path(), &troupe, &open),
    );
    let outcome = outcome.await.unwrap_or_else(|_| {
        Err(anyhow!(
            "after {} s {open} (--deadline-seconds)",
            play.deadline_seconds
        ))
    });
    let Outcome {
        runs,
        verdict,
        agreement,
    } = outcome.with_context(|| troupe.said_last())?;
    say(&verdict.to_string());
    if play.unprotected {
        ensure!(verdict.done_twice + verdict.lost > 0, "the kills did no harm");
        return Ok(());
    }
    agreement.map_or(Ok(()), |agreement| agreement.check())?;
    verdict.check(&runs)
}

/// Plans the kills; none where things are restarted at random moments.
fn plan(play: &Play, runs: &[Conversation]) -> Result<Schedule> {
    let decisions: usize = runs.iter().map(|run| run.decisions.len()).sum();
    say(&format!(
        "{} recorded conversations with {decisions} decisions, {} agents at a time",
        runs.len(),
        play.agents
    ));
    if play.soak.is_some() {
        return Ok(Schedule::default());
    }
    let kills = Kills {
        agents: play.agent_kills,
        servers: play.server_kills,
        of_servers: play.servers,
        reactors: play.reactor_kills(),
    };
    let mut schedule = Schedule::plan(runs, kills, play.seed)?;
    say(&format!(
        "{} kills are planned by seed {}; the digest of the schedule is {}",
        schedule.count(),
        play.seed,
        schedule.digest()
    ));
    if play.unprotected {
        // Without Tape there are no servers to kill.
        schedule
            .stops
            .iter_mut()
            .for_each(|stops| stops.retain(|stop| stop.victim == Victim::Agent));
    }
    Ok(schedule)
}

async fn on_stage(
    play: &Play,
    runs: &[Conversation],
    schedule: &Schedule,
    dir: &Path,
    troupe: &Troupe,
    open: &Runs,
) -> Result<Outcome> {
    let files = Files {
        dir: dir.to_owned(),
        trajectories: play.trajectories.clone(),
    };
    let scene = Scene::set(play, &files, &schedule.holds, troupe, open).await?;
    match play.soak {
        Some(length) => soak::play(play, scene, troupe, runs, length).await,
        None => scene.play(play, runs, schedule).await,
    }
}

impl Scene {
    async fn set(play: &Play, files: &Files, holds: &[Hold], troupe: &Troupe, open: &Runs) -> Result<Self> {
        let careless = play.semantics == Semantics::NonIdempotent || play.soak.is_some();
        let (process, model) = troupe.serve(["model".into(), files.trajectories.clone()]).await?;
        let airline = if careless {
            Airline::careless(troupe, files, play.seed, holds).await?
        } else {
            Airline::careful(troupe, files).await?
        };
        let ground = ground(play, files, troupe, &airline.url).await?;
        let stage = Stage::new(files, troupe, (&airline.url, careless), &model, ground, open);
        Ok(Self {
            stage: Arc::new(stage),
            airline,
            model: Model::new(&model),
            _model: process,
        })
    }

    /// Plays all runs once, with the kills of a schedule.
    async fn play(self, play: &Play, runs: &[Conversation], schedule: &Schedule) -> Result<Outcome> {
        let stage = Arc::clone(&self.stage);
        let played = stage.play(runs, schedule, play.agents, self.airline).await?;
        report(&played);
        judge(&self.stage, &self.model, runs.to_vec(), played.hit.len()).await
    }
}

/// Judges what was played.
pub(crate) async fn judge(
    stage: &Stage,
    model: &Model,
    runs: Vec<Conversation>,
    kills: usize,
) -> Result<Outcome> {
    let ledger = ledger::read(&stage.files.ledger())?;
    let kept = stage.ground.kept(&runs).await?;
    let asked = model.asked().await?;
    // Without Tape there is nothing to compare the ledger with.
    let compared = stage.careless && matches!(stage.ground, Ground::Tape(_));
    let agreement = compared.then(|| Agreement::of(&kept, &ledger));
    let verdict = Verdict::of(&runs, &kept, &asked, &ledger, agreement.as_ref(), kills);
    say(&format!(
        "the model was asked {} times for {} decisions",
        verdict.asked, verdict.decisions
    ));
    if let Some(agreement) = &agreement {
        say(&format!(
            "the ledger has {} lines; {} acts are in it and in the journals alike, {} of them undone in both",
            ledger.len(),
            agreement.acts,
            agreement.undone
        ));
    }
    Ok(Outcome {
        runs,
        verdict,
        agreement,
    })
}

async fn ground(play: &Play, files: &Files, troupe: &Troupe, airline: &str) -> Result<Ground> {
    if play.unprotected {
        return Ok(Ground::notes(&files.dir));
    }
    let own = || format!("sqlite:{}", files.dir.join("journal.db").display());
    let plan = journals::Plan {
        store: &play.store.clone().unwrap_or_else(own),
        servers: play.servers,
        reactors: play.reactors(),
        agents: play.agents,
        airline,
        dir: &files.dir,
        errors: troupe.errors(),
    };
    Ok(Ground::Tape(Box::new(Journals::start(&plan).await?)))
}

fn report(played: &Played) {
    let mut counts = BTreeMap::new();
    for stop in &played.hit {
        let who = match stop.victim {
            Victim::Agent | Victim::Answer => "agents",
            Victim::Server(_) => "servers",
            Victim::Reactor => "workers",
        };
        *counts.entry((who, stop.point)).or_insert(0) += 1;
    }
    say("killed with SIGKILL:");
    for ((who, point), count) in counts {
        say(&format!("  {count:>4} {who} {point}"));
    }
    if played.unplanned > 0 {
        say(&format!(
            "  {} drives ended early without a kill of their own and were taken up again",
            played.unplanned
        ));
    }
    if played.suspended > 0 {
        say(&format!(
            "  {} times a run waited without its agent for what workers did",
            played.suspended
        ));
    }
}
