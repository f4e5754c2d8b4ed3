//! `tape tail` over a server that goes away.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "../../tests/remote/server.rs"]
mod server;

use server::Server;
use std::io::{BufRead as _, BufReader, Lines, Read};
use std::process::{Child, Command, Stdio};
use tape_client::{RunId, Tape};

/// The command at work, killed when dropped.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tail(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tape"));
    command.env_clear().args(["--store", url, "tail"]).args(args);
    command
}

fn find(lines: &mut Lines<BufReader<impl Read>>, what: &str) -> String {
    let line = lines.map(Result::unwrap).find(|line| line.contains(what));
    line.unwrap_or_else(|| panic!("it says nothing of '{what}'"))
}

async fn complete(tape: &Tape, invocation: &str) {
    let id = RunId::new("acme", "treasury", "ann", "s1", invocation).unwrap();
    let run = tape.run(id).begin().await.unwrap().driving().unwrap();
    run.complete(&true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_the_server_is_gone_and_goes_on_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let tape = Tape::connect(&server.url()).await.unwrap();
    complete(&tape, "before").await;
    let mut command = tail(&server.url(), &["acme.run.*.*.*.*.run.completed", "--from-start"]);
    let mut tail = Tail(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut out = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(tail.0.stderr.take().unwrap()).lines();
    find(&mut out, "acme/run/treasury/ann/s1/before");
    server.kill();
    find(&mut errors, "tape: the journal is out of reach, trying again: ");
    server.come_back();
    complete(&tape, "after").await;
    find(&mut errors, "tape: the journal is back");
    let line = out.next().unwrap().unwrap();
    assert!(line.contains("acme/run/treasury/ann/s1/after"), "{line}");
}

#[test]
fn it_fails_where_there_is_no_server() {
    // Only root may listen on port 1, and no process does.
    let output = tail("tape://127.0.0.1:1", &["--once"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("tape: the journal is out of reach\n"), "{text}");
    assert!(text.contains("is the server up, and --store right?"), "{text}");
}
