//! `tape stuck`, `settle`, `retry` and `approve`: work that waits for a person is listed with its remedies, and the journal records who
//! decided and why.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![cfg(feature = "sqlite")]

#[expect(dead_code, reason = "no server is killed here")]
#[path = "../../tests/remote/server.rs"]
mod server;

use expect_test::{Expect, expect};
use server::Server;
use std::process::{Command as Program, Output};
use std::sync::Arc;
use tape_client::core::command::{
    AttemptOutcome, Begin, Command, Create, DriverCommand, ExternalCommand, RecordDecision, RunCommand,
    UndoOutcome, WorkerCommand,
};
use tape_client::core::effect::{EffectPolicy, EffectSpec, Mode, Outcome, Semantics, Undo};
use tape_client::core::entry::decision::Usage;
use tape_client::core::entry::obligation::ObligationId;
use tape_client::core::fingerprint::Fingerprint;
use tape_client::core::id::{ConnectorName, EffectId, Epoch, GateName, Holder, Operation};
use tape_client::core::time::Deadline;
use tape_client::core::time::Timestamp;
use tape_client::{Payload, RunId};
use tape_engine::Engine;
use tape_store::clock::{Clock as _, ManualClock, SystemClock};

/// Lists what waits for a person, without overdue work: the journal's clock stands still, and the command's clock runs.
const WAITS: [&str; 5] = ["stuck", "--tenant", "acme", "--overdue", "36500d"];

/// A journal whose clock stands still.
struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    clock: Arc<ManualClock>,
}

fn id(invocation: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap()
}

fn effect() -> EffectId {
    "#0.0".parse().unwrap()
}

fn undo() -> ObligationId {
    ObligationId {
        effect: effect(),
        copy: 0,
    }
}

