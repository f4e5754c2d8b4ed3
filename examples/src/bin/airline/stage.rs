//! The play: it starts the airline, the model and the agents, kills as planned, and brings killed agents back.

use crate::ground::{Begin, Ground};
use crate::recording::Conversation;
use crate::schedule::next_drive;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tape_examples::child::Child;
use tape_examples::stops::{Point, Stop, Victim};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

/// Most drives of one run that may end in another way than planned, such as by losing the lease on a busy machine.
const UNPLANNED_MAX: usize = 20;

/// Where everything of one play is kept.
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) airline: String,
    pub(crate) model: String,
    pub(crate) ground: Ground,
    held: Mutex<HashMap<String, UnboundedSender<()>>>,
    hit: std::sync::Mutex<Vec<Stop>>,
    unplanned: AtomicUsize,
    ended: AtomicUsize,
}

/// What was hit and what happened besides.
pub(crate) struct Played {
    pub(crate) hit: Vec<Stop>,
    pub(crate) unplanned: usize,
}

enum Drove {
    ToTheEnd,
    IntoAKill,
    Astray,
}

impl Stage {
    /// A stage whose airline and model are up.
    pub(crate) fn new(dir: &Path, airline: &str, model: &str, ground: Ground) -> Self {
        Self {
            dir: dir.to_owned(),
            airline: airline.to_owned(),
            model: model.to_owned(),
            ground,
            held: Mutex::default(),
            hit: std::sync::Mutex::default(),
            unplanned: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
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
            let (name, left) = (run.name.clone(), stops.clone());
            tasks.spawn(async move {
                let _seat = seats.acquire_owned().await?;
                stage
                    .conversation(&name, left, held)
                    .await
                    .with_context(|| format!("in run {name}"))
            });
        }
        while self.ended.load(Ordering::SeqCst) < runs.len() {
            tasks
                .join_next()
                .await
                .context("the airline is always heard")???;
        }
        let hit = self
            .hit
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
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

    async fn conversation(
        &self,
        run: &str,
        mut left: Vec<Stop>,
        mut held: UnboundedReceiver<()>,
    ) -> Result<()> {
        let (mut begin, mut begun) = (Begin::Anew, false);
        let mut unplanned = 0;
        loop {
            let mut agent = self.start(run, next_drive(&left), &begin)?;
            while held.try_recv().is_ok() {}
            match self.drive(&mut agent, &mut left, &mut held, &mut begun).await? {
                Drove::ToTheEnd => break,
                Drove::IntoAKill => {}
                Drove::Astray => {
                    unplanned += 1;
                    self.unplanned.fetch_add(1, Ordering::SeqCst);
                    ensure!(
                        unplanned <= UNPLANNED_MAX,
                        "its agent ended {unplanned} times without having to"
                    );
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
        ensure!(left.is_empty(), "it ended before {} planned kills", left.len());
        let ended = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        if ended.is_multiple_of(50) {
            crate::say(&format!("  {ended} conversations have ended"));
        }
        Ok(())
    }

    /// Follows one drive of an agent.
    async fn drive(
        &self,
        agent: &mut Child,
        left: &mut Vec<Stop>,
        held: &mut UnboundedReceiver<()>,
        begun: &mut bool,
    ) -> Result<Drove> {
        loop {
            tokio::select! {
                report = agent.report() => match report?.as_deref() {
                    Some("begun") => *begun = true,
                    Some("stop") => {
                        let stop = self.take(left)?;
                        if self.hit(&stop, agent).await? {
                            return Ok(Drove::IntoAKill);
                        }
                    }
                    Some("done") => {
                        let status = agent.ended().await?;
                        ensure!(status.success(), "its agent ended with {status}");
                        return Ok(Drove::ToTheEnd);
                    }
                    Some(other) => bail!("its agent says '{other}'"),
                    None => {
                        agent.ended().await?;
                        return Ok(Drove::Astray);
                    }
                },
                Some(()) = held.recv() => {
                    let stop = self.take(left)?;
                    ensure!(stop.point == Point::BeforeAnswer, "an answer is held back that was not planned to be");
                    self.hit(&stop, agent).await?;
                    return Ok(Drove::IntoAKill);
                }
            }
        }
    }

    fn take(&self, left: &mut Vec<Stop>) -> Result<Stop> {
        ensure!(!left.is_empty(), "its agent stopped where no stop was planned");
        Ok(left.remove(0))
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
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(stop.clone());
        Ok(stop.victim == Victim::Agent)
    }

    fn start(&self, run: &str, stops: &[Stop], begin: &Begin) -> Result<Child> {
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
        Child::start(&std::env::current_exe()?, args, &self.dir.join("errors"))
    }
}

/// The file with one recorded conversation.
pub(crate) fn conversation_file(dir: &Path, run: &str) -> PathBuf {
    dir.join(format!("{run}.json"))
}
