//! The scenario: it starts the agents, kills as planned, and brings killed agents back.

mod direction;
mod relays;

use crate::airline::Airline;
use crate::backing::{Backing, Begin, Handovers};
use crate::recording::Conversation;
use crate::scenario::Files;
use crate::schedule::{Schedule, next_drive};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tape_examples::child::Child;
use tape_examples::processes::{Drove, Left, Processes, Strays, say};
use tape_examples::stops::{Point, Stop, Victim};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

/// Most drives of one run that may end in another way than planned, such as by losing the lease on a busy machine.
const UNPLANNED_MAX: usize = 20;
/// The same where nothing is planned: a worker that dies during a handover leaves an agent that comes too late.
const STRAYS_MAX: usize = 1_000;
/// Most open runs that are listed by name.
const OPEN_TOLD: usize = 20;
/// How long to wait for the last kills once all runs have ended.
const LAST_KILL: Duration = Duration::from_secs(60);

/// Where everything of one scenario is kept.
pub(crate) struct Supervisor {
    pub(crate) files: Files,
    pub(crate) backing: Backing,
    /// Whether the airline ignores idempotency keys.
    pub(crate) non_idempotent: bool,
    airline: String,
    model: String,
    signals: Mutex<HashMap<String, UnboundedSender<Signal>>>,
    hit: Mutex<Vec<Stop>>,
    /// How many relays were killed so far.
    relays: AtomicUsize,
    hits: Notify,
    pub(crate) unplanned: AtomicUsize,
    pub(crate) suspended: AtomicUsize,
    pub(crate) open: Runs,
    /// The runs with running agents.
    pub(crate) acting: Runs,
    /// How many decisions agents were about to record so far.
    pub(crate) progress: watch::Sender<usize>,
    processes: Processes,
}

/// A signal to a conversation.
pub(crate) enum Signal {
    /// The airline holds back its answer to the agent.
    Held,
    /// Kills the agent now, or as soon as there is one; the sender is used once that has happened.
    Die(oneshot::Sender<()>),
}

/// Runs by name: those that have not ended yet, or that have running agents.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<BTreeSet<String>>>);

impl Runs {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.names().len()
    }

    /// The n-th of them, from 0, where there is one.
    pub(crate) fn nth(&self, n: usize) -> Option<String> {
        self.names().iter().nth(n).cloned()
    }

    pub(crate) fn add(&self, run: &str) {
        self.names().insert(run.to_owned());
    }

    /// Removes a run. Returns how many are left.
    fn remove(&self, run: &str) -> usize {
        let mut names = self.names();
        names.remove(run);
        names.len()
    }
}

impl fmt::Display for Runs {
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

/// The kills that took place and what else happened.
pub(crate) struct Played {
    pub(crate) hit: Vec<Stop>,
    /// Kills of relays.
    pub(crate) relays: usize,
    pub(crate) unplanned: usize,
    pub(crate) suspended: usize,
}

/// A conversation's part of the scenario.
struct Part {
    signals: UnboundedReceiver<Signal>,
    handovers: Handovers,
    /// The senders that wait for an agent's death, one for each agent.
    doomed: VecDeque<oneshot::Sender<()>>,
    strays: Strays,
}

impl Supervisor {
    /// A supervisor whose airline and model are up.
    pub(crate) fn new(
        files: &Files,
        processes: &Processes,
        (airline, non_idempotent): (&str, bool),
        model: &str,
        backing: Backing,
        open: &Runs,
    ) -> Self {
        Self {
            files: files.clone(),
            backing,
            non_idempotent,
            airline: airline.to_owned(),
            model: model.to_owned(),
            signals: Mutex::default(),
            hit: Mutex::default(),
            relays: AtomicUsize::new(0),
            hits: Notify::new(),
            unplanned: AtomicUsize::new(0),
            suspended: AtomicUsize::new(0),
            open: open.clone(),
            acting: Runs::default(),
            progress: watch::Sender::new(0),
            processes: processes.clone(),
        }
    }

