//! A connector in any language: a command that reads one JSON object and writes one.

use super::answer::{Compensated, Dispatched, Observed};
use crate::connector::{Call, Connector, NotUndone, Observation};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use tape_core::command::Ending;
use tape_core::payload::Payload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Starts a program for each call, writes what is asked to its standard input and reads its answer from its standard output.
///
/// What is asked is one JSON object: `do` (`dispatch`, `observe`, `compensate` or `observe_undo`), `run`, `effect`, `connector`,
/// `operation`, `args`, `content_type`, `key`, `business_key`, `semantics`, `attempt`, `unwanted` and `time_left_ms`. `args` is the value of
/// a JSON payload, the text of a text, or else `{"hex": "..."}`.
///
/// The answer to a dispatch is `{"confirmed": {"result": ..., "undo": {"operation": ..., "args": ...}, "spent": [...]}}`,
/// `{"failed": {"error": ..., "detail": ...}}`, `{"retry": {"error": ..., "after_ms": ...}}` or `{"unknown": {"cause": ...}}`; to an
/// observation `{"found": {"result": ..., "undo": ...}}`, `"absent"`, `{"duplicate": {"result": ..., "undo_duplicate": ...}}` or
/// `{"inconclusive": {"why": ...}}`; to a compensation `{"done": {"result": ...}}`, `{"failed": {"error": ...}}`, which says that this
/// attempt undid nothing, or `{"unknown": {"cause": ...}}`. Before another compensation, where an earlier one may have undone it,
/// `observe_undo` asks whether one did; the answer is one to an observation.
///
/// A program that cannot be started has done nothing. One that ends in failure, or answers something else, may have done anything.
/// Where nobody waits for its answer any longer, it is killed.
#[derive(Clone, Debug)]
pub struct CommandConnector {
    program: PathBuf,
    args: Vec<String>,
}

/// Why there is no answer.
enum Problem {
    NotStarted(std::io::Error),
    Broken(String),
}

impl CommandConnector {
    /// Runs `program` with `args`.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = String>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().collect(),
        }
    }

    async fn ask<A: DeserializeOwned>(&self, what: &str, call: &Call) -> Result<A, Problem> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Problem::NotStarted)?;
        let broken = |error: std::io::Error| Problem::Broken(format!("talking to it failed: {error}"));
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        let question = question(what, call).to_string();
        let tell = async move {
            // A program that does not care about the question may have closed its input.
            let _ = stdin.write_all(question.as_bytes()).await;
        };
        let mut answer = Vec::new();
        let mut bounded = stdout.take(ANSWER_BYTES_MAX + 1);
        let ((), read) = tokio::join!(tell, bounded.read_to_end(&mut answer));
        read.map_err(broken)?;
        let status = child.wait().await.map_err(broken)?;
        parse(&answer, status).map_err(Problem::Broken)
    }
}

