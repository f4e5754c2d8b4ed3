//! Errors with their causes, for logs and people.

use std::error::Error;
use std::fmt;

/// The texts of an error and its causes, the error first. A text that an earlier one already contains is left out. A cause whose text
/// contains the text before it replaces that text.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        say(&mut said, cause.to_string());
        next = cause.source();
    }
    said
}

fn say(said: &mut Vec<String>, text: String) {
    if text.is_empty() || said.iter().any(|before| says(before, &text)) {
        return;
    }
    if said.last().is_some_and(|before| says(&text, before)) {
        said.pop();
    }
    said.push(text);
}

/// An error and its causes in one line: `the store is unavailable: disk full`.
#[derive(Clone, Copy, Debug)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&causes(self.0).join(": "))
    }
}

/// Whether a text ends with another, or has it as one of its parts between colons.
fn says(text: &str, part: &str) -> bool {
    let ends = text.ends_with(part) || text.trim_end_matches(')').ends_with(part);
    ends || format!(": {text}: ").contains(&format!(": {part}: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Self>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|link| &**link as _)
        }
    }

    #[test]
    fn nothing_is_said_twice() {
        for (chain, line) in [
            (
                &["the store is busy", "disk full"][..],
                "the store is busy: disk full",
            ),
            // A wrapper that is transparent, and one that says its cause.
            (&["disk full", "disk full"], "disk full"),
            (&["no commit (disk full)", "disk full"], "no commit (disk full)"),
            (&["no commit: disk full", "disk full"], "no commit: disk full"),
            // One that says all of its causes, and one whose cause says more.
            (
                &["no answer: tcp: refused (111)", "tcp", "refused (111)"],
                "no answer: tcp: refused (111)",
            ),
            (&["lost", "tcp", "tcp: refused"], "lost: tcp: refused"),
            // A cause that an earlier error of the chain has said.
            (&["a: c", "b", "c"], "a: c: b"),
            (&["", "no", ""], "no"),
        ] {
            let link = chain
                .iter()
                .rev()
                .fold(None, |cause, text| Some(Box::new(Link(text, cause))));
            assert_eq!(Causes(&*link.unwrap()).to_string(), line);
        }
    }
}
