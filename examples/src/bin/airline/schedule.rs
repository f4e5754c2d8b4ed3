//! The schedule of kills: a pure function of the seed and the recorded runs.
//!
//! Every kill of an agent has a step and a moment in it. In each run they are sorted by the agent's progress, and each drive of the agent
//! gets the next one: so every kill is reached, and hits a step that is not recorded yet. A kill during re-drive comes right after another
//! one and hits a step that is recorded already.
//!
//! Where workers make the calls that change something, the airline holds those calls for the kills planned between their intent
//! and their answer.

mod relays;
mod workers;

pub(crate) use relays::RelayKill;

use crate::recording::{Conversation, call_step, changes, decision_step, reference_of};
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use tape_examples::non_idempotent_upstream::Hold;
use tape_examples::processes::Left;
use tape_examples::seed::Seed;
use tape_examples::stops::{Point, Stop, Victim};

/// Most kills in one run: fewer than the re-drives without progress after which Tape asks for a person.
const KILLS_PER_RUN_MAX: usize = 12;

/// Which process is killed where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// For each run, its stops in the order in which its agent comes to them.
    pub(crate) stops: Vec<Vec<Stop>>,
    /// The calls of workers that the airline holds.
    pub(crate) holds: Vec<Hold>,
    /// The kills of relays, in order.
    pub(crate) relays: Vec<RelayKill>,
}

/// The numbers of kills.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kills {
    /// Kills of agents.
    pub(crate) agents: usize,
    /// Kills of servers.
    pub(crate) servers: usize,
    /// How many servers there are.
    pub(crate) of_servers: usize,
    /// Kills of workers; none where the agents make all calls themselves.
    pub(crate) reactors: Option<usize>,
    /// Kills of relays.
    pub(crate) relays: usize,
    /// How many relays there are.
    pub(crate) of_relays: usize,
}

/// A step in which a kill can be planned.
#[derive(Clone, Copy)]
struct Site {
    run: usize,
    /// Its place among the run's steps.
    order: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Decision,
    Look,
    Act,
}

/// A stop, before the stops of its run are put in order.
#[derive(Clone, Copy)]
struct Planned {
    order: usize,
    point: Point,
    victim: Victim,
}

impl Schedule {
    /// Plans the kills.
    ///
    /// # Errors
    /// Where the runs have no place for that many kills.
    pub(crate) fn plan(runs: &[Conversation], kills: Kills, seed: u64) -> Result<Self> {
        let steps: Vec<Vec<(String, Kind)>> = runs.iter().map(steps).collect();
        let mut planner = Planner::new(&steps, seed, kills.reactors.is_some());
        let points = [
            Point::BeforeIntent,
            Point::BeforeCall,
            Point::BeforeAnswer,
            Point::BeforeRecord,
            Point::Redrive,
        ];
        let mut redrives = 0;
        for point in points.into_iter().cycle().take(kills.agents) {
            if point == Point::Redrive {
                redrives += 1;
            } else {
                planner.kill_agent(point)?;
            }
        }
        for n in 0..kills.servers {
            planner.kill_server(n % kills.of_servers.max(1))?;
        }
        let mut holds = planner.take_holds(runs, &steps);
        let stops = planner.in_order(&steps, redrives)?;
        if let Some(kills) = kills.reactors {
            holds.extend(workers::plan(runs, kills, &mut planner.seed)?);
        }
        Ok(Self {
            stops,
            holds,
            relays: relays::plan(runs, kills, seed),
        })
    }

    /// A digest that distinguishes schedules.
    pub(crate) fn digest(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(serde_json::to_vec(&self.stops).expect("stops have a JSON form"));
        for hold in &self.holds {
            digest.update(serde_json::to_vec(hold).expect("holds have a JSON form"));
        }
        for kill in &self.relays {
            digest.update(serde_json::to_vec(kill).expect("kills have a JSON form"));
        }
        hex::encode(&digest.finalize()[..8])
    }

    /// How many kills are planned.
    pub(crate) fn count(&self) -> usize {
        self.stops.iter().flatten().count() + self.holds.len() + self.relays.len()
    }
}

fn steps(run: &Conversation) -> Vec<(String, Kind)> {
    let mut steps = Vec::new();
    for (k, decision) in run.decisions.iter().enumerate() {
        steps.push((decision_step(k), Kind::Decision));
        for (j, call) in decision.calls.iter().enumerate() {
            let kind = if changes(&call.tool) {
                Kind::Act
            } else {
                Kind::Look
            };
            steps.push((call_step(k, j), kind));
        }
    }
    steps
}

struct Planner {
    seed: Seed,
    sites: Vec<Site>,
    runs: Vec<Vec<Planned>>,
    /// Whether workers make the calls that change something.
    workers: bool,
}

impl Planner {
    fn new(steps: &[Vec<(String, Kind)>], seed: u64, workers: bool) -> Self {
        let of_run = |(run, steps): (usize, &Vec<(String, Kind)>)| {
            let kinds: Vec<Kind> = steps.iter().map(|(_, kind)| *kind).collect();
            kinds
                .into_iter()
                .enumerate()
                .map(move |(order, kind)| Site { run, order, kind })
        };
        let sites = steps.iter().enumerate().flat_map(of_run).collect();
        Self {
            seed: Seed::new(seed),
            sites,
            runs: vec![Vec::new(); steps.len()],
            workers,
        }
    }