fn parse<A: DeserializeOwned>(answer: &[u8], status: ExitStatus) -> Result<A, String> {
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    if answer.len() as u64 > ANSWER_BYTES_MAX {
        return Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(answer).map_err(|error| format!("its answer makes no sense: {error}"))
}

fn question(what: &str, call: &Call) -> Value {
    let left = call
        .deadline
        .saturating_duration_since(tokio::time::Instant::now());
    json!({
        "do": what,
        "run": call.run,
        "effect": call.effect,
        "connector": call.connector,
        "operation": call.operation,
        "args": args(&call.args),
        "content_type": call.args.content_type(),
        "key": call.key,
        "business_key": call.business_key,
        "semantics": call.semantics,
        "attempt": call.attempt,
        "unwanted": call.unwanted,
        "time_left_ms": u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    })
}

fn args(args: &Payload) -> Value {
    let bytes = args.bytes().map(AsRef::as_ref).unwrap_or_default();
    let parsed = || {
        (args.content_type() == Payload::JSON)
            .then(|| serde_json::from_slice(bytes).ok())
            .flatten()
    };
    let text = || std::str::from_utf8(bytes).ok().map(Value::from);
    parsed()
        .or_else(text)
        .unwrap_or_else(|| json!({"hex": hex::encode(bytes)}))
}

#[async_trait]
impl Connector for CommandConnector {
    async fn dispatch(&self, call: &Call) -> Ending {
        match self.ask("dispatch", call).await {
            Ok(answer) => Dispatched::ending(answer),
            Err(Problem::NotStarted(error)) => Ending::Retry {
                error: format!("{} cannot be started: {error}", self.program.display()),
                after_ms: None,
            },
            Err(Problem::Broken(cause)) => Ending::Unknown { cause },
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        match self.ask("observe", call).await {
            Ok(answer) => Observed::observation(answer),
            Err(problem) => Observation::inconclusive(problem),
        }
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        match self.ask("compensate", call).await {
            Ok(answer) => Compensated::outcome(answer),
            Err(problem @ Problem::NotStarted(_)) => Err(NotUndone::retry(problem)),
            Err(Problem::Broken(cause)) => Err(NotUndone::Unknown { cause }),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        Some(match self.ask("observe_undo", call).await {
            Ok(answer) => Observed::observation(answer),
            Err(problem) => Observation::inconclusive(problem),
        })
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "the command cannot be started: {error}"),
            Self::Broken(cause) => f.write_str(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tape_core::effect::Semantics;
    use tape_core::id::{Connector as Name, EffectId, Operation, RunId};
    use tokio::time::{Duration, Instant};

    fn call() -> Call {
        Call {
            run: RunId::new("acme", "a", "u", "s", "i").unwrap(),
            effect: "#0.0".parse::<EffectId>().unwrap(),
            connector: Name::new("mail").unwrap(),
            operation: Operation::new("send").unwrap(),
            args: Payload::json(&json!({"to": "ann"})),
            key: "k-1".to_owned(),
            business_key: None,
            semantics: Semantics::NonIdempotent,
            attempt: 2,
            unwanted: false,
            deadline: Instant::now() + Duration::from_secs(9),
        }
    }

    fn shell(script: &str) -> CommandConnector {
        CommandConnector::new("sh", ["-c".to_owned(), script.to_owned()])
    }

    #[tokio::test]
    async fn a_command_is_asked_and_answers_in_json() {
        // What it was asked is what it answers.
        let echo = shell(r#"printf '{"confirmed": {"result": %s}}' "$(cat)""#);
        let Ending::Confirmed { result, .. } = echo.dispatch(&call()).await else {
            panic!("not confirmed");
        };
        let asked: Value = serde_json::from_slice(result.bytes().unwrap()).unwrap();
        assert_eq!(asked["do"], "dispatch");
        assert_eq!(asked["key"], "k-1");
        assert_eq!(asked["attempt"], 2);
        assert_eq!(asked["args"]["to"], "ann");
        assert_eq!(asked["semantics"], "non_idempotent");
        assert_eq!(
            shell("echo '\"absent\"'").observe(&call()).await,
            Observation::Absent
        );
        assert!(shell(r#"echo '{"done": {}}'"#).compensate(&call()).await.is_ok());
    }

    #[tokio::test]
    async fn a_command_that_breaks_may_have_done_anything_and_one_that_is_not_there_nothing() {
        for script in [
            "exit 1",
            "kill -9 $$",
            "echo nonsense",
            r#"echo '{"confirmed": {}}'; exit 3"#,
        ] {
            let ending = shell(script).dispatch(&call()).await;
            assert!(matches!(ending, Ending::Unknown { .. }), "{script}: {ending:?}");
            let seen = shell(script).observe(&call()).await;
            assert!(
                matches!(seen, Observation::Inconclusive { .. }),
                "{script}: {seen:?}"
            );
            let undone = shell(script).compensate(&call()).await;
            assert!(
                matches!(undone, Err(NotUndone::Unknown { .. })),
                "{script}: {undone:?}"
            );
            let seen = shell(script).observe_undo(&call()).await;
            assert!(
                matches!(seen, Some(Observation::Inconclusive { .. })),
                "{script}: {seen:?}"
            );
        }
        let missing = CommandConnector::new("/no/such/program", []);
        let ending = missing.dispatch(&call()).await;
        assert!(matches!(ending, Ending::Retry { .. }), "{ending:?}");
        let undone = missing.compensate(&call()).await;
        assert!(matches!(undone, Err(NotUndone::Retry { .. })), "{undone:?}");
    }
}
