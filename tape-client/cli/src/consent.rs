//! The consent that a command needs from its caller: a name, and a yes. These rules apply to all commands.

use crate::text::plain;
use crate::{Command, Failure, agenda};
use std::io::{BufRead, IsTerminal as _, Write};

/// What a command does to a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// It only reads, or tells a run something that the run asked for.
    Light,
    /// It decides something that a run waits for: the journal must record who decided.
    Decides,
    /// It ends, drops or marks something as done, irreversibly: the command says so first and needs a yes.
    Final,
}

impl Command {
    pub(crate) fn weight(&self) -> Weight {
        match self {
            Self::Runs(_)
            | Self::Stuck(_)
            | Self::Gates(_)
            | Self::Sessions(_)
            | Self::Values(_)
            | Self::Queues(_)
            | Self::Key(_)
            | Self::Show(_)
            | Self::Verify(_)
            | Self::Export(_)
            | Self::Heads(_)
            | Self::Tail(_)
            | Self::Signal(_) => Weight::Light,
            Self::Approve(_) | Self::Retry(_) => Weight::Decides,
            Self::Reactions(reactions) if reactions.only_looks() => Weight::Light,
            Self::Reactions(_) => Weight::Decides,
            Self::Settle(_) | Self::Cancel(_) | Self::Erase(_) => Weight::Final,
            Self::Release(release) if release.only_looks() => Weight::Light,
            Self::Release(_) => Weight::Final,
            Self::Retention(retention) if retention.only_looks() => Weight::Light,
            Self::Retention(_) => Weight::Final,
            Self::Agenda(agenda::Agenda { what }) => match what {
                agenda::What::Check => Weight::Light,
                agenda::What::Rebuild => Weight::Final,
            },
            Self::Relay(relay) => relay.weight(),
        }
    }
}

/// The consent to an irreversible command.
#[derive(Debug)]
pub(crate) struct Consent {
    weight: Weight,
    yes: bool,
    given: bool,
}

impl Consent {
    /// # Errors
    /// [`Failure::Anonymous`] where the command needs a name and has none.
    pub(crate) const fn of(weight: Weight, named: bool, yes: bool) -> Result<Self, Failure> {
        match weight {
            Weight::Decides | Weight::Final if !named => Err(Failure::Anonymous),
            _ => Ok(Self {
                weight,
                yes,
                given: false,
            }),
        }
    }

    /// Says what the command is about to do and asks for a yes, on the terminal if there is one.
    ///
    /// # Errors
    /// [`Failure::NotAgreed`] without a terminal to ask on, [`Failure::Declined`] if the answer is not yes.
    pub(crate) fn ask(&mut self, what: &str) -> Result<(), Failure> {
        let (stdin, mut out) = (std::io::stdin(), std::io::stderr());
        let answers = stdin.is_terminal().then(|| stdin.lock());
        self.ask_of(what, answers, &mut out)
    }

    fn ask_of(
        &mut self,
        what: &str,
        answers: Option<impl BufRead>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        assert_eq!(self.weight, Weight::Final, "only what is final is asked about");
        let what = plain(what);
        if self.yes {
            // A closed standard error does not revoke the yes.
            let _ = writeln!(out, "This {what}.");
        } else {
            let answer = answers.and_then(|answers| answer(&what, answers, out).ok());
            let Some(answer) = answer else {
                return Err(Failure::NotAgreed(what.into_owned()));
            };
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                return Err(Failure::Declined);
            }
        }
        self.given = true;
        Ok(())
    }

    /// Notes that the command's change was made before, so no consent is needed.
    pub(crate) const fn needless(&mut self) {
        self.given = true;
    }

    /// Checks, after the command is done, that consent was given.
    ///
    /// # Panics
    /// If the command is final and did not ask.
    pub(crate) fn check(&self) {
        let asked = self.weight != Weight::Final || self.given;
        assert!(asked, "what is final is asked about before it is done");
    }
}

fn answer(what: &str, mut answers: impl BufRead, out: &mut dyn Write) -> std::io::Result<String> {
    write!(out, "This {what}. Do it? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::{Consent, Weight};
    use crate::Failure;

    /// The output and result for an answer on a terminal, or without a terminal.
    fn asked(yes: bool, answer: Option<&str>) -> (String, Result<(), Failure>) {
        let (mut consent, mut said) = (Consent::of(Weight::Final, true, yes).unwrap(), Vec::new());
        let result = consent.ask_of("ends \u{1b}it", answer.map(str::as_bytes), &mut said);
        assert_eq!(result.is_ok(), consent.given);
        (String::from_utf8(said).unwrap(), result)
    }

    #[test]
    fn only_a_yes_agrees() {
        for answer in ["y\n", "Y\r\n", "yes"] {
            let (said, result) = asked(false, Some(answer));
            assert_eq!(said, r"This ends \u{1b}it. Do it? [y/N] ");
            result.unwrap();
        }
        for answer in ["", "\n", "n\n", "yeah\n", "y n\n"] {
            let (_, result) = asked(false, Some(answer));
            assert!(matches!(result, Err(Failure::Declined)), "{answer:?}");
        }
    }

    #[test]
    fn where_nobody_can_be_asked_a_yes_is_given_beforehand() {
        let (said, result) = asked(true, None);
        assert_eq!(said, "This ends \\u{1b}it.\n");
        result.unwrap();
        let (said, result) = asked(false, None);
        assert_eq!(said, "");
        let told = result.unwrap_err().to_string();
        assert_eq!(
            told,
            r"nothing was done: this ends \u{1b}it. Without a terminal to ask on, add --yes"
        );
    }

    #[test]
    #[should_panic(expected = "asked about before it is done")]
    fn nothing_final_is_done_unasked() {
        Consent::of(Weight::Final, true, true).unwrap().check();
    }
}