fn holder() -> Holder {
    Holder::new("w").unwrap()
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = tape_store::open::open(&url(&dir)).await.unwrap();
        // 2026-11-22, at noon.
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_795_348_800_000_000)));
        let engine = Engine::new(store, clock.clone());
        Self { dir, engine, clock }
    }

    async fn ask(&self, run: &RunId, command: RunCommand) {
        let request = self.engine.request_id();
        self.engine
            .run(run, Command::new(request, command))
            .await
            .unwrap();
    }

    async fn drive(&self, run: &RunId, command: DriverCommand) {
        self.ask(run, RunCommand::Drive(Epoch(1), command)).await;
    }

    async fn work(&self, run: &RunId, command: WorkerCommand) {
        self.ask(run, RunCommand::Work(command)).await;
    }

    /// A run with an effect in the outbox.
    async fn with_an_effect(&self, run: &RunId) {
        let begin = Begin {
            run: run.clone(),
            create: Some(Create {
                labels: Default::default(),
                input: Payload::empty(),
                forked_from: None,
            }),
            holder: holder(),
            lease_ms: 3_600_000,
            adopt: None,
            recovery: false,
        };
        self.ask(run, RunCommand::Begin(begin)).await;
        let decision = RecordDecision {
            position: "#0".parse().unwrap(),
            fingerprint: Fingerprint::of_bytes(b"asked"),
            response: Payload::empty(),
            model: "m".to_owned(),
            usage: Usage::default(),
            rationale: None,
            policy_version: String::new(),
            spent: Vec::new(),
        };
        self.drive(run, DriverCommand::RecordDecision(decision)).await;
        let spec = EffectSpec {
            connector: ConnectorName::new("bank").unwrap(),
            operation: Operation::new("pay").unwrap(),
            semantics: Semantics::NonIdempotent,
            mode: Mode::Outbox,
            args: Payload::empty(),
            business_key: None,
            undo: Some(Undo {
                operation: Operation::new("refund").unwrap(),
                args: Payload::empty(),
            }),
            reserve: Vec::new(),
            policy: EffectPolicy {
                attempts_max: 1,
                backoff_ms: 0,
                ..EffectPolicy::default()
            },
        };
        self.drive(
            run,
            DriverCommand::BeginEffect {
                effect: effect(),
                spec,
            },
        )
        .await;
    }

    async fn claim_effect(&self, run: &RunId) {
        let claim = WorkerCommand::ClaimEffect {
            effect: effect(),
            holder: holder(),
            claim_ms: 1_000,
        };
        self.work(run, claim).await;
    }

    /// The same with an attempt by a worker, which ended like this.
    async fn dispatched(&self, run: &RunId, ending: AttemptOutcome) {
        self.with_an_effect(run).await;
        self.claim_effect(run).await;
        let finish = WorkerCommand::FinishClaimed {
            effect: effect(),
            holder: holder(),
            attempt: 1,
            ending,
        };
        self.work(run, finish).await;
    }

    /// A run that waits for a person's verdict on its effect.
    async fn with_a_stuck_effect(&self, run: &RunId) {
        self.with_a_stuck_effect_and_its_driver(run).await;
        let stream = run.clone().into();
        let seen = self.engine.store().head(&stream).await.unwrap().unwrap();
        let suspend = DriverCommand::Suspend {
            seen: seen.seq,
            resume: None,
        };
        self.drive(run, suspend).await;
    }

    async fn with_a_stuck_effect_and_its_driver(&self, run: &RunId) {
        let cause = "the connection broke".to_owned();
        self.dispatched(run, AttemptOutcome::Unknown { cause }).await;
        let claim = WorkerCommand::ClaimObservation {
            effect: effect(),
            holder: holder(),
            claim_ms: 1_000,
        };
        self.work(run, claim).await;
        let seen = WorkerCommand::RecordObservation {
            effect: effect(),
            holder: holder(),
            observation: 1,
            outcome: Outcome::Absent,
            result: Payload::empty(),
            undo: None,
            undo_duplicates: Vec::new(),
            why: String::new(),
        };
        self.work(run, seen).await;
    }

    /// A run whose effect is to be undone.
    async fn with_an_undo(&self, run: &RunId) {
        let confirmed = AttemptOutcome::Confirmed {
            result: Payload::empty(),
            undo: None,
            spent: None,
        };
        self.dispatched(run, confirmed).await;
        let error = "the desk closed".to_owned();
        self.drive(run, DriverCommand::Fail { error }).await;
    }

    /// A run whose effect cannot be undone.
    async fn with_a_stuck_undo(&self, run: &RunId) {
        self.with_an_undo(run).await;
        self.fail_to_undo(run, 1).await;
    }

    async fn claim_undo(&self, run: &RunId) {
        let claim = WorkerCommand::ClaimObligation {
            obligation: undo(),
            holder: holder(),
            claim_ms: 1_000,
        };
        self.work(run, claim).await;
    }

    async fn fail_to_undo(&self, run: &RunId, attempt: u32) {
        self.claim_undo(run).await;
        let failed = WorkerCommand::FinishObligation {
            obligation: undo(),
            holder: holder(),
            attempt,
            ending: UndoOutcome::Retry {
                error: "no such account".to_owned(),
            },
        };
        self.work(run, failed).await;
    }

    fn tape(&self, args: &[&str]) -> Output {
        self.anonymous(&[&["--as", "ann", "--yes"], args].concat())
    }

    fn anonymous(&self, args: &[&str]) -> Output {
        let mut command = Program::new(env!("CARGO_BIN_EXE_tape"));
        command
            .env_clear()
            .env("TAPE_URL", url(&self.dir))
            .args(args)
            .output()
            .unwrap()
    }

    fn says(&self, args: &[&str], expected: &Expect) {
        let output = self.tape(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
    }

    /// The last lines of a run's journal, without their times.
    fn ends(&self, run: &str, lines: usize) -> Vec<String> {
        let output = String::from_utf8(self.tape(&["show", run]).stdout).unwrap();
        let entry = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
        let entries: Vec<&str> = output.lines().filter(entry).collect();
        let last = entries[entries.len() - lines..].iter();
        let told = last.map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" "));
        told.collect()
    }
}

fn url(dir: &tempfile::TempDir) -> String {
    format!("sqlite:{}", dir.path().join("tape.db").display())
}

