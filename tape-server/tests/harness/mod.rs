//! Real servers on free ports, and the calls that tests make to them.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead as _, BufReader};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tape_core::command::{Begin, Create, DriverCommand, RunCommand};
use tape_core::effect::{EffectPolicy, EffectSpec, Mode, Semantics};
use tape_core::fingerprint::Fingerprint;
use tape_core::id::{EffectId, Epoch, Position, RequestId, RunId, Scope};
use tape_core::payload::Payload;
use tape_core::reply::Reply;
use tape_proto::convert::{RunCall, run_call};
use tape_proto::failure::Failure;
use tape_proto::v1;
use tape_proto::v1::retention_service_client::RetentionServiceClient;
use tape_proto::v1::run_service_client::RunServiceClient;
use tape_proto::v1::work_service_client::WorkServiceClient;
use tape_store::clock::{Clock as _, SystemClock};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// A server process, killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    pub(crate) fn start_with(dir: &Path, flags: &[&str]) -> Self {
        Self::start_on(&format!("sqlite:{}", dir.join("tape.db").display()), flags)
    }

    /// A server on the store at a URL.
    pub(crate) fn start_on(store: &str, flags: &[&str]) -> Self {
        Self::start_among(store, flags, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_among(store: &str, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = binary();
        command.envs(variables.iter().copied());
        Self::start_by(command, store, flags)
    }

    /// A server that a command starts by replacing itself.
    pub(crate) fn start_by(mut command: Command, store: &str, flags: &[&str]) -> Self {
        let mut child = command
            .args(["--store", store, "--lease-grace-ms", "1"])
            .args(if flags.contains(&"--listen") {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("tape-server listening on ")
            .expect("the server is ready");
        Self {
            child,
            address: address.to_owned(),
        }
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn runs(&self) -> Runs {
        Runs::new(self.connect().await)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process to end by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_tape-server")));
    command.env_clear().env("TAPE_LOG", "warn");
    command
}

pub(crate) fn run(name: &str) -> RunId {
    RunId::new("acme", "treasury", "ann", "s1", name).unwrap()
}

pub(crate) fn begin(run: &RunId, lease_ms: u64, recovery: bool) -> RunCommand {
    let create = Create {
        labels: [("desk".parse().unwrap(), "rates".to_owned())].into(),
        input: Payload::json(&serde_json::json!({"book": 7})),
        forked_from: None,
    };
    RunCommand::Begin(Begin {
        run: run.clone(),
        create: (!recovery).then_some(create),
        holder: "agent-1".parse().unwrap(),
        lease_ms,
        adopt: None,
        recovery,
    })
}

pub(crate) fn checkpoint(bytes: usize) -> DriverCommand {
    let state = Payload::new("application/octet-stream", vec![7; bytes]).unwrap();
    DriverCommand::Checkpoint {
        label: "step".parse().unwrap(),
        state,
    }
}

pub(crate) fn decision(k: u32) -> DriverCommand {
    DriverCommand::RecordDecision(tape_core::command::RecordDecision {
        position: Position {
            scope: Scope::root(),
            k,
        },
        fingerprint: Fingerprint::of_bytes(b"asked"),
        response: Payload::json(&serde_json::json!({"call": "pay"})),
        model: "m".into(),
        usage: tape_core::entry::decision::Usage::default(),
        rationale: None,
        policy_version: String::new(),
        spent: Vec::new(),
    })
}

pub(crate) fn begin_effect(k: u32, mode: Mode) -> DriverCommand {
    DriverCommand::BeginEffect {
        effect: EffectId {
            position: Position {
                scope: Scope::root(),
                k,
            },
            call: 0,
        },
        spec: EffectSpec {
            connector: "bank".parse().unwrap(),
            operation: "pay".parse().unwrap(),
            semantics: Semantics::Idempotent,
            mode,
            args: Payload::json(&serde_json::json!({"amount": 5})),
            business_key: None,
            undo: None,
            reserve: Vec::new(),
            policy: EffectPolicy::default(),
        },
    }
}

/// The service of runs, and the connection to it.
#[derive(Clone)]
pub(crate) struct Runs {
    service: RunServiceClient<Channel>,
    channel: Channel,
}

impl Runs {
    pub(crate) fn new(channel: Channel) -> Self {
        let service = RunServiceClient::new(channel.clone());
        Self { service, channel }
    }
}

impl Deref for Runs {
    type Target = RunServiceClient<Channel>;
    fn deref(&self) -> &Self::Target {
        &self.service
    }
}

impl DerefMut for Runs {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.service
    }
}

/// A request with an id of its own.
pub(crate) fn request(run: &RunId, body: RunCommand) -> RunCall {
    request_as(SystemClock.request_id(), run, body)
}

pub(crate) fn request_as(id: RequestId, run: &RunId, body: RunCommand) -> RunCall {
    run_call(run.clone(), tape_core::command::Command::new(id, body))
}

/// Sends a command in a call of its own.
pub(crate) async fn execute(runs: &mut Runs, call: RunCall) -> Result<Reply, Failure> {
    macro_rules! answer {
        ($client:ident.$method:ident($request:expr)) => {{
            let answer = $client.$method($request).await;
            let answer = answer.map_err(|status| Failure::from(&status))?;
            Ok(answer.into_inner().reply.unwrap().try_into().unwrap())
        }};
    }
    let mut work = WorkServiceClient::new(runs.channel.clone());
    let mut retention = RetentionServiceClient::new(runs.channel.clone());
    match call {
        RunCall::Drive(request) => {
            let command = Some(request);
            answer!(runs.drive_once(v1::DriveOnceRequest { command }))
        }
        RunCall::RetireRun(request) => answer!(retention.retire_run(request)),
        RunCall::ClaimEffect(request) => answer!(work.claim_effect(request)),
        RunCall::RenewEffectClaim(request) => answer!(work.renew_effect_claim(request)),
        RunCall::FinishEffect(request) => answer!(work.finish_effect(request)),
        RunCall::LapseEffect(request) => answer!(work.lapse_effect(request)),
        RunCall::ClaimObservation(request) => answer!(work.claim_observation(request)),
        RunCall::RecordObservation(request) => answer!(work.record_observation(request)),
        RunCall::ClaimObligation(request) => answer!(work.claim_obligation(request)),
        RunCall::RenewObligationClaim(request) => answer!(work.renew_obligation_claim(request)),
        RunCall::FinishObligation(request) => answer!(work.finish_obligation(request)),
        RunCall::ExpireGate(request) => answer!(work.expire_gate(request)),
        RunCall::FireTimer(request) => answer!(work.fire_timer(request)),
        RunCall::ReleaseVanishedDriver(request) => answer!(work.release_vanished_driver(request)),
        RunCall::SignalRun(request) => answer!(runs.signal_run(request)),
        RunCall::CancelRun(request) => answer!(runs.cancel_run(request)),
        RunCall::RetryRun(request) => answer!(runs.retry_run(request)),
        RunCall::SettleEffect(request) => answer!(runs.settle_effect(request)),
        RunCall::SettleObligation(request) => answer!(runs.settle_obligation(request)),
        RunCall::ReleaseClaim(request) => answer!(runs.release_claim(request)),
    }
}

/// A Drive stream whose answers are awaited one by one.
pub(crate) struct Driver {
    commands: Option<mpsc::Sender<v1::DriveRequest>>,
    answers: Streaming<v1::DriveResponse>,
    calls: u64,
}

impl Driver {
    pub(crate) async fn open(channel: Channel) -> Self {
        let (commands, receiver) = mpsc::channel(64);
        let answers = RunServiceClient::new(channel)
            .drive(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Self {
            commands: Some(commands),
            answers,
            calls: 0,
        }
    }

    pub(crate) async fn send(&mut self, call: RunCall) -> u64 {
        let RunCall::Drive(mut request) = call else {
            panic!("{call:?} is no driver's");
        };
        self.calls += 1;
        request.call = self.calls;
        self.commands.as_ref().unwrap().send(request).await.unwrap();
        self.calls
    }

    /// The next answer, or how the stream ended.
    pub(crate) async fn receive(&mut self) -> Result<Option<(u64, Result<Reply, Failure>)>, Failure> {
        use v1::drive_response::Outcome;
        let message = self
            .answers
            .message()
            .await
            .map_err(|status| Failure::from(&status))?;
        Ok(message.map(|message| match message.outcome.unwrap() {
            Outcome::Reply(reply) => (message.call, Ok(reply.try_into().unwrap())),
            Outcome::Error(error) => (message.call, Err(error.into())),
        }))
    }

    /// The next answer, which is a refusal.
    pub(crate) async fn refusal(&mut self) -> v1::Error {
        let message = self.answers.message().await.unwrap().expect("the stream is open");
        match message.outcome.unwrap() {
            v1::drive_response::Outcome::Error(error) => error,
            v1::drive_response::Outcome::Reply(reply) => panic!("{reply:?}"),
        }
    }

    pub(crate) async fn ask(&mut self, run: &RunId, body: RunCommand) -> Result<Reply, Failure> {
        let call = self.send(request(run, body)).await;
        let (answered, outcome) = self.receive().await.unwrap().expect("the stream is open");
        assert_eq!(answered, call);
        outcome
    }

    pub(crate) async fn drive(
        &mut self,
        run: &RunId,
        epoch: Epoch,
        body: DriverCommand,
    ) -> Result<Reply, Failure> {
        self.ask(run, RunCommand::Drive(epoch, body)).await
    }

    /// Closes the client's side.
    pub(crate) fn close(&mut self) {
        self.commands = None;
    }
}

/// The entries of a run's journal.
pub(crate) async fn read(runs: &mut Runs, run: &RunId, after_seq: u64) -> Vec<v1::Entry> {
    let request = v1::ReadRunRequest {
        run: Some(run.clone().into()),
        after_seq,
        ..Default::default()
    };
    let mut pages = runs.read_run(request).await.unwrap().into_inner();
    let mut entries = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        entries.extend(page.entries);
    }
    entries
}

/// What a request says of itself: an id of its own.
pub(crate) fn context() -> Option<v1::RequestContext> {
    Some(v1::RequestContext {
        request_id: SystemClock.request_id().0.as_bytes().to_vec().into(),
        ..Default::default()
    })
}

/// All tenants.
pub(crate) fn all_tenants() -> Option<v1::Tenants> {
    let which = v1::tenants::Which::All(v1::tenants::All {});
    Some(v1::Tenants { which: Some(which) })
}

/// The kinds of the entries of a run, after their chain was verified from the first on.
pub(crate) fn verified_kinds(run: &RunId, entries: &[v1::Entry]) -> Vec<&'static str> {
    let mut verifier = tape_core::chain::Verifier::new(&run.clone().into(), None);
    let kinds = entries.iter().cloned().map(|wire| {
        let stored = tape_core::codec::StoredEntry::try_from(wire).unwrap();
        verifier.check(&stored).unwrap();
        tape_core::codec::decode(&stored).unwrap().body.kind()
    });
    let kinds = kinds.collect();
    verifier.finish().unwrap();
    kinds
}
