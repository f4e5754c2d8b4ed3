//! A connector in any language: a command that reads one JSON object and writes one.

use super::answer::{begins_confirmed, compensated, dispatched, observed};
use super::bounded::Bounded;
use crate::connector::{Call, Connector, NotUndone, Observation};
use crate::program::Executable;
use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use tape_core::command::AttemptOutcome;
use tape_core::effect::Semantics;
use tape_core::id::{BusinessKey, ConnectorName as Name, EffectId, Operation, RunId};
use tape_core::payload::Payload;
use tape_environment::Environment;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, Instant};

/// What a program wrote before it ended is there by then, also where a process that it started has its output and cannot be killed.
const REST: Duration = Duration::from_secs(1);

/// Starts a program for each call, writes the request to its standard input and reads the answer from its standard output.
///
/// The request is one JSON object, on one line: `do` (`dispatch`, `observe`, `compensate` or `observe_undo`), `run`, `effect`, `connector`,
/// `operation`, `args`, `content_type`, `key`, `business_key`, `semantics`, `attempt`, `unwanted` and `time_left_ms`. `args` is the text of
/// a JSON payload unchanged, a text payload as a string, or else `{"hex": "..."}`.
///
/// The answer to a dispatch is `{"confirmed": {"result": ..., "undo": {"operation": ..., "args": ...}, "spent": [...]}}`, `{"failed":
/// {"error": ..., "detail": ...}}`, `{"retry": {"error": ..., "after_ms": ...}}` or `{"unknown": {"cause": ...}}`; to an observation
/// `{"found": {"result": ..., "undo": ...}}`, `"absent"`, `{"duplicate": {"result": ..., "undo_duplicates": [...]}}` (or `undo_duplicate`
/// for one) or `{"inconclusive": {"why": ...}}`; to a compensation `{"done": {"result": ...}}`, `{"failed": {"error": ...}}`, which says
/// that this attempt undid nothing, or `{"unknown": {"cause": ...}}`. Before another compensation, where an earlier one may have undone the
/// effect, `observe_undo` asks whether one did; its answer has the form of an observation's. Values are passed on as they are written. A
/// result that is no JSON, such as `NaN`, or is too large for a payload is kept as far as possible, and confirmed.
///
/// A program that cannot be started has done nothing, and the attempt does not count. One that ends in failure, or answers something
/// else, may have done anything.
///
/// A call is over when its program ends: what the program has started is killed then. A program that takes too long gets SIGTERM two
/// seconds before the end of its time, or at half of it, and SIGKILL at the end; one whose claim is lost gets SIGKILL at once. So do all
/// processes that it has started; on Linux also those that have left its process group, unless they have dropped the variable `TAPE_CALL`.
/// Where the worker itself is killed with SIGKILL, its programs continue. A program can detect this by its parent, which is no longer
/// `TAPE_WORKER_PID`, and should not act after `time_left_ms`.
///
/// Its environment is `PATH`, `HOME`, `LANG`, `TZ` and the variables [named](Self::inherit), so it inherits no other secret.
#[derive(Clone, Debug)]
pub struct CommandConnector(Executable);

/// Why there is no answer.
enum Problem {
    NotStarted(String),
    Broken(String),
}

/// The request.
#[derive(Serialize)]
struct Question<'a> {
    r#do: &'a str,
    run: &'a RunId,
    effect: &'a EffectId,
    connector: &'a Name,
    operation: &'a Operation,
    args: Args<'a>,
    content_type: &'a str,
    key: &'a str,
    business_key: Option<&'a BusinessKey>,
    semantics: Semantics,
    attempt: u32,
    unwanted: bool,
    time_left_ms: u64,
}

/// Arguments in the form of the request.
#[derive(Serialize)]
#[serde(untagged)]
enum Args<'a> {
    Json(Box<RawValue>),
    Text(&'a str),
    Bytes { hex: String },
}

