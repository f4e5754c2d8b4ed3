//! The play: it starts the airline, the model and the agents, kills as planned, and brings killed agents back.

use crate::ground::{Begin, Ground};
use crate::recording::Conversation;
use crate::schedule::next_drive;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use tape_examples::child::Child;
use tape_examples::stops::{Point, Stop, Victim};
use tape_examples::supervisor::{Drove, Left, Strays, Troupe, say};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// Most drives of one run that may end in another way than planned, such as by losing the lease on a busy machine.
const UNPLANNED_MAX: usize = 20;
/// Most open runs that are told by name.
const OPEN_TOLD: usize = 20;

/// Where everything of one play is kept.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) airline: String,
    pub(crate) model: String,
    pub(crate) ground: Ground,
    held: Mutex<HashMap<String, UnboundedSender<()>>>,
    hit: std::sync::Mutex<Vec<Stop>>,
    unplanned: AtomicUsize,
    open: Open,
    troupe: Troupe,
}

/// The runs that have not ended yet.
#[derive(Clone)]
pub(crate) struct Open(Arc<std::sync::Mutex<BTreeSet<String>>>);

impl Open {
    pub(crate) fn of(runs: &[Conversation]) -> Self {
        let names = runs.iter().map(|run| run.name.clone()).collect();
        Self(Arc::new(std::sync::Mutex::new(names)))
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run has ended; how many are left.
    fn close(&self, run: &str) -> usize {
        let mut names = self.names();
        names.remove(run);
        names.len()
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let some: Vec<&str> = names.iter().take(OPEN_TOLD).map(String::as_str).collect();
        let more = if names.len() > OPEN_TOLD { ", ..." } else { "" };
        write!(
            f,
            "{} runs are still open: {}{more}",
            names.len(),
            some.join(", ")
        )
    }
}

/// What was hit and what happened besides.
pub(crate) struct Played {
    pub(crate) hit: Vec<Stop>,
    pub(crate) unplanned: usize,
}

impl Stage {
    /// A stage whose airline and model are up.
    pub(crate) fn new(
        dir: &Path,
        troupe: &Troupe,
        airline: &str,
        model: &str,
        ground: Ground,
        open: &Open,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            airline: airline.to_owned(),
            model: model.to_owned(),
            ground,
            held: Mutex::default(),
            hit: std::sync::Mutex::default(),
            unplanned: AtomicUsize::new(0),
            open: open.clone(),
            troupe: troupe.clone(),
        }
    }

    /// Plays all runs, `agents` at a time, with their stops.
    pub(crate) async fn play(
        self: Arc<Self>,
        runs: &[Conversation],
        stops: &[Vec<Stop>],
        agents: usize,
        airline: Child,
    ) -> Result<Played> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).hear_airline(airline));
        let seats = Arc::new(Semaphore::new(agents));
        for (run, stops) in runs.iter().zip(stops) {
            let (tell, held) = unbounded_channel();
            self.held.lock().await.insert(run.name.clone(), tell);
            let (stage, seats) = (Arc::clone(&self), Arc::clone(&seats));
            let (name, left) = (run.name.clone(), Left::all(stops.clone()));
            tasks.spawn(async move {
                let _seat = seats.acquire_owned().await?;
                stage
                    .conversation(&name, left, held)
                    .await
                    .with_context(|| format!("in run {name}"))
            });
        }
        while !self.open.names().is_empty() {
            tasks
                .join_next()
                .await
                .context("the airline is always heard")???;
        }
        let hit = self.hit.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Played {
            hit,
            unplanned: self.unplanned.load(Ordering::SeqCst),
        })
    }

    /// Tells each conversation that the airline holds back its answer.
    async fn hear_airline(self: Arc<Self>, mut airline: Child) -> Result<()> {
        loop {
            let reference = airline.report_of("held").await?;
            let run = reference.split('/').next().unwrap_or_default();
            let held = self.held.lock().await;
            // The receiver is gone only once its conversation has ended.
            let _ = held
                .get(run)
                .with_context(|| format!("there is no run {run}"))?
                .send(());
        }
    }

    async fn conversation(&self, run: &str, mut left: Left, mut held: UnboundedReceiver<()>) -> Result<()> {
        let (mut begin, mut begun) = (Begin::Anew, false);
        let mut strays = Strays::at_most(UNPLANNED_MAX);
        loop {
            let mut agent = self.start(run, &next_drive(&left), &begin)?;
            while held.try_recv().is_ok() {}
            match self.drive(&mut agent, &mut left, &mut held, &mut begun).await? {
                Drove::ToTheEnd => break,
                Drove::IntoAKill => {}
                Drove::Astray => {
                    self.unplanned.fetch_add(1, Ordering::SeqCst);
                    strays.forgive()?;
                }
            }
            // Recovery is told that the drive is over.
            drop((agent, begin));
            begin = if begun {
                self.ground.recover(run).await?
            } else {
                Begin::Anew
            };
        }
        left.none()?;
        let open = self.open.close(run);
        if open.is_multiple_of(50) && open > 0 {
            say(&format!("  {open} conversations are still open"));
        }
        Ok(())
    }

    /// Follows one drive of an agent.
    async fn drive(
        &self,
        agent: &mut Child,
        left: &mut Left,
        held: &mut UnboundedReceiver<()>,
        begun: &mut bool,
    ) -> Result<Drove> {
        loop {
            tokio::select! {
                report = agent.report() => match report?.as_deref() {
                    Some("begun") => *begun = true,
                    Some("stop") => {
                        let stop = left.take()?;
                        if self.hit(&stop, agent).await? {
                            return Ok(Drove::IntoAKill);
                        }
                    }
                    Some("done") => return Drove::to_the_end(agent).await,
                    Some(other) => bail!("its agent says '{other}'"),
                    None => return Drove::astray(agent).await,
                },
                Some(()) = held.recv() => {
                    let stop = left.take()?;
                    ensure!(stop.point == Point::BeforeAnswer, "an answer is held back that was not planned to be");
                    self.hit(&stop, agent).await?;
                    return Ok(Drove::IntoAKill);
                }
            }
        }
    }

    /// Kills whom the stop is for; true where that is the agent.
    async fn hit(&self, stop: &Stop, agent: &mut Child) -> Result<bool> {
        match stop.victim {
            Victim::Agent => agent.kill().await.context("the agent cannot be killed")?,
            Victim::Server(server) => self.ground.kill_server(server, agent).await?,
            Victim::Answer => bail!("no lost answers are planned"),
        }
        self.hit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stop.clone());
        Ok(stop.victim == Victim::Agent)
    }

    fn start(&self, run: &str, stops: &[&Stop], begin: &Begin) -> Result<Child> {
        let mut args = vec![
            "agent".to_owned(),
            "--conversation".to_owned(),
            conversation_file(&self.dir, run).display().to_string(),
            "--airline".to_owned(),
            self.airline.clone(),
            "--model".to_owned(),
            self.model.clone(),
            "--stops".to_owned(),
            serde_json::to_string(stops)?,
        ];
        args.extend(self.ground.args(run, begin));
        self.troupe.start(args)
    }
}

/// The file with one recorded conversation.
pub(crate) fn conversation_file(dir: &Path, run: &str) -> PathBuf {
    dir.join(format!("{run}.json"))
}
