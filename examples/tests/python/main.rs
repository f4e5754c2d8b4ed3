//! A client in Python, written from the documents and the contract alone (`tape_driver.py`), and Tape's own in Rust drive the same runs: each
//! takes up what the other was killed in, at every step. `agent.py` and the program `polyglot` are the same agent.

mod interpreter;
mod journals;
mod world;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use interpreter::Python;
use serde_json::Value;
use std::collections::BTreeSet;
use std::pin::pin;
use tape_client::core::id::{Epoch, GateName, SignalId};
use tape_client::{Begun, Payload, Tail};
use tape_examples::programs::program;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use world::{Language, World, run_id, said};

/// Runs under way at a time.
const RUNS: usize = 8;
/// Points of an undisturbed drive, at the least: fewer would mean that they are not counted.
const POINTS_MIN: u64 = 50;

/// What an undisturbed drive leaves: its output, its acts, and how many points it passed.
struct Undisturbed {
    output: Value,
    acts: BTreeSet<String>,
    points: u64,
}

impl Undisturbed {
    async fn of(world: &World, language: Language) -> Result<Self> {
        let points = world.drive(language, "day").await?["points"]
            .as_u64()
            .unwrap_or_default();
        ensure!(points >= POINTS_MIN, "{language:?} passed {points} points");
        let acts = acts_once(world, "day", 0)?;
        let told = world.drive(language.other(), "day").await?;
        ensure!(told["how"] == "completed", "{told}");
        let output = world.output("day").await?;
        ensure!(told["output"] == output, "{told}, not {output}");
        Ok(Self { output, acts, points })
    }

    /// The run came to the same end, and each act was done once.
    async fn is_like(&self, world: &World, run: &str, kills: usize) -> Result<()> {
        let output = world.output(run).await?;
        ensure!(output == self.output, "{run}: {output}, not {}", self.output);
        let acts = acts_once(world, run, kills)?;
        ensure!(acts == self.acts, "{run}: {acts:?}, not {:?}", self.acts);
        Ok(())
    }
}

/// The acts of a run, each done under one key. A kill may have the one that is under way asked for again, in each branch.
fn acts_once(world: &World, run: &str, kills: usize) -> Result<BTreeSet<String>> {
    let (again, first): (Vec<Value>, Vec<Value>) = world
        .ledger(run)?
        .into_iter()
        .partition(|line| line["again"] == true);
    ensure!(again.len() <= 2 * kills, "{run}: asked for again: {again:?}");
    let acts: BTreeSet<String> = first
        .iter()
        .map(|act| format!("{} {}", act["operation"], act["args"]))
        .collect();
    ensure!(acts.len() == first.len(), "{run}: done twice: {first:?}");
    Ok(acts)
}

/// The agent of `first` is killed at its `n`-th point, and that of the other language goes on to the end.
async fn taken_over(world: &World, first: Language, n: u64, like: &Undisturbed) -> Result<()> {
    let run = format!("{first:?}-{n}");
    world.kill(first, &run, n, None).await?;
    world.drive(first.other(), &run).await?;
    like.is_like(world, &run, 1).await
}

/// The agents take turns; each is killed after three steps. Three are needed: a refusal is told again only where the drive that recorded it
/// went on from it.
async fn in_turns(world: &World, first: Language, like: &Undisturbed) -> Result<()> {
    let (run, mut language, mut kills) = (format!("turns-{first:?}"), first, 0);
    while world.kill(language, &run, 4, Some("answered")).await? {
        (language, kills) = (language.other(), kills + 1);
    }
    ensure!(kills > 10, "{run} ended after {kills} kills");
    like.is_like(world, &run, kills).await
}

#[tokio::test]
async fn each_language_goes_on_where_the_other_was_killed() -> Result<()> {
    let Some(python) = Python::find().await? else {
        return Ok(());
    };
    let world = World::new(&python).await?;
    let like = Undisturbed::of(&world, Language::Rust).await?;
    let points = Language::BOTH
        .into_iter()
        .flat_map(|first| (1..=like.points).map(move |n| (first, n)));
    let (world_, like_) = (&world, &like);
    let each = stream::iter(points).map(|(first, n)| taken_over(world_, first, n, like_));
    let turns = Language::BOTH.map(|first| in_turns(&world, first, &like));
    let turns = futures::future::try_join_all(turns);
    tokio::try_join!(each.buffer_unordered(RUNS).try_collect::<()>(), turns)?;
    world.verify().await
}

