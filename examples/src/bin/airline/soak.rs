//! The soak: the recorded runs are replayed repeatedly while everything is restarted repeatedly.

use crate::airline::Airline;
use crate::cli::Scenario;
use crate::recording::Conversation;
use crate::scenario::{Outcome, Setup, judge};
use crate::supervisor::{Signal, Supervisor};
use anyhow::{Context as _, Result, bail};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tape_examples::processes::{Processes, say};
use tape_examples::seed::Seed;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One in this many runs with acts fails, and its acts are undone.
const REGRETTED_ONE_OF: usize = 5;

/// A restart comes at a random moment within this many milliseconds, so that it can hit anything under way.
const MOMENT_MS: usize = 300;

/// How long a soak lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// New runs begin for this long.
    Time(Duration),
    /// Each recorded run is replayed this many times, and more often where not everything has been restarted by then.
    Rounds(usize),
}

impl FromStr for Length {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let count: u32 = count.parse().context("it begins with a number")?;
        let seconds = |of_unit| Ok(Self::Time(Duration::from_secs(of_unit) * count));
        match unit {
            "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3600),
            "rounds" => Ok(Self::Rounds(usize::try_from(count)?)),
            _ => bail!("say a time such as 90s, 10m or 1h, or 3rounds"),
        }
    }
}

/// What is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Agents,
    Workers,
    Servers,
    Airline,
    Relays,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Agents,
        Self::Workers,
        Self::Servers,
        Self::Airline,
        Self::Relays,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Workers => "workers",
            Self::Servers => "servers",
            Self::Airline => "the airline",
            Self::Relays => "relays",
        }
    }

    /// One of them is restarted each time that agents have made about this many decisions. So the number of restarts follows the progress
    /// on a machine of any speed, and restarts never prevent progress.
    const fn decisions(self) -> usize {
        match self {
            Self::Agents => 3,
            Self::Workers | Self::Relays => 4,
            Self::Servers | Self::Airline => 8,
        }
    }
}

/// The number of restarts of each kind.
struct Restarts {
    counts: [AtomicUsize; Kind::ALL.len()],
    /// The kinds that the scenario has.
    kinds: Vec<Kind>,
}

impl Restarts {
    /// None so far.
    fn none(scenario: &Scenario) -> Self {
        let has = |kind: &Kind| *kind != Kind::Relays || scenario.relays().is_some();
        Self {
            counts: Default::default(),
            kinds: Kind::ALL.into_iter().filter(has).collect(),
        }
    }

    fn of(&self, kind: Kind) -> &AtomicUsize {
        &self.counts[kind as usize]
    }

    fn count(&self, kind: Kind) {
        self.of(kind).fetch_add(1, Ordering::SeqCst);
    }

    fn all(&self) -> impl Iterator<Item = (Kind, usize)> {
        let kinds = self.kinds.iter();
        kinds.map(|kind| (*kind, self.of(*kind).load(Ordering::SeqCst)))
    }
}

/// Restarts processes until it is stopped.
struct Wrecker {
    supervisor: Arc<Supervisor>,
    airline: Mutex<Airline>,
    processes: Processes,
    seed: u64,
    restarts: Restarts,
    stop: CancellationToken,
}

/// Plays the soak and judges it.
pub(crate) async fn run(
    scenario: &Scenario,
    setup: Setup,
    processes: &Processes,
    runs: &[Conversation],
    length: Length,
) -> Result<Outcome> {
    let Setup {
        supervisor,
        airline,
        model,
        _model,
    } = setup;
    let wrecker = Arc::new(Wrecker {
        supervisor: Arc::clone(&supervisor),
        airline: Mutex::new(airline),
        processes: processes.clone(),
        seed: scenario.seed,
        restarts: Restarts::none(scenario),
        stop: CancellationToken::new(),
    });
    let mut wrecking = wrecker.start();
    let wrecked = async {
        while let Some(ended) = wrecking.join_next().await {
            ended??;
        }
        Ok(())
    };
    let (played, ()) = tokio::try_join!(replay(scenario, &wrecker, runs, length), wrecked)?;
    for run in played.iter().filter(|run| run.regretted) {
        supervisor.backing.journals()?.until_undone(&run.name).await?;
    }
    report(&wrecker, played.len());
    let kills = wrecker.restarts.all().map(|(_, count)| count).sum();
    judge(&supervisor, &model, played, kills).await
}

