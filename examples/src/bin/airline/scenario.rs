//! One scenario from beginning to end: it starts the processes, runs the agents, and judges.

use crate::agreement::Agreement;
use crate::airline::Airline;
use crate::backing::Backing;
use crate::cli::{Scenario, Semantics};
use crate::journals::{self, Journals};
use crate::recording::{self, Conversation};
use crate::schedule::{Kills, Schedule};
use crate::soak;
use crate::supervisor::{Played, Runs, Supervisor};
use crate::verdict::Verdict;
use anyhow::{Context as _, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tape_examples::child::Child;
use tape_examples::ledger;
use tape_examples::model::Model;
use tape_examples::non_idempotent_upstream::Hold;
use tape_examples::processes::{Processes, say};
use tape_examples::stops::Victim;

/// Where a scenario keeps its files.
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

/// The processes around the agents, and where the agents run.
pub(crate) struct Setup {
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) airline: Airline,
    pub(crate) model: Model,
    pub(crate) _model: Child,
}

/// The outcome of a scenario.
pub(crate) struct Outcome {
    /// The runs that were played.
    runs: Vec<Conversation>,
    verdict: Verdict,
    /// None where acts have keys.
    agreement: Option<Agreement>,
}

/// Runs the whole scenario and judges it.
pub(crate) async fn run(scenario: &Scenario) -> Result<()> {
    scenario.check()?;
    let runs = recording::read(&scenario.trajectories)?;
    let schedule = plan(scenario, &runs)?;
    let dir = tempfile::tempdir()?;
    let processes = Processes::new(dir.path())?;
    let open = Runs::default();
    let deadline = Duration::from_secs(scenario.deadline_seconds);
    let outcome = tokio::time::timeout(
        deadline,
        with_processes(scenario, &runs, &schedule, dir.path(), &processes, &open),
    );
    let outcome = outcome.await.unwrap_or_else(|_| {
        Err(anyhow!(
            "after {} s {open} (--deadline-seconds)",
            scenario.deadline_seconds
        ))
    });
    let Outcome {
        runs,
        verdict,
        agreement,
    } = outcome.with_context(|| processes.said_last())?;
    say(&verdict.to_string());
    if scenario.unprotected {
        ensure!(verdict.done_twice + verdict.lost > 0, "the kills did no harm");
        return Ok(());
    }
    agreement.map_or(Ok(()), |agreement| agreement.check())?;
    verdict.check(&runs)
}

/// Plans the kills; none where things are restarted at random moments.
fn plan(scenario: &Scenario, runs: &[Conversation]) -> Result<Schedule> {
    let decisions: usize = runs.iter().map(|run| run.decisions.len()).sum();
    say(&format!(
        "{} recorded conversations with {decisions} decisions, {} agents at a time",
        runs.len(),
        scenario.agents
    ));
    if scenario.soak.is_some() {
        return Ok(Schedule::default());
    }
    let kills = Kills {
        agents: scenario.agent_kills,
        servers: scenario.server_kills,
        of_servers: scenario.servers,
        reactors: scenario.reactor_kills(),
        relays: scenario.relay_kills(),
        of_relays: scenario.relays().unwrap_or_default(),
    };
    let mut schedule = Schedule::plan(runs, kills, scenario.seed)?;
    say(&format!(
        "{} kills are planned by seed {}; the digest of the schedule is {}",
        schedule.count(),
        scenario.seed,
        schedule.digest()
    ));
    if scenario.unprotected {
        // Without Tape there are no servers to kill.
        schedule
            .stops
            .iter_mut()
            .for_each(|stops| stops.retain(|stop| stop.victim == Victim::Agent));
    }
    Ok(schedule)
}

async fn with_processes(
    scenario: &Scenario,
    runs: &[Conversation],
    schedule: &Schedule,
    dir: &Path,
    processes: &Processes,
    open: &Runs,
) -> Result<Outcome> {
    let files = Files {
        dir: dir.to_owned(),
        trajectories: scenario.trajectories.clone(),
    };
    let setup = Setup::set(scenario, &files, &schedule.holds, processes, open).await?;
    match scenario.soak {
        Some(length) => soak::run(scenario, setup, processes, runs, length).await,
        None => setup.run(scenario, runs, schedule).await,
    }
}

impl Setup {
    async fn set(
        scenario: &Scenario,
        files: &Files,
        holds: &[Hold],
        processes: &Processes,
        open: &Runs,
    ) -> Result<Self> {
        let non_idempotent = scenario.semantics == Semantics::NonIdempotent || scenario.soak.is_some();
        let (process, model) = processes
            .serve(["model".into(), files.trajectories.clone()])
            .await?;
        let airline = if non_idempotent {
            Airline::non_idempotent(processes, files, scenario.seed, holds).await?
        } else {
            Airline::idempotent(processes, files).await?
        };
        let backing = backing(scenario, files, processes, &airline.url).await?;
        let supervisor = Supervisor::new(
            files,
            processes,
            (&airline.url, non_idempotent),
            &model,
            backing,
            open,
        );
        Ok(Self {
            supervisor: Arc::new(supervisor),
            airline,
            model: Model::new(&model),
            _model: process,
        })
    }

    /// Runs all conversations once, with the kills of a schedule.
    async fn run(self, scenario: &Scenario, runs: &[Conversation], schedule: &Schedule) -> Result<Outcome> {
        let supervisor = Arc::clone(&self.supervisor);
        let played = supervisor
            .run(runs, schedule, scenario.agents, self.airline)
            .await?;
        report(&played);
        let kills = played.hit.len() + played.relays;
        judge(&self.supervisor, &self.model, runs.to_vec(), kills).await
    }
}

/// Judges the played runs.
pub(crate) async fn judge(
    supervisor: &Supervisor,
    model: &Model,
    runs: Vec<Conversation>,
    kills: usize,
) -> Result<Outcome> {
    let ledger = ledger::read(&supervisor.files.ledger())?;
    let kept = supervisor.backing.kept(&runs).await?;
    let asked = model.asked().await?;
    // Without Tape there is nothing to compare the ledger with.
    let compared = supervisor.non_idempotent && matches!(supervisor.backing, Backing::Tape(_));
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

async fn backing(
    scenario: &Scenario,
    files: &Files,
    processes: &Processes,
    airline: &str,
) -> Result<Backing> {
    if scenario.unprotected {
        return Ok(Backing::notes(&files.dir));
    }
    let own = || format!("sqlite:{}", files.dir.join("journal.db").display());
    let plan = journals::Plan {
        store: &scenario.store.clone().unwrap_or_else(own),
        servers: scenario.servers,
        reactors: scenario.reactors(),
        relays: scenario.relays(),
        agents: scenario.agents,
        airline,
        dir: &files.dir,
        errors: processes.errors(),
    };
    Ok(Backing::Tape(Box::new(Journals::start(&plan).await?)))
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
    if played.relays > 0 {
        say(&format!("  {:>4} relays at random moments", played.relays));
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
