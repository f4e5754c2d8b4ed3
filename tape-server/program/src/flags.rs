//! Flags, and the environment variables that stand for them.

use clap::{Arg, Command};
use std::ffi::OsStr;

/// The command, in which an empty environment variable counts as unset: templates set unused variables to an empty text.
#[must_use]
pub fn without_empty_variables(command: Command) -> Command {
    without(command, is_empty)
}

fn without(command: Command, is_empty: fn(&OsStr) -> bool) -> Command {
    let unset = |arg: Arg| {
        let empty = arg.get_env().is_some_and(is_empty);
        if empty { arg.env(None::<&'static str>) } else { arg }
    };
    command
        .mut_args(unset)
        .mut_subcommands(|command| without(command, is_empty))
}

fn is_empty(variable: &OsStr) -> bool {
    std::env::var_os(variable).is_some_and(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_none_also_of_a_subcommand() {
        let flag = |name: &'static str| Arg::new(name).long(name).env(name);
        let command = Command::new("tape")
            .args([flag("EMPTY"), flag("SET")])
            .subcommand(Command::new("migrate").arg(flag("EMPTY")));
        let command = without(command, |variable| variable == "EMPTY");
        let variables = |command: &Command| -> Vec<String> {
            let of = command.get_arguments().filter_map(Arg::get_env);
            of.map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(variables(&command), ["SET"]);
        assert_eq!(variables(command.find_subcommand("migrate").unwrap()), [""; 0]);
    }
}
