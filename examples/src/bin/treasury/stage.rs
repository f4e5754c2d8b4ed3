//! The play: one agent, killed and brought back until the book is closed.

use crate::ground::{Ground, PERSON};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::PathBuf;
use tape_examples::child::Child;
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

/// One play.
pub(crate) struct Stage {
    pub(crate) program: PathBuf,
    pub(crate) errors: PathBuf,
    /// What every agent is told, beside what it stands on.
    pub(crate) args: Vec<String>,
    pub(crate) ground: Ground,
    pub(crate) bank: Child,
    pub(crate) left: Vec<Stop>,
    pub(crate) kills: usize,
}

enum Drove {
    ToTheEnd,
    IntoAKill,
    Astray,
}

impl Stage {
    /// Plays until the run has ended.
    pub(crate) async fn play(&mut self) -> Result<()> {
        let mut unplanned = 0;
        crate::say("  agent 1 is started");
        for n in 2.. {
            let mut agent = self.start()?;
            match self.drive(&mut agent).await? {
                Drove::ToTheEnd => break,
                Drove::IntoAKill => {}
                Drove::Astray => {
                    unplanned += 1;
                    crate::say("    it ended early");
                    ensure!(
                        unplanned <= UNPLANNED_MAX,
                        "the agent ended {unplanned} times without having to"
                    );
                }
            }
            drop(agent);
            let who = self.ground.recover().await?;
            crate::say(&format!("  agent {n} is {who}"));
        }
        crate::say("    closes the book");
        Ok(())
    }

    fn start(&self) -> Result<Child> {
        let mut args = self.args.clone();
        args.extend(["--stops".to_owned(), serde_json::to_string(&self.left)?]);
        args.extend(self.ground.args());
        Child::start(&self.program, args, &self.errors)
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
                    None => {
                        agent.ended().await?;
                        return Ok(Drove::Astray);
                    }
                },
                held = self.bank.report_of("held") => {
                    held?;
                    let stop = self.take()?;
                    self.hit(&stop, agent).await?;
                    return Ok(Drove::IntoAKill);
                }
            }
        }
    }

    /// What the agent reports, and what to do about it.
    async fn heard(&mut self, report: &str, agent: &mut Child) -> Result<Option<Drove>> {
        match report {
            "stop" => {
                let stop = self.take()?;
                let killed = self.hit(&stop, agent).await?;
                return Ok(killed.then_some(Drove::IntoAKill));
            }
            "lost" => {
                let stop = self.take()?;
                crate::say(&format!(
                    "    the bank does {}, but its answer is lost; the agent asks again",
                    stop.step
                ));
            }
            "done" => {
                let status = agent.ended().await?;
                ensure!(status.success(), "the agent ended with {status}");
                return Ok(Some(Drove::ToTheEnd));
            }
            other => match other.strip_prefix("waiting ") {
                Some(gate) => self.waits(gate, agent).await?,
                None => bail!("the agent says '{other}'"),
            },
        }
        Ok(None)
    }

    /// The agent waits for a person, who comes unless the agent is to be killed first.
    async fn waits(&self, gate: &str, agent: &mut Child) -> Result<()> {
        crate::say(&format!("    waits for a person at the gate '{gate}'"));
        if self.left.first().is_some_and(|next| next.point == Point::AtGate) {
            return Ok(());
        }
        crate::say(&format!("    {PERSON} approves"));
        self.ground.approve(gate, agent).await
    }

    fn take(&mut self) -> Result<Stop> {
        ensure!(
            !self.left.is_empty(),
            "the agent stopped where no stop was planned"
        );
        Ok(self.left.remove(0))
    }

    /// Kills whom the stop is for; true where that is the agent.
    async fn hit(&mut self, stop: &Stop, agent: &mut Child) -> Result<bool> {
        let Stop { step, point, victim } = stop;
        self.kills += 1;
        if matches!(victim, Victim::Server(_)) {
            crate::say(&format!(
                "    tape-server is killed {point}: {step}; it is started again, the agent goes on"
            ));
            self.ground.kill_server(agent).await?;
            return Ok(false);
        }
        if *point == Point::AtGate {
            self.ground.gate_is_open().await?;
        }
        agent.kill().await.context("the agent cannot be killed")?;
        crate::say(&format!("    is killed {point}: {step}"));
        Ok(true)
    }
}
