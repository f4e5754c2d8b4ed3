//! The rules of Tape inside a host that stores the journal itself: a file of lines, no database, no async runtime.
//!
//! `tape-core` decides; the host appends what was decided, brings it to the disk, and folds it back into its state.
//! Here the first life of the agent ends between the bank's answer and the record, with half a line written.
#![expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tape_core::chain::{Chain, Verifier};
use tape_core::codec::{Stamp, StoredEntry};
use tape_core::command::{AttemptOutcome, Begin, Command, Create, DriverCommand, RecordDecision, RunCommand};
use tape_core::decider::Decider as _;
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics};
use tape_core::entry::decision::Usage;
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{ConnectorName, EffectId, Epoch, Holder, Operation, RequestId, RunId, Scope, Seq};
use tape_core::payload::{Digest, Payload};
use tape_core::replay::{Replay, Settled};
use tape_core::reply::{Reply, ReplyResult};
use tape_core::run::{Lease, Run};
use tape_core::time::Timestamp;

/// Drives an agent twice over a journal that the host keeps itself in a file of lines; its first life ends in the middle of a line.
#[derive(Parser)]
struct Cli {}

fn main() -> Result<()> {
    Cli::parse();
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("journal.lines");
    let mut world = World::default();

    println!("first life:");
    drive(&mut Journal::open(&file)?, &mut world, true)?;
    // The process died while it wrote its next line.
    OpenOptions::new()
        .append(true)
        .open(&file)?
        .write_all(br#"{"seq":5,"enve"#)?;

    println!("second life:");
    drive(&mut Journal::open(&file)?, &mut world, false)?;

    let (entries, head) = verify(&file)?;
    println!(
        "the chain over {entries} entries verifies; it ends in {}",
        head.short()
    );
    println!(
        "the model was asked {} time(s), the bank paid {} time(s)",
        world.asked,
        world.paid.len()
    );
    if (world.asked, world.paid.len()) == (1, 1) {
        Ok(())
    } else {
        bail!("something was done twice")
    }
}

/// The outside world of the agent: a model, and a bank that honours idempotency keys.
#[derive(Default)]
struct World {
    asked: usize,
    paid: Vec<String>,
}

impl World {
    fn ask(&mut self) -> Value {
        self.asked += 1;
        json!({ "pay": true })
    }

    fn pay(&mut self, key: String) -> Value {
        if !self.paid.contains(&key) {
            self.paid.push(key);
        }
        json!({ "receipt": self.paid.len() })
    }
}

/// The run.
fn bill() -> Result<RunId> {
    Ok(RunId::new("demo", "bills", "ann", "march", "bill-7")?)
}

/// The agent: one decision, one payment.
fn drive(journal: &mut Journal, world: &mut World, die: bool) -> Result<()> {
    let run = bill()?;
    let epoch = journal.begin(&run)?;
    let request = json!({ "task": "Is this bill to be paid?", "cents": 12_050 });
    let fingerprint = Fingerprint::of_json(&request);
    let next = journal.replay.decide(&Scope::root(), &fingerprint)?;
    let position = next.position;
    if next.recorded.is_some() {
        println!("  the decision is replayed");
    } else {
        println!("  the model is asked");
        let decision = RecordDecision {
            position: position.clone(),
            fingerprint,
            response: Payload::json(&world.ask()),
            model: "scripted".to_owned(),
            usage: Usage::default(),
            rationale: None,
            policy_version: String::new(),
            spent: Vec::new(),
        };
        journal.drive(epoch, DriverCommand::RecordDecision(decision))?;
        journal.replay.decided(&position);
    }
    let effect = EffectId { position, call: 0 };
    let Some(attempt) = journal.intend(epoch, &effect, payment(&request)?)? else {
        println!("  the payment is confirmed already");
        return Ok(());
    };
    println!("  the bank is called, attempt {attempt}");
    let result = Payload::json(&world.pay(effect.idempotency_key(&run)));
    if die {
        println!("  the process dies before it can write down the answer");
        return Ok(());
    }
    let ending = AttemptOutcome::Confirmed {
        result: result.clone(),
        undo: None,
        spent: None,
    };
    journal.drive(
        epoch,
        DriverCommand::FinishEffect {
            effect,
            attempt,
            ending,
        },
    )?;
    journal.drive(epoch, DriverCommand::Complete { output: result })?;
    println!("  the run completes");
    Ok(())
}

fn payment(args: &Value) -> Result<EffectSpec> {
    Ok(EffectSpec {
        connector: ConnectorName::new("bank")?,
        operation: Operation::new("pay")?,
        semantics: Semantics::Idempotent,
        mode: Mode::Inline,
        args: Payload::json(args),
        business_key: None,
        undo: None,
        reserve: Vec::new(),
        policy: EffectPolicy::default(),
    })
}

/// A journal in a file of lines. It is locked: this host has one process, so no other process extends the run meanwhile.
struct Journal {
    file: File,
    state: Run,
    replay: Replay,
    chain: Chain,
    requests: u128,
}

/// A stored entry as a line of JSON.
#[derive(Serialize, Deserialize)]
struct Line {
    seq: Seq,
    envelope: String,
    payload: String,
    digest: Digest,
}

impl Journal {
    /// Opens the file, cuts off a line that was not written to its end, and folds the others.
    fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        file.try_lock().context("another process drives this journal")?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(u64::try_from(whole)?)?;
        let (state, replay) = (Run::default(), Replay::default());
        let mut journal = Self {
            file,
            state,
            replay,
            chain: Chain::new(&bill()?.into()),
            requests: 0,
        };
        for line in text[..whole].lines() {
            journal.fold(&stored(line)?)?;
        }
        Ok(journal)
    }

    fn fold(&mut self, stored: &StoredEntry) -> Result<()> {
        let entry = self.chain.follow(stored)?.entry;
        self.state.apply(&entry)?;
        self.replay.apply(entry)?;
        Ok(())
    }

    /// Decides a command, makes what was decided durable, and folds it.
    fn command(&mut self, command: RunCommand) -> Result<Reply> {
        self.requests += 1;
        // The last bits of request ids only have to differ; the number of entries makes those of two lives differ.
        let random = u128::from(self.chain.seq().0) << 32 | self.requests;
        let at = now()?;
        let command = Command::new(RequestId::new(at, random), command);
        let decided = self.state.decide(&command, at)?;
        let stamp = Stamp::of(&command, at);
        let (mut lines, mut entries) = (Vec::new(), Vec::new());
        let mut chain = self.chain.clone();
        for body in decided.entries {
            let (_, entry) = chain.seal(&stamp, body);
            lines.extend(line(&entry)?);
            entries.push(entry);
        }
        self.file.write_all(&lines)?;
        self.file.sync_data()?;
        entries.iter().try_for_each(|entry| self.fold(entry))?;
        Ok(decided.reply)
    }

    fn drive(&mut self, epoch: Epoch, command: DriverCommand) -> Result<Reply> {
        self.command(RunCommand::Drive(epoch, command))
    }

    /// Begins or adopts the run. The file's lock proves that an earlier driver is gone, so this does not wait for its lease.
    fn begin(&mut self, run: &RunId) -> Result<Epoch> {
        let held = matches!(self.state.lease(), Lease::Held { .. });
        let begin = Begin {
            run: run.clone(),
            create: Some(Create {
                labels: [].into(),
                input: Payload::empty(),
                forked_from: None,
            }),
            holder: Holder::new("core-only")?,
            lease_ms: 60_000,
            adopt: held.then(|| self.state.epoch()),
            recovery: false,
        };
        match self.command(RunCommand::Begin(begin))?.result {
            ReplyResult::Leased { epoch, .. } => Ok(epoch),
            other => bail!("the run cannot be driven: {other:?}"),
        }
    }

    /// Makes the intent of an effect durable and starts an attempt; none where the effect is settled.
    fn intend(&mut self, epoch: Epoch, effect: &EffectId, spec: EffectSpec) -> Result<Option<u32>> {
        let recorded = self
            .replay
            .ask_effect(effect, &spec)?
            .map(|record| record.settled.clone());
        let effect = effect.clone();
        let command = match recorded {
            Some(Some(Settled::Confirmed(_))) => return Ok(None),
            Some(Some(Settled::Failed { error, .. })) => bail!("the payment failed: {error}"),
            Some(None) => DriverCommand::RestartEffect { effect },
            None => DriverCommand::BeginEffect { effect, spec },
        };
        match self.drive(epoch, command)?.result {
            ReplyResult::Effect { attempt, .. } => Ok(Some(attempt)),
            other => bail!("the payment cannot be started: {other:?}"),
        }
    }
}

fn line(entry: &StoredEntry) -> Result<Vec<u8>> {
    let payload = entry.payload.as_deref().unwrap_or_default();
    let line = Line {
        seq: entry.seq,
        envelope: std::str::from_utf8(&entry.envelope)?.to_owned(),
        payload: hex::encode(payload),
        digest: entry.digest,
    };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    Ok(line)
}

fn stored(line: &str) -> Result<StoredEntry> {
    let Line {
        seq,
        envelope,
        payload,
        digest,
    } = serde_json::from_str(line)?;
    Ok(StoredEntry {
        seq,
        envelope: envelope.into(),
        payload: Some(hex::decode(payload)?.into()),
        digest,
    })
}

/// Verifies the chain of a journal's file, as any owner of the file can.
fn verify(path: &Path) -> Result<(usize, Digest)> {
    let text = std::fs::read_to_string(path)?;
    let mut verifier = Verifier::new(&bill()?.into(), None);
    for line in text.lines() {
        verifier.check(&stored(line)?)?;
    }
    let (_, head) = verifier.finish()?;
    Ok((text.lines().count(), head))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the core alone: this program has no environment"
)]
fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(i64::try_from(since.as_micros())?))
}