#[tokio::test]
async fn what_waits_for_a_person_is_listed_with_its_remedies() {
    let world = World::new().await;
    world.with_a_stuck_effect(&id("effect")).await;
    world.clock.advance_ms(1_000);
    world.with_a_stuck_undo(&id("undo")).await;
    world.says(
        &["stuck", "--tenant", "acme"],
        &expect![[r#"
            acme/treasury/ann/s1/undo  since 2026-11-22 12:00:01.000
              undo of effect #0.0 bank refund: obligation of effect #0.0 failed in 1 attempt, the last: no such account
                tape retry acme/treasury/ann/s1/undo --undo '#0.0' --attempt 1 --reason WHY
                tape settle acme/treasury/ann/s1/undo '#0.0' --undone --attempt 1 --reason WHY
            acme/treasury/ann/s1/effect  since 2026-11-22 12:00:00.000
              effect #0.0 bank pay: it did not happen and may not be sent again without a person
                tape settle acme/treasury/ann/s1/effect '#0.0' --confirmed RESULT --attempt 1 --reason WHY
                tape settle acme/treasury/ann/s1/effect '#0.0' --failed --attempt 1 --reason WHY
                tape settle acme/treasury/ann/s1/effect '#0.0' --resend --attempt 1 --reason WHY
        "#]],
    );
    world.says(&["stuck", "--tenant", "other"], &expect![["none\n"]]);
}

/// Its driver may be busy with something else, or gone.
#[tokio::test]
async fn what_is_stuck_is_listed_whoever_drives_the_run() {
    let world = World::new().await;
    world.with_a_stuck_effect_and_its_driver(&id("driven")).await;
    let listed = expect![[r#"
        acme/treasury/ann/s1/driven  since 2026-11-22 12:00:00.000
          effect #0.0 bank pay: it did not happen and may not be sent again without a person
            tape settle acme/treasury/ann/s1/driven '#0.0' --confirmed RESULT --attempt 1 --reason WHY
            tape settle acme/treasury/ann/s1/driven '#0.0' --failed --attempt 1 --reason WHY
            tape settle acme/treasury/ann/s1/driven '#0.0' --resend --attempt 1 --reason WHY
    "#]];
    world.says(&WAITS, &listed);
    let gone = DriverCommand::ReleaseLease {
        redrive_in_ms: 0,
        undriven: false,
    };
    world.drive(&id("driven"), gone).await;
    world.says(&WAITS, &listed);
}

#[tokio::test]
async fn gates_that_wait_are_listed_with_their_answers() {
    let world = World::new().await;
    let run = id("gated");
    let failed = AttemptOutcome::Failed {
        error: "no".to_owned(),
        detail: None,
    };
    world.dispatched(&run, failed).await;
    for (gate, deadline) in [("desk", None), ("limit", Some(Deadline::InMs(60_000)))] {
        let gate = GateName::new(gate).unwrap();
        world
            .drive(&run, DriverCommand::OpenGate { gate, deadline })
            .await;
    }
    world.says(
        &WAITS,
        &expect![[r#"
            acme/treasury/ann/s1/gated  since 2026-11-22 12:00:00.000
              gate desk: it waits for an answer
                tape approve acme/treasury/ann/s1/gated desk --seen 7 --reason WHY
                tape approve acme/treasury/ann/s1/gated desk --seen 7 --deny --reason WHY
              gate limit: it waits for an answer until 2026-11-22 12:01:00.000
                tape approve acme/treasury/ann/s1/gated limit --seen 8 --reason WHY
                tape approve acme/treasury/ann/s1/gated limit --seen 8 --deny --reason WHY
        "#]],
    );
    let deny = ["--deny", "--reason", "too much"];
    let output = world.tape(&[&["approve", "acme/treasury/ann/s1/gated", "desk"], &deny[..]].concat());
    assert!(output.status.success());
    world.says(
        &WAITS,
        &expect![[r#"
            acme/treasury/ann/s1/gated  since 2026-11-22 12:00:00.000
              gate limit: it waits for an answer until 2026-11-22 12:01:00.000
                tape approve acme/treasury/ann/s1/gated limit --seen 8 --reason WHY
                tape approve acme/treasury/ann/s1/gated limit --seen 8 --deny --reason WHY
        "#]],
    );
}

/// Names are free text of tenants and agents; remedies are pasted into shells by people who may do anything.
#[tokio::test]
async fn a_pasted_remedy_names_what_it_is_about_and_runs_nothing_else() {
    let names = [
        "$(touch pasted)",
        "`touch pasted`",
        "'; touch pasted; '",
        "\"; touch pasted; \"",
        "--help",
        "-y",
        "a&touch pasted&b|c>d<e",
        "*",
        "\u{202e}drow",
        "~",
    ];
    let world = World::new().await;
    for name in names {
        let run = RunId::new("acme", name, name, name, name).unwrap();
        let failed = AttemptOutcome::Failed {
            error: "no".to_owned(),
            detail: None,
        };
        world.dispatched(&run, failed).await;
        let (gate, deadline) = (GateName::new(name).unwrap(), None);
        world
            .drive(&run, DriverCommand::OpenGate { gate, deadline })
            .await;
    }
    let text = String::from_utf8(world.tape(&WAITS).stdout).unwrap();
    assert!(!text.contains('\u{202e}'), "{text:?}");
    let approvals = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("tape "));
    let approvals: Vec<&str> = approvals.filter(|line| !line.contains("--deny")).collect();
    assert_eq!(approvals.len(), names.len(), "{text}");
    let tape = env!("CARGO_BIN_EXE_tape");
    for approval in approvals {
        let pasted = Program::new("sh")
            .args(["-c", &format!("tape() {{ '{tape}' \"$@\"; }}; tape {approval}")])
            .current_dir(world.dir.path())
            .env("TAPE_URL", url(&world.dir))
            .env("TAPE_PRINCIPAL", "ann")
            .output()
            .unwrap();
        let said = String::from_utf8(pasted.stdout).unwrap();
        let refused = String::from_utf8(pasted.stderr).unwrap();
        assert!(
            said.contains("the gate is answered"),
            "{approval}: {said}{refused}"
        );
    }
    assert!(!world.dir.path().join("pasted").exists());
    world.says(&WAITS, &expect![["none\n"]]);
}

/// If no process is set up for some work, nothing else reports it.
#[tokio::test]
async fn work_that_no_worker_has_taken_is_listed() {
    let world = World::new().await;
    let cancel = |why: &str| {
        RunCommand::External(ExternalCommand::Cancel {
            reason: why.to_owned(),
        })
    };
    world.with_an_undo(&id("undo")).await;
    world.with_an_undo(&id("undo-claimed")).await;
    world.claim_undo(&id("undo-claimed")).await;
    let cause = "the connection broke".to_owned();
    world
        .dispatched(&id("unknown"), AttemptOutcome::Unknown { cause })
        .await;
    world.with_an_effect(&id("claimed")).await;
    world.claim_effect(&id("claimed")).await;
    world.with_an_effect(&id("pending")).await;
    world.with_an_effect(&id("cancelled")).await;
    world.ask(&id("cancelled"), cancel("enough")).await;
    world.says(&["stuck", "--tenant", "acme"], &expect![[r#"
        acme/treasury/ann/s1/cancelled  since 2026-11-22 12:00:00.000
          the run: cancellation was asked for (enough) and it has had no driver since 2026-11-22 13:00:00.000: it needs a `tape-reactor` that does recovery
            tape cancel acme/treasury/ann/s1/cancelled --reason WHY
        acme/treasury/ann/s1/pending  since 2026-11-22 12:00:00.000
          the run: it is to be driven again since 2026-11-22 13:00:00.000, and no worker has taken it: it needs a `tape-reactor` with an agent of app 'treasury', or its own program to begin it
            tape cancel acme/treasury/ann/s1/pending --reason WHY
          effect #0.0 bank pay: it is to be sent since 2026-11-22 12:00:00.000, and no worker has claimed it: it needs a `tape-reactor` with connector 'bank'
        acme/treasury/ann/s1/claimed  since 2026-11-22 12:00:00.000
          the run: it is to be driven again since 2026-11-22 13:00:00.000, and no worker has taken it: it needs a `tape-reactor` with an agent of app 'treasury', or its own program to begin it
            tape cancel acme/treasury/ann/s1/claimed --reason WHY
          effect #0.0 bank pay: the claim of w ran out at 2026-11-22 12:00:01.000, and no worker has claimed it since: it needs a `tape-reactor` with connector 'bank'
            tape release acme/treasury/ann/s1/claimed '#0.0' --until 1795348801000000 --reason WHY
        acme/treasury/ann/s1/unknown  since 2026-11-22 12:00:00.000
          the run: it is to be driven again since 2026-11-22 13:00:00.000, and no worker has taken it: it needs a `tape-reactor` with an agent of app 'treasury', or its own program to begin it
            tape cancel acme/treasury/ann/s1/unknown --reason WHY
          effect #0.0 bank pay: it is to be asked about since 2026-11-22 12:00:00.000, and no worker has claimed it: it needs a `tape-reactor` with connector 'bank'
            tape settle acme/treasury/ann/s1/unknown '#0.0' --confirmed RESULT --attempt 1 --reason WHY
            tape settle acme/treasury/ann/s1/unknown '#0.0' --failed --attempt 1 --reason WHY
            tape settle acme/treasury/ann/s1/unknown '#0.0' --resend --attempt 1 --reason WHY
        acme/treasury/ann/s1/undo-claimed  since 2026-11-22 12:00:00.000
          undo of effect #0.0 bank refund: the claim of w ran out at 2026-11-22 12:00:01.000, and no worker has claimed it since: it needs a `tape-reactor` with connector 'bank'
            tape release acme/treasury/ann/s1/undo-claimed '#0.0' --undo --until 1795348801000000 --reason WHY
            tape settle acme/treasury/ann/s1/undo-claimed '#0.0' --undone --attempt 1 --reason WHY
        acme/treasury/ann/s1/undo  since 2026-11-22 12:00:00.000
          undo of effect #0.0 bank refund: it is to be carried out since 2026-11-22 12:00:00.000, and no worker has claimed it: it needs a `tape-reactor` with connector 'bank'
            tape settle acme/treasury/ann/s1/undo '#0.0' --undone --attempt 0 --reason WHY
    "#]]);
    // A server gives the same list.
    let server = Server::start(world.dir.path());
    for list in ["stuck", "runs"] {
        let over_it = world.tape(&["--store", &server.url(), list, "--tenant", "acme"]);
        assert_eq!(over_it.stdout, world.tape(&[list, "--tenant", "acme"]).stdout);
        assert!(String::from_utf8_lossy(&over_it.stdout).contains("enough"));
    }
    world.says(&WAITS, &expect![["none\n"]]);
    world.says(
        &["runs", "--tenant", "acme", "--status", "running"],
        &expect![[r#"
            2026-11-22 12:00:00.000  running       acme/treasury/ann/s1/cancelled  ALONE since 2026-11-22 13:00:00.000, last driven by w, cancellation asked for: enough
            2026-11-22 12:00:00.000  running       acme/treasury/ann/s1/pending  ALONE since 2026-11-22 13:00:00.000, last driven by w
            2026-11-22 12:00:00.000  running       acme/treasury/ann/s1/claimed  ALONE since 2026-11-22 13:00:00.000, last driven by w
            2026-11-22 12:00:00.000  running       acme/treasury/ann/s1/unknown  ALONE since 2026-11-22 13:00:00.000, last driven by w
        "#]],
    );
    let listed = world
        .tape(&["stuck", "--tenant", "acme", "--json", "--limit", "1"])
        .stdout;
    expect![[r#"
        {"remedies":["cancel acme/treasury/ann/s1/cancelled --reason WHY"],"run":"acme/treasury/ann/s1/cancelled","since":"2026-11-22 12:00:00.000","what":"the run","why":"cancellation was asked for (enough) and it has had no driver since 2026-11-22 13:00:00.000: it needs a `tape-reactor` that does recovery"}
        {"remedies":["release acme/treasury/ann/s1/undo-claimed '#0.0' --undo --until 1795348801000000 --reason WHY","settle acme/treasury/ann/s1/undo-claimed '#0.0' --undone --attempt 1 --reason WHY"],"run":"acme/treasury/ann/s1/undo-claimed","since":"2026-11-22 12:00:00.000","what":"undo of effect #0.0 bank refund","why":"the claim of w ran out at 2026-11-22 12:00:01.000, and no worker has claimed it since: it needs a `tape-reactor` with connector 'bank'"}
        {"cut":true,"listed":2}
    "#]].assert_eq(&String::from_utf8(listed).unwrap());
}

/// Work is overdue only once it was due for long, not right after it was written.
#[tokio::test]
async fn work_that_is_due_for_a_moment_is_not_listed() {
    let world = World::new().await;
    world.clock.set(SystemClock.now());
    world.with_an_undo(&id("undo")).await;
    world.says(&["stuck", "--tenant", "acme"], &expect![["none\n"]]);
    let at_once = world.tape(&["stuck", "--tenant", "acme", "--overdue", "0s"]);
    let said = String::from_utf8(at_once.stdout).unwrap();
    assert!(
        said.contains("it needs a `tape-reactor` with connector 'bank'"),
        "{said}"
    );
}

/// The question before a cancellation names the effects of the run, including those under way.
#[tokio::test]
async fn a_cancellation_says_what_happened_and_what_may_have() {
    let world = World::new().await;
    world.with_an_effect(&id("pending")).await;
    world.with_an_effect(&id("started")).await;
    world.claim_effect(&id("started")).await;
    let confirmed = AttemptOutcome::Confirmed {
        result: Payload::empty(),
        undo: None,
        spent: None,
    };
    world.dispatched(&id("confirmed"), confirmed).await;
    for (run, did) in [
        ("pending", "0 effects happened, 0 to be undone. Without"),
        (
            "started",
            "0 effects happened, 0 to be undone; 1 more may have happened. Without",
        ),
        ("confirmed", "1 effect happened, 1 to be undone. Without"),
    ] {
        let cancel = [
            "--as",
            "ann",
            "cancel",
            &format!("acme/treasury/ann/s1/{run}"),
            "--reason",
            "no",
        ];
        let told = String::from_utf8(world.anonymous(&cancel).stderr).unwrap();
        assert!(told.contains(did), "{told}");
    }
}

#[tokio::test]
async fn a_list_that_is_cut_says_so() {
    let world = World::new().await;
    for invocation in ["a", "b", "c"] {
        world.with_a_stuck_effect(&id(invocation)).await;
        world.clock.advance_ms(1_000);
    }
    let last = |args: &[&str]| {
        let said = String::from_utf8(world.tape(args).stdout).unwrap();
        said.lines().last().unwrap().to_owned()
    };
    let stuck = ["stuck", "--tenant", "acme", "--limit"];
    assert_eq!(
        last(&[&stuck[..], &["2"]].concat()),
        "cut: only the newest 2 runs were looked at of those that are stuck; --limit N looks at more"
    );
    assert_eq!(
        last(&[&stuck[..], &["2", "--json"]].concat()),
        r#"{"cut":true,"listed":2}"#
    );
    assert_eq!(
        last(&[&stuck[..], &["3", "--json"]].concat()),
        r#"{"cut":false,"listed":3}"#
    );
    let runs = ["runs", "--tenant", "acme", "--limit"];
    assert_eq!(
        last(&[&runs[..], &["2"]].concat()),
        "cut: 2 are listed, and there may be more; --limit N lists more"
    );
    assert!(last(&[&runs[..], &["3"]].concat()).ends_with("acme/treasury/ann/s1/a"));
    assert!(last(&[&runs[..], &["100000"]].concat()).ends_with("acme/treasury/ann/s1/a"));
    assert_eq!(
        last(&[&runs[..], &["100000", "--status", "failed", "--json"]].concat()),
        r#"{"cut":false,"listed":0}"#
    );
    let nothing = ["tail", "acme.run.*.*.*.*.run.failed", "--from-start", "--once"];
    assert_eq!(last(&nothing), "no entries");
}

/// An effect that was undone must not be shown as confirmed.
#[tokio::test]
async fn an_effect_that_was_undone_is_shown_as_undone() {
    let world = World::new().await;
    let undo = "acme/treasury/ann/s1/undo";
    world.with_a_stuck_undo(&id("undo")).await;
    let effects = || {
        let shown = String::from_utf8(world.tape(&["show", undo]).stdout).unwrap();
        shown.lines().last().unwrap().to_owned()
    };
    expect!["  #0.0         bank pay                 undo stuck attempts 1  key tape-9dd8f07791d30879110a33d83f031338bbc"]
        .assert_eq(&effects());
    let retried = ["retry", undo, "--undo", "#0.0", "--reason", "the account is open"];
    assert!(world.tape(&retried).status.success());
    expect!["  #0.0         bank pay                 being undone attempts 1  key tape-9dd8f07791d30879110a33d83f031338bbc"].assert_eq(&effects());
    let settled = [
        "settle",
        undo,
        "#0.0",
        "--undone",
        "--reason",
        "paid back in cash",
    ];
    world.clock.set(SystemClock.now().plus_millis(1_000));
    world.fail_to_undo(&id("undo"), 2).await;
    assert!(world.tape(&settled).status.success());
    expect!["  #0.0         bank pay                 undone     attempts 1  key tape-9dd8f07791d30879110a33d83f031338bbc"].assert_eq(&effects());
    let shown: serde_json::Value =
        serde_json::from_slice(&world.tape(&["show", undo, "--json"]).stdout).unwrap();
    assert_eq!(shown["effects"][0]["status"], "undone");
}

/// A later reader of the journal must see who decided.
#[tokio::test]
async fn nobody_decides_without_a_name() {
    let world = World::new().await;
    let run = "acme/treasury/ann/s1/effect";
    world.with_a_stuck_effect(&id("effect")).await;
    let before = world.ends(run, 1);
    for decision in [
        &["settle", run, "#0.0", "--failed", "--reason", "no"][..],
        &["retry", run, "--reason", "no"],
        &["approve", run, "desk", "--reason", "no"],
    ] {
        let output = world.anonymous(decision);
        assert!(!output.status.success(), "{decision:?}");
        expect![[r#"
            tape: the journal has to say who decides this: say --as NAME, or set TAPE_PRINCIPAL
        "#]]
        .assert_eq(&String::from_utf8(output.stderr).unwrap());
    }
    assert_eq!(world.ends(run, 1), before, "nothing was written");
}

#[tokio::test]
async fn who_settles_or_retries_is_recorded_with_the_reason() {
    let world = World::new().await;
    let (effect, undo) = ("acme/treasury/ann/s1/effect", "acme/treasury/ann/s1/undo");
    world.with_a_stuck_effect(&id("effect")).await;
    world.with_a_stuck_undo(&id("undo")).await;
    world.says(
        &[
            "settle",
            effect,
            "#0.0",
            "--resend",
            "--reason",
            "I asked the bank",
        ],
        &expect![[r#"
            effect #0.0 bank pay is stuck in attempt 1
            entry 10: recorded
        "#]],
    );
    world.says(
        &[
            "retry",
            undo,
            "--undo",
            "#0.0",
            "--reason",
            "the account is open again",
        ],
        &expect![[r#"
            the undo of effect #0.0 is stuck in attempt 1
            entry 10: recorded
        "#]],
    );
    // The command has used the clock of the machine.
    world.clock.set(SystemClock.now().plus_millis(1_000));
    world.fail_to_undo(&id("undo"), 2).await;
    world.says(
        &[
            "settle",
            undo,
            "#0.0",
            "--undone",
            "--reason",
            "paid back in cash",
        ],
        &expect![[r#"
            the undo of effect #0.0 is stuck in attempt 2
            entry 14: the run has ended
        "#]],
    );
    world.says(
        &[
            "signal",
            effect,
            "desk",
            "{\"approved\":true,\"reason\":\"within the limit\"}",
            "--id",
            "yes",
        ],
        &expect![[r#"
            entry 11: recorded; it answers the gate when the gate opens
        "#]],
    );
    expect![[r#"
        [
            "effect #0.0 may be sent again: I asked the bank (by ann)",
            "gate desk signal yes came early {\"approved\":true,\"reason\":\"within the limit\"} (by ann)",
        ]
    "#]]
    .assert_debug_eq(&world.ends(effect, 2));
    expect![[r#"
        [
            "undo of #0.0 to be tried again: the account is open again (by ann)",
            "undo of #0.0 attempt 2 by w",
            "undo of #0.0 STUCK: obligation of effect #0.0 failed in 1 attempt, the last: no such account",
            "undo of #0.0 done by a person (paid back in cash) (by ann)",
            "run.failed the desk closed (by ann)",
        ]
    "#]]
    .assert_debug_eq(&world.ends(undo, 5));
    let again = world.tape(&["retry", undo, "--reason", "once more"]);
    assert!(!again.status.success(), "it is over");
}