impl CommandConnector {
    /// Runs `program` with `args`.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = String>) -> Self {
        Self(Executable::new(program, args))
    }

    /// Names its calls by another randomness than the machine's.
    #[must_use]
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.0.environment(environment);
        self
    }

    /// Also passes these variables of the worker's environment to the program.
    #[must_use]
    pub fn inherit(mut self, variables: impl IntoIterator<Item = String>) -> Self {
        self.0.inherit(variables);
        self
    }

    /// Whether the program exists: an executable file at its path or, for a bare name, in one of the directories of `PATH`. This may change
    /// before the call.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.is_there()
    }

    /// Runs the program for a call, and ends it where the call is dropped or its time is over.
    async fn ask(&self, what: &str, call: &Call) -> Result<Bounded, Problem> {
        let question = question(what, call)?;
        let mut program = self.0.start([], Stdio::piped()).map_err(|error| {
            Problem::NotStarted(format!("{} cannot be started: {error}", self.0.path().display()))
        })?;
        let broken = |error: std::io::Error| Problem::Broken(format!("talking to it failed: {error}"));
        let mut stdin = program.child.stdin.take().expect("standard input is piped");
        let mut stdout = program.child.stdout.take().expect("standard output is piped");
        let tell = async move {
            // A program that ignores the request may have closed its input.
            let _ = stdin.write_all(question.as_bytes()).await;
        };
        let mut answer = Bounded::default();
        let (status, at_end) = {
            let read = read(&mut stdout, &mut answer);
            let ended = program.until_ended(call.deadline, tell, read).await;
            ended
                .map_err(broken)?
                .ok_or_else(|| Problem::Broken("it did not answer in time, and was killed".to_owned()))?
        };
        if !at_end {
            // A process that it has started holds the pipe. Its own output has been read.
            program.kill_all();
            let rest = tokio::time::timeout(REST, read(&mut stdout, &mut answer)).await;
            rest.unwrap_or(Ok(())).map_err(broken)?;
        }
        if !status.success() {
            return Err(Problem::Broken(format!("it ended with {status}")));
        }
        Ok(answer)
    }

    /// Runs the program for a call, and parses its answer.
    async fn understood<A>(
        &self,
        what: &str,
        call: &Call,
        read: impl FnOnce(&[u8]) -> Result<A, String>,
    ) -> Result<A, Problem> {
        let answer = self.ask(what, call).await?;
        let too_long = || Problem::Broken("its answer is too long to make sense of".to_owned());
        read(answer.whole().ok_or_else(too_long)?).map_err(Problem::Broken)
    }
}

/// Reads what a program writes, until its end. What is too much is dropped: a program blocks on a full pipe and would not end.
async fn read(output: &mut (impl AsyncRead + Unpin), answer: &mut Bounded) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let n = output.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        answer.push(&chunk[..n]);
    }
}

fn question(what: &str, call: &Call) -> Result<String, Problem> {
    let left = call.deadline.saturating_duration_since(Instant::now());
    let question = Question {
        r#do: what,
        run: &call.run,
        effect: &call.effect,
        connector: &call.connector,
        operation: &call.operation,
        args: args(&call.args),
        content_type: call.args.content_type(),
        key: &call.key,
        business_key: call.business_key.as_ref(),
        semantics: call.semantics,
        attempt: call.attempt,
        unwanted: call.unwanted,
        time_left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    };
    let text = serde_json::to_string(&question);
    text.map_err(|error| Problem::NotStarted(format!("what is asked has no JSON form: {error}")))
}

fn args(args: &Payload) -> Args<'_> {
    let bytes = args.bytes().map(AsRef::as_ref).unwrap_or_default();
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Args::Bytes {
            hex: hex::encode(bytes),
        };
    };
    let json =
        (args.content_type() == Payload::JSON).then(|| RawValue::from_string(on_one_line(text).into_owned()));
    json.and_then(Result::ok).map_or(Args::Text(text), Args::Json)
}

/// A JSON text on one line: within strings, JSON has no line ends.
fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        json.replace(['\n', '\r'], " ").into()
    } else {
        json.into()
    }
}

#[async_trait]
impl Connector for CommandConnector {
    async fn dispatch(&self, call: &Call) -> AttemptOutcome {
        let answer = match self.ask("dispatch", call).await {
            Ok(answer) => answer,
            Err(Problem::NotStarted(error)) => return AttemptOutcome::Unreached { error },
            Err(Problem::Broken(cause)) => return AttemptOutcome::Unknown { cause },
        };
        match answer.whole() {
            Some(whole) => dispatched(whole).unwrap_or_else(|cause| AttemptOutcome::Unknown { cause }),
            None if begins_confirmed(answer.head()) => {
                AttemptOutcome::confirmed(answer.payload(Payload::BYTES))
            }
            None => AttemptOutcome::unknown("its answer is too long to make sense of"),
        }
    }