    /// Plays all runs, `agents` at a time, with their stops.
    pub(crate) async fn run(
        self: Arc<Self>,
        runs: &[Conversation],
        schedule: &Schedule,
        agents: usize,
        airline: Airline,
    ) -> Result<Played> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).hear_airline(airline));
        tasks.spawn(Arc::clone(&self).kill_relays(schedule.relays.clone()));
        let seats = Arc::new(Semaphore::new(agents));
        runs.iter().for_each(|run| self.open.add(&run.name));
        for (run, stops) in runs.iter().zip(&schedule.stops) {
            let part = self.enter(run)?;
            let (supervisor, seats) = (Arc::clone(&self), Arc::clone(&seats));
            let (name, left) = (run.name.clone(), Left::all(stops.clone()));
            tasks.spawn(async move {
                let _seat = seats.acquire_owned().await?;
                supervisor.conversation(&name, left, part).await
            });
        }
        while self.open.count() > 0 {
            tasks
                .join_next()
                .await
                .context("the airline is always heard")???;
        }
        self.last_kills(schedule.count()).await?;
        Ok(Played {
            hit: self.hit().clone(),
            relays: self.relays.load(Ordering::SeqCst),
            unplanned: self.unplanned.load(Ordering::SeqCst),
            suspended: self.suspended.load(Ordering::SeqCst),
        })
    }

    /// Waits until the planned kills took place: the last ones may still be pending when the last run ends.
    async fn last_kills(&self, planned: usize) -> Result<()> {
        let all = async {
            while self.kills() < planned {
                self.hits.notified().await;
            }
        };
        if tokio::time::timeout(LAST_KILL, all).await.is_err() {
            bail!("of {planned} kills, {} took place", self.kills());
        }
        Ok(())
    }

    /// How many kills took place so far.
    fn kills(&self) -> usize {
        self.hit().len() + self.relays.load(Ordering::SeqCst)
    }

    fn hit(&self) -> MutexGuard<'_, Vec<Stop>> {
        self.hit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signals(&self) -> MutexGuard<'_, HashMap<String, UnboundedSender<Signal>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a conversation a signal. Where it has ended, the signal is lost.
    pub(crate) fn signal(&self, run: &str, signal: Signal) -> Result<()> {
        let signals = self.signals();
        let conversation = signals
            .get(run)
            .with_context(|| format!("there is no run {run}"))?;
        let _ = conversation.send(signal);
        Ok(())
    }

    fn enter(&self, run: &Conversation) -> Result<Part> {
        let file = self.files.conversation(&run.name);
        std::fs::write(file, serde_json::to_vec(run)?)?;
        let (tell, signals) = unbounded_channel();
        self.signals().insert(run.name.clone(), tell);
        Ok(Part {
            signals,
            handovers: self.backing.handovers(&run.name)?,
            doomed: VecDeque::new(),
            strays: Strays::at_most(UNPLANNED_MAX),
        })
    }

    /// Plays a conversation in which nothing is planned.
    pub(crate) async fn unplanned(&self, run: &Conversation) -> Result<()> {
        let mut part = self.enter(run)?;
        part.strays = Strays::at_most(STRAYS_MAX);
        self.conversation(&run.name, Left::all(Vec::new()), part).await
    }

    async fn conversation(&self, run: &str, left: Left, part: Part) -> Result<()> {
        let played = self.drives(run, left, part).await;
        played.with_context(|| format!("in run {run}"))?;
        let open = self.open.remove(run);
        if open.is_multiple_of(50) && open > 0 {
            say(&format!("  {open} conversations are still open"));
        }
        Ok(())
    }

    /// Drives a run until it has ended.
    async fn drives(&self, run: &str, mut left: Left, mut part: Part) -> Result<()> {
        let mut next = Some(Begin::Anew);
        while let Some(begin) = next {
            let mut agent = self.start(run, &next_drive(&left), &begin)?;
            part.forget_held();
            self.acting.add(run);
            let drove = self.drive(&mut agent, &mut left, &mut part).await?;
            self.acting.remove(run);
            match drove {
                Drove::ToTheEnd => break,
                Drove::IntoAKill => {}
                Drove::Suspended => {
                    self.suspended.fetch_add(1, Ordering::SeqCst);
                }
                Drove::Astray => {
                    self.unplanned.fetch_add(1, Ordering::SeqCst);
                    part.strays.forgive()?;
                }
            }
            // Recovery is told that the drive is over.
            drop((agent, begin));
            next = self.backing.recover(run, &mut part.handovers).await?;
        }
        left.none()
    }

    /// Follows one drive of an agent.
    async fn drive(&self, agent: &mut Child, left: &mut Left, part: &mut Part) -> Result<Drove> {
        if part.die(agent).await {
            return Ok(Drove::IntoAKill);
        }
        loop {
            tokio::select! {
                biased;
                Some(signal) = part.signals.recv() => if self.signalled(signal, agent, left, part).await? {
                    return Ok(Drove::IntoAKill);
                },
                report = agent.report() => match report?.as_deref() {
                    Some("begun") => {}
                    Some("decides") => self.progress.send_modify(|decisions| *decisions += 1),
                    Some("stop") => {
                        let stop = left.take()?;
                        if self.kill(&stop, agent).await? {
                            return Ok(Drove::IntoAKill);
                        }
                    }
                    Some("suspended") => return agent.ended().await.map(|_| Drove::Suspended),
                    Some("done") => return Drove::to_the_end(agent).await,
                    Some(other) => bail!("its agent says '{other}'"),
                    None => return Drove::astray(agent).await,
                },
            }
        }
    }

    /// Obeys a signal; true where the agent is dead then.
    async fn signalled(
        &self,
        signal: Signal,
        agent: &mut Child,
        left: &mut Left,
        part: &mut Part,
    ) -> Result<bool> {
        match signal {
            Signal::Die(told) => {
                part.doomed.push_back(told);
                Ok(part.die(agent).await)
            }
            Signal::Held => {
                let stop = left.take()?;
                ensure!(
                    stop.point == Point::BeforeAnswer,
                    "an answer is held back that was not planned to be"
                );
                self.kill(&stop, agent).await
            }
        }
    }

    /// Kills the victim of the stop; true where that is the agent.
    async fn kill(&self, stop: &Stop, agent: &mut Child) -> Result<bool> {
        match stop.victim {
            Victim::Agent => agent.kill().await.context("the agent cannot be killed")?,
            Victim::Server(server) => {
                let go = agent.command("go");
                self.backing.journals()?.servers()?.kill(server, go).await?;
            }
            Victim::Answer | Victim::Reactor => bail!("no such stop of an agent is planned"),
        }
        self.count(stop.clone());
        Ok(stop.victim == Victim::Agent)
    }

    fn count(&self, stop: Stop) {
        self.hit().push(stop);
        self.hits.notify_one();
    }

    fn start(&self, run: &str, stops: &[&Stop], begin: &Begin) -> Result<Child> {
        let mut args = vec![
            "agent".to_owned(),
            "--conversation".to_owned(),
            self.files.conversation(run).display().to_string(),
            "--airline".to_owned(),
            self.airline.clone(),
            "--model".to_owned(),
            self.model.clone(),
            "--stops".to_owned(),
            serde_json::to_string(stops)?,
        ];
        if self.non_idempotent {
            args.push("--non-idempotent".to_owned());
        }
        args.extend(self.backing.args(run, begin));
        self.processes.start(args)
    }
}

impl Part {
    /// Forgets answers that were held back from an agent that is gone.
    fn forget_held(&mut self) {
        while let Ok(signal) = self.signals.try_recv() {
            if let Signal::Die(told) = signal {
                self.doomed.push_back(told);
            }
        }
    }

    /// Kills the agent where a kill is pending. Returns whether it was killed. An agent that has just ended by itself was not: then the
    /// next one is killed.
    async fn die(&mut self, agent: &mut Child) -> bool {
        let Some(told) = self.doomed.pop_front() else {
            return false;
        };
        if agent.kill().await.is_err() {
            self.doomed.push_front(told);
            return false;
        }
        // The receiver may be gone.
        let _ = told.send(());
        true
    }
}
