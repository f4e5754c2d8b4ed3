//! The verifier that was written from the page alone, in a process that is asked of many files.

use crate::journals::Base;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tape_cli::exported::Verdict;

pub(crate) struct Outsider {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Outsider {
    pub(crate) fn start() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new("python3")
            .arg(here.join("tests/mutations/outsider.py"))
            .arg(here.join("../../docs/verify"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other verifier needs python3");
        Self {
            questions: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    pub(crate) fn ask(&mut self, base: &Base, data: &[u8]) {
        let heads = base.heads.iter().flat_map(|(stream, heads)| {
            let head = move |(seq, digest): &_| format!("{stream} {seq}:{digest}\n");
            heads.iter().map(head)
        });
        let heads: String = heads.collect();
        for part in [heads.as_bytes(), data] {
            let length = u32::try_from(part.len()).unwrap();
            self.questions.write_all(&length.to_be_bytes()).unwrap();
            self.questions.write_all(part).unwrap();
        }
        self.questions.flush().unwrap();
    }

    pub(crate) fn answer(&mut self) -> (Verdict, String) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let (code, why) = line.trim_end().split_once(' ').unwrap_or((&line, ""));
        let verdict = match code.trim() {
            "0" => Verdict::Proved,
            "1" => Verdict::Broken,
            "3" => Verdict::NotProved,
            _ => panic!("the other verifier ended: {line:?}"),
        };
        (verdict, why.to_owned())
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        // It reads no more than what it is asked.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
