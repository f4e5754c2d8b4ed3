//! Streams without checks, for many commands, and how a limit is refused.

use super::run_line;
use tape_core::command::{Command, DriverCommand, RunCommand};
use tape_core::decider::Decider;
use tape_core::entry::Entry;
use tape_core::id::RequestId;
use tape_core::payload::Digest;
use tape_core::reply::{Decided, Limit, Rejection};
use tape_core::run::Run;
use tape_core::time::Timestamp;

/// A stream without checks, for many commands.
#[derive(Default)]
pub(crate) struct Quick<S> {
    pub(crate) state: S,
    requests: u128,
}

impl<S: Decider> Quick<S> {
    pub(crate) fn ask(&mut self, body: S::Command) -> Result<Decided, Rejection> {
        self.requests += 1;
        let command = Command::new(request(self.requests), body);
        self.command(&command)
    }

    pub(crate) fn command(&mut self, command: &Command<S::Command>) -> Result<Decided, Rejection> {
        let now = Timestamp::from_micros(0);
        let decided = self.state.decide(command, now)?;
        for body in &decided.entries {
            let entry = Entry {
                seq: self.state.seq().next(),
                at: now,
                decided_at: now,
                request: command.request,
                principal: None,
                trace: None,
                command: Some(command.digest()),
                body: body.clone(),
                digest: Digest::default(),
            };
            self.state.apply(&entry).unwrap();
        }
        Ok(decided)
    }
}

impl Quick<Run> {
    pub(crate) fn begun() -> Self {
        let mut run = Self::default();
        run.line("begin a1").unwrap();
        run
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<Decided, Rejection> {
        let command = run_line::command(line, &self.state);
        self.ask(command)
    }

    pub(crate) fn drive(&mut self, command: DriverCommand) -> Result<Decided, Rejection> {
        let epoch = self.state.epoch();
        self.ask(RunCommand::Drive(epoch, command))
    }
}

/// The id of the n-th request.
pub(crate) fn request(n: u128) -> RequestId {
    RequestId::new(Timestamp::from_micros(0), n)
}

/// Checks a refusal for one more than `max` of what `limit` names.
#[track_caller]
pub(crate) fn over(found: Result<Decided, Rejection>, limit: Limit, max: usize) {
    match found {
        Err(Rejection::LimitExceeded {
            limit: name,
            max: bound,
            given,
        }) => {
            assert_eq!((name, bound, given), (limit, max as u64, max as u64 + 1));
        }
        other => panic!("{other:?}"),
    }
}