/// Replays the runs until the soak is long enough. Then restarts end, and open runs come to their ends.
async fn replay(
    scenario: &Scenario,
    wrecker: &Wrecker,
    runs: &[Conversation],
    length: Length,
) -> Result<Vec<Conversation>> {
    let (began, seats) = (Instant::now(), Arc::new(Semaphore::new(scenario.agents)));
    let (mut tasks, mut played) = (JoinSet::<Result<()>>::new(), Vec::new());
    let again = (1..).flat_map(|n| runs.iter().map(move |run| (n, run)));
    for (n, run) in again {
        let seat = loop {
            tokio::select! {
                seat = Arc::clone(&seats).acquire_owned() => break seat?,
                Some(ended) = tasks.join_next() => ended??,
            }
        };
        let enough = match length {
            Length::Time(time) => began.elapsed() >= time,
            Length::Rounds(rounds) => n > rounds && wrecker.restarts.all().all(|(_, count)| count > 0),
        };
        if enough {
            break;
        }
        let run = regretted(run.again(n), scenario.seed);
        wrecker.supervisor.open.add(&run.name);
        played.push(run.clone());
        let supervisor = Arc::clone(&wrecker.supervisor);
        tasks.spawn(async move {
            let _seat = seat;
            supervisor.unplanned(&run).await
        });
    }
    wrecker.stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(played)
}

/// The run, or one in which all acts are undone in the end.
fn regretted(run: Conversation, seed: u64) -> Conversation {
    let regretted = Seed::of_text(seed, &run.name).below(REGRETTED_ONE_OF) == 0;
    Conversation { regretted, ..run }
}

fn report(wrecker: &Wrecker, runs: usize) {
    say(&format!(
        "over {runs} runs, killed with SIGKILL and started again:"
    ));
    for (kind, count) in wrecker.restarts.all() {
        say(&format!("  {count:>5} times {}", kind.name()));
    }
    let supervisor = &wrecker.supervisor;
    say(&format!(
        "  {} drives ended early without a kill of their own, {} times a run waited without its agent",
        supervisor.unplanned.load(Ordering::SeqCst),
        supervisor.suspended.load(Ordering::SeqCst)
    ));
}

impl Wrecker {
    /// Starts the restarts of everything.
    fn start(self: &Arc<Self>) -> JoinSet<Result<()>> {
        let mut wrecking = JoinSet::new();
        for (kind, _) in self.restarts.all() {
            wrecking.spawn(Arc::clone(self).wreck(kind));
        }
        wrecking
    }

    /// Restarts one after the other, at random moments.
    async fn wreck(self: Arc<Self>, kind: Kind) -> Result<()> {
        let mut seed = Seed::of_text(self.seed, kind.name());
        let mut progress = self.supervisor.progress.subscribe();
        loop {
            let decisions = 1 + seed.below(2 * kind.decisions() - 1);
            let due = *progress.borrow() + decisions;
            let moment = Duration::from_millis(seed.below(MOMENT_MS) as u64);
            let comes = async {
                // The supervisor lives as long as this.
                let _ = progress.wait_for(|made| *made >= due).await;
                tokio::time::sleep(moment).await;
            };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = comes => self.restart(kind, &mut seed).await?,
            }
        }
    }

    async fn restart(self: &Arc<Self>, kind: Kind, seed: &mut Seed) -> Result<()> {
        let journals = self.supervisor.backing.journals()?;
        match kind {
            Kind::Agents => return self.kill_agent(seed),
            Kind::Workers => {
                let workers = journals.reactors()?;
                workers.kill(seed.below(workers.count())).await?;
            }
            Kind::Relays => {
                let relays = journals.relays()?;
                relays.kill(seed.below(relays.count())).await?;
            }
            Kind::Servers => {
                let servers = journals.servers()?;
                let server = seed.below(servers.count());
                servers.kill(server, async { Ok(()) }).await?;
            }
            Kind::Airline => {
                let mut airline = self.airline.lock().await;
                airline
                    .restart(&self.processes, &self.supervisor.files, self.seed)
                    .await?;
            }
        }
        self.restarts.count(kind);
        Ok(())
    }

    /// Kills the agent of some run; the task that follows the run starts it again.
    fn kill_agent(self: &Arc<Self>, seed: &mut Seed) -> Result<()> {
        let acting = self.supervisor.acting.count();
        let Some(run) = self.supervisor.acting.nth(seed.below(acting.max(1))) else {
            return Ok(());
        };
        let (tell, died) = oneshot::channel();
        self.supervisor.signal(&run, Signal::Die(tell))?;
        let wrecker = Arc::clone(self);
        tokio::spawn(async move {
            // Where the run ended first, no agent was killed.
            if died.await.is_ok() {
                wrecker.restarts.count(Kind::Agents);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_a_time_or_a_number_of_rounds() {
        let length = |text: &str| text.parse::<Length>().ok();
        assert_eq!(length("90s"), Some(Length::Time(Duration::from_secs(90))));
        assert_eq!(length("10m"), Some(Length::Time(Duration::from_secs(600))));
        assert_eq!(length("3rounds"), Some(Length::Rounds(3)));
        for nonsense in ["", "m", "10", "10 m", "-1s"] {
            assert_eq!(length(nonsense), None, "{nonsense}");
        }
    }
}
