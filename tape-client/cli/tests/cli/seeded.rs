//! The store on which the commands are tested.

use expect_test::Expect;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tape_client::core::id::Holder;
use tape_client::core::time::Timestamp;
use tape_client::{Answer, CallError, Connect, Currency, EffectPolicy, RunId, Tape};
use tape_engine::Engine;
use tape_store::clock::ManualClock;

/// A store with a run that completed, one that waits at a gate, and one with an effect whose outcome is unknown.
pub(crate) struct Seeded {
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) const DONE: &str = "acme/treasury/ann/s1/done";

pub(crate) fn id(invocation: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap()
}

impl Seeded {
    pub(crate) async fn new() -> Self {
        let seeded = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let store = tape_store::open::open(&seeded.url()).await.unwrap();
        // 2026-11-22, at noon.
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_795_348_800_000_000)));
        let connect = Tape::over(Engine::new(store, clock.clone())).holder(Holder::new("agent-1").unwrap());
        let tape = connect.suspend_after(Duration::ZERO).connect().await.unwrap();
        done(&tape, &clock).await;
        clock.advance_ms(1000);
        waiting(&tape).await;
        clock.advance_ms(1000);
        unknown(&tape).await;
        seeded
    }

    /// The journal an hour after the runs were made.
    pub(crate) async fn later(&self) -> Connect {
        let store = tape_store::open::open(&self.url()).await.unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_795_352_400_000_000)));
        Tape::over(Engine::new(store, clock))
    }

    /// A run that a version of the agent began, an hour after the others, and completed.
    pub(crate) async fn of_version(&self, invocation: &str, version: &str) {
        let connect = self.later().await.agent_version(version);
        let tape = connect.connect().await.unwrap();
        let run = tape.run(id(invocation)).label("desk", "fx").begin().await;
        run.unwrap().driving().unwrap().complete(&()).await.unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("book.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tape"));
        command.env_clear().env("TAPE_URL", self.url()).args(args);
        command
    }

    pub(crate) fn tape(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a statement on the file itself.
    pub(crate) async fn execute(&self, statement: &str) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        let mut connection = options.connect().await.unwrap();
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) fn says(&self, args: &[&str], expected: &Expect) {
        let output = self.tape(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
    }

    pub(crate) fn refuses(&self, args: &[&str], expected: &Expect) {
        let output = self.tape(args);
        assert!(!output.status.success(), "{args:?}");
        expected.assert_eq(&String::from_utf8(output.stderr).unwrap());
    }
}

async fn done(tape: &Tape, clock: &ManualClock) {
    let begin = tape
        .run(id("done"))
        .label("desk", "fx")
        .input_json(&json!({"day": 1}));
    let run = begin.begin().await.unwrap().driving().unwrap();
    run.open_budget("usd", Currency::MicroUsd, 1_000).await.unwrap();
    let answer = || async { Ok::<_, tape_client::Error>(Answer::json(&"sweep")?.model("scripted")) };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    clock.advance_ms(250);
    let args = json!({"from": "a", "to": "b"});
    let effect = run
        .effect(&decision, "bank", "transfer")
        .args(&args)
        .undo("reverse", &args)
        .reserve("usd", 100);
    let act = |_| std::future::ready(Ok::<_, CallError>(json!({"receipt": 7})));
    let _: serde_json::Value = effect.run(act).await.unwrap();
    clock.advance_ms(1500);
    run.complete(&json!({"booked": true})).await.unwrap();
}

async fn waiting(tape: &Tape) {
    let run = tape.run(id("waiting")).begin().await.unwrap().driving().unwrap();
    run.gate("approval").wait().await.unwrap_err();
}

async fn unknown(tape: &Tape) {
    let run = tape.run(id("unknown")).begin().await.unwrap().driving().unwrap();
    let answer = || async { Answer::json(&"pay") };
    let decision = run.decide(&json!("what now?"), answer).await.unwrap();
    let policy = EffectPolicy {
        attempts_max: 1,
        ..EffectPolicy::default()
    };
    let effect = run.effect(&decision, "bank", "pay").policy(policy);
    effect
        .run(|_| std::future::ready(Err::<(), _>(CallError::unknown("timeout"))))
        .await
        .unwrap_err();
}
