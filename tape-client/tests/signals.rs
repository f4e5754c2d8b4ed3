//! Signals to a process that serves a host.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use tape_client::{Host, Run, RunId, Tape};

/// Set in the process that serves.
const SERVES: &str = "TAPE_TEST_SERVES";
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// The process: it serves an agent that never ends, and after that lives until its input ends.
#[test]
fn serves() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tape = Tape::connect("memory:").await.unwrap();
        let id = RunId::new("acme", "pay", "ann", "s", "i").unwrap();
        let run = tape.run(id).begin().await.unwrap().driving().unwrap();
        run.release(Duration::ZERO).await.unwrap();
        let never = async |_run: Run| {
            say("driving");
            std::future::pending().await
        };
        let host = Host::new(tape).agent("pay", never);
        host.drain(Duration::from_secs(3600)).serve().await.unwrap();
        say("served");
    });
    // In no runtime, as a program is that has left its own.
    drop(runtime);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
fn say(what: &str) {
    println!("\n{what}");
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serves", "--nocapture"])
            .env(SERVES, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn until(&mut self, said: &str) {
        assert!(self.lines.any(|line| line.unwrap() == said), "never {said}");
    }

    fn signal(&self, signal: i32) {
        let (signal, pid) = (format!("-{signal}"), self.child.id().to_string());
        assert!(
            Command::new("kill")
                .args([signal, pid])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_second_signal_cuts_the_drain_short_and_after_it_signals_do_what_they_do_by_default() {
    for last in [SIGTERM, SIGINT] {
        let mut process = Process::start();
        process.until("driving");
        process.signal(SIGTERM);
        process.signal(SIGINT);
        process.until("served");
        process.signal(last);
        assert_eq!(process.child.wait().unwrap().signal(), Some(last));
    }
}