#[tokio::test]
async fn undisturbed_runs_of_both_languages_agree() -> Result<()> {
    let Some(python) = Python::find().await? else {
        return Ok(());
    };
    let (one, other) = (World::new(&python).await?, World::new(&python).await?);
    let rust = Undisturbed::of(&one, Language::Rust).await?;
    let python = Undisturbed::of(&other, Language::Python).await?;
    assert_eq!(rust.output, python.output);
    let keys = |world: &World| -> Result<BTreeSet<String>> {
        Ok(world
            .ledger("day")?
            .into_iter()
            .map(|act| act.to_string())
            .collect())
    };
    assert_eq!(keys(&one)?, keys(&other)?);
    let (of_rust, of_python) = (
        journals::essence(&one.tape, "day").await?,
        journals::essence(&other.tape, "day").await?,
    );
    for (rust, python) in of_rust.iter().zip(&of_python) {
        assert_eq!(rust, python);
    }
    assert_eq!(of_rust.len(), of_python.len());
    one.verify().await?;
    other.verify().await
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_its_request() -> Result<()> {
    let Some(python) = Python::find().await? else {
        return Ok(());
    };
    let world = World::new(&python).await?;
    let like = Undisturbed::of(&world, Language::Python).await?;
    let kinds = async |run: &str| -> Result<Vec<String>> {
        let entries = journals::essence(&world.tape, run).await?;
        Ok(entries
            .iter()
            .map(|entry| entry["entry"]["kind"].to_string())
            .collect())
    };
    let entries = kinds("day").await?;
    let commands = entries.len() as u64;
    let lost = |n: u64| {
        let (world, like, kinds, entries) = (&world, &like, &kinds, &entries);
        async move {
            let run = format!("lost-{n}");
            said(
                &world
                    .agent(Language::Python, &run, "treasury")
                    .env("TAPE_LOSE", n.to_string())
                    .output()
                    .await?,
            )?;
            ensure!(&kinds(&run).await? == entries, "{run}: {:?}", kinds(&run).await?);
            like.is_like(world, &run, 0).await
        }
    };
    stream::iter((1..=commands).map(lost))
        .buffer_unordered(RUNS)
        .try_collect::<()>()
        .await?;
    world.verify().await
}

/// An agent that waits at its gate.
async fn waiting(mut agent: Command) -> Result<(Child, impl Future<Output = Result<Value>>)> {
    let mut agent = agent.spawn()?;
    let out = agent.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(out).lines();
    let first = lines.next_line().await?;
    ensure!(first.as_deref() == Some("waiting"), "{first:?}");
    let last = async move {
        let line = lines.next_line().await?;
        Ok(serde_json::from_str(&line.unwrap_or_default())?)
    };
    Ok((agent, last))
}

#[tokio::test]
async fn another_request_is_drift_and_another_driver_ends_the_drive() -> Result<()> {
    let Some(python) = Python::find().await? else {
        return Ok(());
    };
    let world = World::new(&python).await?;
    for first in Language::BOTH {
        let run = format!("waits-drift-{first:?}");
        let (mut agent, _) = waiting(world.agent(first, &run, "waits")).await?;
        agent.kill().await?;
        let told = said(
            &world
                .agent(first.other(), &run, "waits")
                .env("TAPE_DRIFT", "1")
                .output()
                .await?,
        )?;
        assert_eq!(told["stopped"], "Drift", "{told}");
        let run = format!("waits-fenced-{first:?}");
        let (_agent, told) = waiting(world.agent(first, &run, "waits")).await?;
        let begun = world.tape.run(run_id(&run)).adopt(Epoch(1)).begin().await?;
        assert!(matches!(begun, Begun::Driving(_)), "{begun:?}");
        assert_eq!(told.await?["stopped"], "Fenced");
    }
    world.verify().await
}

#[tokio::test]
async fn what_a_run_did_is_undone_where_it_fails_or_is_cancelled() -> Result<()> {
    let Some(python) = Python::find().await? else {
        return Ok(());
    };
    let world = World::new(&python).await?;
    for language in Language::BOTH {
        let run = format!("waits-cancelled-{language:?}");
        let (_agent, told) = waiting(world.agent(language, &run, "waits")).await?;
        world.tape.cancel(&run_id(&run), "enough").await?;
        assert_eq!(told.await?["driven"], true);
        is_undone(&world, &run, "run.cancelled").await?;
        let run = format!("fails-{language:?}");
        said(&world.agent(language, &run, "fails").output().await?)?;
        is_undone(&world, &run, "run.failed").await?;
    }
    world.verify().await
}

/// Waits until the run has ended: its one act is undone, once.
async fn is_undone(world: &World, run: &str, end: &str) -> Result<()> {
    let ends = world.tape.tail(&Tail {
        from_start: true,
        ..Tail::new(format!("acme.run.treasury.*.*.{run}.{end}").parse()?)
    });
    let seen = ends.try_filter(|page| std::future::ready(!page.entries.is_empty()));
    pin!(seen).try_next().await?;
    let ledger = world.ledger(run)?;
    let of = |n: usize, name: &str| ledger[n][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    assert_eq!(of(1, "operation"), "reverse");
    assert_eq!(of(1, "key"), format!("{}-undo", of(0, "key")));
    Ok(())
}

#[tokio::test]
async fn a_driver_goes_on_with_another_server_where_its_own_drains() -> Result<()> {
    let Some(python) = Python::find().await? else {
        return Ok(());
    };
    let world = World::new(&python).await?;
    let (mut draining, address) = server(&world.store()).await?;
    let (_next, next_address) = server(&world.store()).await?;
    let servers = format!("{address},{next_address}");
    let (_agent, told) =
        waiting(world.agent_at(&servers, Language::Python, "waits-drained", "waits")).await?;
    let pid = draining.id().expect("it runs").to_string();
    ensure!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await?
            .success()
    );
    draining.wait().await?;
    let run = run_id("waits-drained");
    let answer = Payload::json(&Value::from("yes"));
    world
        .tape
        .signal(&run, GateName::new("approve")?, SignalId::new("olga-1")?, answer)
        .await?;
    assert_eq!(told.await?["driven"], true);
    let entries = journals::essence(&world.tape, "waits-drained").await?;
    let taken = entries
        .iter()
        .filter(|entry| entry["entry"]["kind"] == "lease.acquired");
    assert_eq!(taken.count(), 1, "{entries:?}");
    world.verify().await
}

async fn server(store: &str) -> Result<(Child, String)> {
    let mut server = Command::new(program("tape-server", "tape-server")?);
    server.args([
        "--store",
        store,
        "--listen",
        "127.0.0.1:0",
        "--log",
        "warn",
        "--lease-grace-ms",
        "50",
    ]);
    let mut server = server
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let out = server.stdout.take().expect("it is piped");
    let line = BufReader::new(out).lines().next_line().await?.unwrap_or_default();
    let address = line.rsplit(' ').next().unwrap_or_default().to_owned();
    Ok((server, address))
}
