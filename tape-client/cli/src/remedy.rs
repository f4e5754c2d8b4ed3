//! Command lines for people to paste. Names in them are free text that others chose.

use crate::text::steers;
use std::fmt;

/// A command line of `tape` for a POSIX shell. Each name is one word of the line, whatever characters it has: it runs nothing, is not taken
/// as an option, and cannot look like other text.
pub(crate) struct Remedy {
    verb: &'static str,
    names: Vec<String>,
    options: Vec<String>,
}

impl Remedy {
    pub(crate) const fn new(verb: &'static str) -> Self {
        Self {
            verb,
            names: Vec::new(),
            options: Vec::new(),
        }
    }

    /// Adds a name after the verb.
    pub(crate) fn name(mut self, name: impl ToString) -> Self {
        self.names.push(name.to_string());
        self
    }

    /// Adds an option with a value.
    pub(crate) fn option(mut self, option: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        // A separate word that begins with a hyphen would be read as an option.
        let between = if value.starts_with('-') { '=' } else { ' ' };
        self.options.push(format!("{option}{between}{}", word(&value)));
        self
    }

    /// Adds fixed words, unquoted.
    pub(crate) fn words(mut self, words: &str) -> Self {
        self.options.push(words.to_owned());
        self
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(|name| word(name));
        let options = self.options.iter().cloned();
        let words: Vec<String> = if self.names.iter().any(|name| name.starts_with('-')) {
            options.chain(["--".to_owned()]).chain(names).collect()
        } else {
            names.chain(options).collect()
        };
        write!(f, "{} {}", self.verb, words.join(" "))
    }
}

/// A text as one word of a POSIX shell.
fn word(text: &str) -> String {
    match shlex::try_quote(text) {
        Ok(word) if !text.contains(steers) => word.into_owned(),
        // If it were quoted as it is, it would look like something else. If it were escaped, it would name something else.
        _ => {
            let bytes = text.bytes().map(|byte| format!("\\{byte:03o}"));
            format!("\"$(printf '{}')\"", bytes.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Remedy;
    use std::process::Command;

    /// The arguments that a shell passes to `tape`; the shell must do nothing else.
    fn handed(line: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("tape() {{ printf '%s\\0' \"$@\"; }}; tape {line}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(dir.path());
        let output = shell.output().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{line}");
        assert!(output.status.success() && output.stderr.is_empty(), "{line}");
        let words = String::from_utf8(output.stdout).unwrap();
        words.split_terminator('\0').map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_hands_every_name_over_as_it_is() {
        for name in [
            "plain",
            "$(touch pasted)",
            "`touch pasted`",
            "'; touch pasted; '",
            "\"; touch pasted; \"",
            "a b\tc",
            "*?[a]{b,c}~!^",
            "#0.0",
            "a\\",
            "two\nlines",
            "red\u{1b}[31m",
            "\u{202e}back",
            "&& touch pasted",
            "\u{4f60} \u{301}",
        ] {
            let line = Remedy::new("approve")
                .name(name)
                .option("--undo", name)
                .words("--reason WHY");
            let line = line.to_string();
            assert!(!line.contains(crate::text::steers), "{line:?}");
            assert_eq!(
                handed(&line),
                ["approve", name, "--undo", name, "--reason", "WHY"]
            );
        }
    }

    #[test]
    fn a_name_is_no_option() {
        for name in ["--deny", "-y", "-", "--"] {
            let line = Remedy::new("approve")
                .name("run")
                .name(name)
                .words("--reason WHY");
            assert_eq!(
                handed(&line.to_string()),
                ["approve", "--reason", "WHY", "--", "run", name]
            );
            let line = Remedy::new("retry").name("run").option("--undo", name);
            assert_eq!(
                handed(&line.to_string()),
                ["retry", "run", &format!("--undo={name}")]
            );
        }
    }
}