    async fn observe(&self, call: &Call) -> Observation {
        self.understood("observe", call, observed)
            .await
            .unwrap_or_else(blind)
    }

    async fn compensate(&self, call: &Call) -> Result<Payload, NotUndone> {
        match self.understood("compensate", call, compensated).await {
            Ok(undone) => undone,
            Err(Problem::NotStarted(error)) => Err(NotUndone::Unreached { error }),
            Err(Problem::Broken(cause)) => Err(NotUndone::Unknown { cause }),
        }
    }

    async fn observe_undo(&self, call: &Call) -> Option<Observation> {
        let seen = self.understood("observe_undo", call, observed).await;
        Some(seen.unwrap_or_else(blind))
    }
}

fn blind(problem: Problem) -> Observation {
    match problem {
        Problem::NotStarted(why) => Observation::Unreached { why },
        Problem::Broken(why) => Observation::Inconclusive { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tape_core::effect::Semantics;
    use tape_core::id::{ConnectorName as Name, EffectId, Operation, RunId};
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
    async fn a_command_with_more_to_say_than_is_read_comes_to_its_end() {
        let script = "printf '{\"confirmed\": {\"result\": \"'; head -c 70000000 /dev/zero | tr '\\0' x; printf '\"}}'";
        let deadline = Instant::now() + Duration::from_secs(60);
        let ending = shell(script).dispatch(&Call { deadline, ..call() }).await;
        let AttemptOutcome::Confirmed { result, .. } = ending else {
            panic!("it answered: {ending:?}");
        };
        let unkept = result.as_unkept().unwrap();
        assert!(unkept.more && unkept.len >= 64 << 20, "{} bytes", unkept.len);
    }

    #[tokio::test]
    async fn a_command_is_asked_and_answers_in_json() {
        // It answers with its request.
        let echo = shell(r#"printf '{"confirmed": {"result": %s}}' "$(cat)""#);
        let AttemptOutcome::Confirmed { result, .. } = echo.dispatch(&call()).await else {
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
            assert!(
                matches!(ending, AttemptOutcome::Unknown { .. }),
                "{script}: {ending:?}"
            );
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
        assert!(matches!(ending, AttemptOutcome::Unreached { .. }), "{ending:?}");
        let undone = missing.compensate(&call()).await;
        assert!(matches!(undone, Err(NotUndone::Unreached { .. })), "{undone:?}");
        let seen = missing.observe(&call()).await;
        assert!(matches!(seen, Observation::Unreached { .. }), "{seen:?}");
    }

    fn with_args(json: &str) -> Call {
        Call {
            args: Payload::new(Payload::JSON, json.to_owned()).unwrap(),
            ..call()
        }
    }

    async fn result(connector: &CommandConnector, call: &Call) -> Payload {
        match connector.dispatch(call).await {
            AttemptOutcome::Confirmed { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn numbers_are_handed_on_to_the_letter() {
        let echo = shell(r#"printf '{"confirmed": {"result": %s}}' "$(cat)""#);
        let args = r#"{"b": 1070.8500000000001, "a": 123456789012345678901234567890, "c": 1.10}"#;
        let echoed = result(&echo, &with_args(args)).await;
        let echoed = std::str::from_utf8(echoed.bytes().unwrap()).unwrap();
        assert!(echoed.contains(args), "{echoed}");
        let lines = shell(r#"cat > /dev/null; printf '{"confirmed": {"result": %s}}' "$(cat | wc -l)""#);
        assert_eq!(
            result(&lines, &with_args("{\n\"a\":\n1}")).await.bytes().unwrap(),
            "0"
        );
    }

    #[tokio::test]
    async fn what_happened_is_confirmed_with_what_can_be_kept() {
        for (result_text, kept) in [("{\"fee\": NaN}", Payload::BYTES), ("\"\\ud83d\"", Payload::JSON)] {
            let script = format!(
                "cat > /dev/null; cat <<'END'\n{{\"confirmed\": {{\"result\": {result_text}}}}}\nEND"
            );
            let payload = result(&shell(&script), &call()).await;
            assert_eq!(
                (payload.content_type(), &payload.bytes().unwrap()[..]),
                (kept, result_text.as_bytes())
            );
        }
        for bytes in [1_500_000, 5_000_000] {
            let script = format!(
                "printf '{{\"confirmed\": {{\"result\": \"'; head -c {bytes} /dev/zero | tr '\\0' x; printf '\"}}}}'"
            );
            let unkept = result(&shell(&script), &call()).await.as_unkept().unwrap();
            assert!(unkept.len >= bytes, "{unkept:?}");
        }
    }

    #[tokio::test]
    async fn a_command_inherits_what_it_is_named_and_nothing_else() {
        let all =
            shell(r#"printf '{"confirmed": {"result": "%s"}}' "$(env | cut -d= -f1 | sort | tr '\n' ' ')""#);
        let names = |payload: Payload| -> Vec<String> {
            let text: String = serde_json::from_slice(payload.bytes().unwrap()).unwrap();
            let shells = ["PWD", "SHLVL", "_", "OLDPWD"];
            let names = text.split_whitespace().filter(|name| !shells.contains(name));
            names.map(str::to_owned).collect()
        };
        // Cargo sets many variables for its tests.
        let allowed = ["HOME", "LANG", "PATH", "TAPE_CALL", "TAPE_WORKER_PID", "TZ"];
        let found = names(result(&all, &call()).await);
        assert!(
            found.iter().all(|name| allowed.contains(&name.as_str())),
            "{found:?}"
        );
        let more = all.inherit(["CARGO_PKG_NAME".to_owned()]);
        assert!(names(result(&more, &call()).await).contains(&"CARGO_PKG_NAME".to_owned()));
    }

    /// Whether a process has ended, also where its parent has not reaped it yet.
    fn is_gone(id: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{id}/stat"));
        state.is_err() || state.is_ok_and(|state| state.contains(") Z "))
    }

    /// Waits until a file has `n` words.
    async fn words(file: &std::path::Path, n: usize) -> Vec<String> {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            if words.len() >= n {
                return words;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn all_gone(ids: &[String]) {
        while !ids.iter().all(|id| is_gone(id)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn all_that_a_command_started_ends_with_a_call_that_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let ids = dir.path().join("ids");
        let at = ids.display();
        // A child that ignores SIGTERM, a child of that one, and one in a session of its own.
        let script = format!(
            "trap '' TERM; echo $$ >> {at}; (echo $(exec sh -c 'echo $PPID') >> {at}; sleep 1000) & \
             setsid sh -c 'echo $$ >> {at}; exec sleep 1000' & sleep 1000"
        );
        let given_up = shell(&script);
        let asked = tokio::spawn(async move { given_up.dispatch(&call()).await });
        let found = words(&ids, 3).await;
        asked.abort();
        all_gone(&found).await;

        let late = Call {
            deadline: Instant::now() + Duration::from_secs(4),
            ..call()
        };
        let ending = shell(&script).dispatch(&late).await;
        assert!(matches!(ending, AttemptOutcome::Unknown { .. }), "{ending:?}");
        let started = words(&ids, found.len()).await;
        all_gone(&started).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_answer_does_not_wait_for_what_has_the_output_and_that_ends_with_the_call() {
        let dir = tempfile::tempdir().unwrap();
        let ids = dir.path().join("ids");
        let at = ids.display();
        let script = format!(
            "sh -c 'echo $$ >> {at}; exec sleep 1000' & setsid sh -c 'echo $$ >> {at}; exec sleep 1000' & \
             while [ $(wc -l < {at}) -lt 2 ]; do :; done; echo '{{\"confirmed\": {{\"result\": 7}}}}'"
        );
        std::fs::write(&ids, "").unwrap();
        assert_eq!(result(&shell(&script), &call()).await.bytes().unwrap(), "7");
        all_gone(&words(&ids, 2).await).await;
    }

    #[tokio::test]
    async fn a_command_is_asked_to_end_before_it_is_killed() {
        let script = r#"trap "echo '{\"unknown\": {\"cause\": \"told to end\"}}'; exit 0" TERM
            while :; do sleep 0.01; done"#;
        let late = Call {
            deadline: Instant::now() + Duration::from_secs(6),
            ..call()
        };
        let ending = shell(script).dispatch(&late).await;
        assert_eq!(ending, AttemptOutcome::unknown("told to end"));
    }
}
