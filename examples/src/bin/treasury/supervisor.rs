//! The scenario: one agent, killed and brought back until the book is closed.

use crate::backing::{Backing, PERSON};
use anyhow::{Context as _, Result, bail};
use tape_examples::child::Child;
use tape_examples::processes::{Drove, Left, Processes, Strays, say};
use tape_examples::stops::{Point, Stop, Victim};

/// Most drives that may end in another way than planned.
const UNPLANNED_MAX: usize = 5;

/// The worst moments, in the order in which the agent comes to them.
pub(crate) fn worst_moments() -> Vec<Stop> {
    let stop = |step: &str, point, victim| Stop {
        step: step.to_owned(),
        point,
        victim,
    };
    vec![
        stop("sweep OPS-EUR", Point::BeforeIntent, Victim::Agent),
        stop("sweep OPS-GBP", Point::BeforeCall, Victim::Agent),
        stop("sweep OPS-CHF", Point::BeforeAnswer, Victim::Answer),
        stop("hedge 2026-03-31", Point::BeforeAnswer, Victim::Agent),
        stop("decision 1", Point::Redrive, Victim::Agent),
        stop("decision 3", Point::BeforeRecord, Victim::Server(0)),
        stop("approve INV-2041", Point::AtGate, Victim::Agent),
        stop("pay INV-2041", Point::BeforeRecord, Victim::Agent),
    ]
}

/// One scenario.
pub(crate) struct Supervisor {
    pub(crate) processes: Processes,
    /// The arguments of every agent, beside those of its backing.
    pub(crate) args: Vec<String>,
    pub(crate) backing: Backing,
    pub(crate) bank: Child,
    pub(crate) left: Left,
    pub(crate) kills: usize,
}

impl Supervisor {
    /// Plays until the run has ended.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let mut strays = Strays::at_most(UNPLANNED_MAX);
        say("  agent 1 is started");
        for n in 2.. {
            let mut agent = self.start()?;
            match self.drive(&mut agent).await? {
                Drove::ToTheEnd => break,
                Drove::IntoAKill | Drove::Suspended => {}
                Drove::Astray => {
                    say("    it ended early");
                    strays.forgive()?;
                }
            }
            drop(agent);
            let who = self.backing.recover().await?;
            say(&format!("  agent {n} is {who}"));
        }
        say("    closes the book");
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let mut args = self.args.clone();
        args.extend([
            "--stops".to_owned(),
            serde_json::to_string(&self.left.iter().collect::<Vec<_>>())?,
        ]);
        args.extend(self.backing.args());
        self.processes.start(args)
    }

    async fn drive(&mut self, agent: &mut Child) -> Result<Drove> {
        loop {
            tokio::select! {
                report = agent.report() => match report? {
                    Some(report) => {
                        if let Some(drove) = self.heard(&report, agent).await? {
                            return Ok(drove);
                        }
                    }
                    None => return Drove::astray(agent).await,
                },
                held = self.bank.report_of("held") => {
                    held?;
                    let stop = self.left.take()?;
                    self.hit(&stop, agent).await?;
                    return Ok(Drove::IntoAKill);
                }
            }
        }
    }

    /// Handles a report of the agent.
    async fn heard(&mut self, report: &str, agent: &mut Child) -> Result<Option<Drove>> {
        match report {
            "stop" => {
                let stop = self.left.take()?;
                let killed = self.hit(&stop, agent).await?;
                return Ok(killed.then_some(Drove::IntoAKill));
            }
            "lost" => {
                let stop = self.left.take()?;
                say(&format!(
                    "    the bank does {}, but its answer is lost; the agent asks again",
                    stop.step
                ));
            }
            "done" => return Drove::to_the_end(agent).await.map(Some),
            other => match other.strip_prefix("waiting ") {
                Some(gate) => self.waits(gate, agent).await?,
                None => bail!("the agent says '{other}'"),
            },
        }
        Ok(None)
    }

    /// The agent waits for a person. The person answers, unless the agent must be killed first.
    async fn waits(&self, gate: &str, agent: &mut Child) -> Result<()> {
        say(&format!("    waits for a person at the gate '{gate}'"));
        if self.left.next().is_some_and(|next| next.point == Point::AtGate) {
            return Ok(());
        }
        say(&format!("    {PERSON} approves"));
        self.backing.approve(gate, agent).await
    }

    /// Kills the victim of the stop; true where that is the agent.
    async fn hit(&mut self, stop: &Stop, agent: &mut Child) -> Result<bool> {
        let Stop { step, point, victim } = stop;
        self.kills += 1;
        if matches!(victim, Victim::Server(_)) {
            say(&format!(
                "    tape-server is killed {point}: {step}; it is started again, the agent goes on"
            ));
            self.backing.kill_server(agent).await?;
            return Ok(false);
        }
        if *point == Point::AtGate {
            self.backing.gate_is_open().await?;
        }
        agent.kill().await.context("the agent cannot be killed")?;
        say(&format!("    is killed {point}: {step}"));
        Ok(true)
    }
}