    /// Plans a kill at a point; of those that can hit any call, most hit one that changes something.
    fn kill_agent(&mut self, point: Point) -> Result<()> {
        let not_acts = self.workers && point == Point::BeforeRecord;
        let only_acts = (point == Point::BeforeAnswer || self.seed.below(3) > 0) && !not_acts;
        let fits = |site: &Site| match site.kind {
            // Workers record their own calls.
            Kind::Act => !not_acts,
            Kind::Look => !only_acts,
            Kind::Decision => !only_acts && point == Point::BeforeRecord,
        };
        self.plan(point, Victim::Agent, fits)
    }

    fn kill_server(&mut self, server: usize) -> Result<()> {
        let points = [Point::BeforeIntent, Point::BeforeCall, Point::BeforeRecord];
        let point = points[self.seed.below(points.len())];
        let fits = |site: &Site| site.kind != Kind::Decision || point == Point::BeforeRecord;
        self.plan(point, Victim::Server(server), fits)
    }

    fn plan(&mut self, point: Point, victim: Victim, fits: impl Fn(&Site) -> bool) -> Result<()> {
        let free = |site: &&Site| self.runs[site.run].len() < KILLS_PER_RUN_MAX && fits(site);
        let free: Vec<Site> = self.sites.iter().filter(free).copied().collect();
        ensure!(
            !free.is_empty(),
            "the recorded runs have no place left for a kill {point}"
        );
        let site = free[self.seed.below(free.len())];
        self.runs[site.run].push(Planned {
            order: site.order,
            point,
            victim,
        });
        Ok(())
    }

    /// Removes the kills planned within the calls of workers, which no agent reaches.
    fn take_holds(&mut self, runs: &[Conversation], steps: &[Vec<(String, Kind)>]) -> Vec<Hold> {
        let mut holds = Vec::new();
        if !self.workers {
            return holds;
        }
        for ((stops, steps), run) in self.runs.iter_mut().zip(steps).zip(runs) {
            let within =
                |stop: &mut Planned| steps[stop.order].1 == Kind::Act && stop.point != Point::BeforeIntent;
            holds.extend(stops.extract_if(.., within).map(|stop| Hold {
                reference: reference_of(&run.name, &steps[stop.order].0),
                point: stop.point.min(Point::BeforeAnswer),
                victim: stop.victim,
            }));
        }
        holds
    }

    /// Puts the stops of each run in order, and the kills during re-drive among them.
    fn in_order(&mut self, steps: &[Vec<(String, Kind)>], redrives: usize) -> Result<Vec<Vec<Stop>>> {
        for stops in &mut self.runs {
            // A server dies before the agent does, where both die at one point.
            stops.sort_by_key(|stop| (stop.order, stop.point, stop.victim));
        }
        for _ in 0..redrives {
            self.kill_in_redrive()?;
        }
        let name = |run: usize, stop: &Planned| {
            let step = steps[run][stop.order].0.clone();
            Stop {
                step,
                point: stop.point,
                victim: stop.victim,
            }
        };
        let of_run =
            |(run, stops): (usize, &Vec<Planned>)| stops.iter().map(|stop| name(run, stop)).collect();
        Ok(self.runs.iter().enumerate().map(of_run).collect())
    }

    fn kill_in_redrive(&mut self) -> Result<()> {
        let kills = |(run, stops): (usize, &Vec<Planned>)| {
            let agents = stops
                .iter()
                .enumerate()
                .filter(|(_, stop)| stop.victim == Victim::Agent);
            let places: Vec<(usize, usize)> = agents.map(|(at, _)| (run, at)).collect();
            if stops.len() < KILLS_PER_RUN_MAX {
                places
            } else {
                Vec::new()
            }
        };
        let places: Vec<(usize, usize)> = self.runs.iter().enumerate().flat_map(kills).collect();
        ensure!(
            !places.is_empty(),
            "there is no kill left for a kill during re-drive to follow"
        );
        let (run, at) = places[self.seed.below(places.len())];
        // The steps before the one of the kill are recorded.
        let order = self.seed.below(self.runs[run][at].order.max(1));
        let stop = Planned {
            order,
            point: Point::Redrive,
            victim: Victim::Agent,
        };
        self.runs[run].insert(at + 1, stop);
        Ok(())
    }
}

/// The stops of the next drive: up to the first that kills the agent.
pub(crate) fn next_drive(left: &Left) -> Vec<&Stop> {
    let mut killed = false;
    left.iter()
        .take_while(|stop| !std::mem::replace(&mut killed, stop.victim == Victim::Agent))
        .collect()
}

/// The seed from the command line, a number or any other text.
pub(crate) fn seed(text: &str) -> Result<u64> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let digest = Sha256::digest(text);
    let bytes = digest[..8]
        .try_into()
        .context("a digest has more than eight bytes")?;
    Ok(u64::from_be_bytes(bytes))
}
