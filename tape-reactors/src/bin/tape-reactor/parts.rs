//! Builds connectors and agents from the configuration.

use crate::config::{ConnectorEntry, File, Misconfigured};
use std::sync::Arc;
use tape_core::id::ConnectorName;
use tape_environment::Environment;
use tape_reactors::{CommandConnector, Connectors, HttpConnector, HttpError};

pub(crate) fn connectors(
    file: &File,
    environment: &Arc<dyn Environment>,
) -> Result<Connectors, Misconfigured> {
    let mut all = Connectors::new();
    for (name, entry) in &file.connectors {
        let places = entry.concurrency;
        all = match (&entry.http, entry.command.as_deref()) {
            (Some(_), None) => all.with(name.clone(), http(name, entry)?, places),
            (None, Some([program, args @ ..])) => {
                no_headers(name, entry)?;
                all.with(
                    name.clone(),
                    command(name, entry, program, args)?.environment(Arc::clone(environment)),
                    places,
                )
            }
            (None, Some([])) => return Err(Misconfigured::no_program(&format!("connectors.{name}"))),
            _ => {
                return Err(Misconfigured::Neither {
                    connector: name.clone(),
                });
            }
        };
    }
    Ok(all)
}

/// Words that stand for values of a call in a template.
const WORDS: [&str; 5] = ["{key}", "{business_key}", "{operation}", "{effect}", "{tenant}"];

fn command(
    name: &ConnectorName,
    entry: &ConnectorEntry,
    program: &str,
    args: &[String],
) -> Result<CommandConnector, Misconfigured> {
    let of = format!("connectors.{name}");
    check_command(&of, program, args, &entry.env)?;
    let command = CommandConnector::new(program, args.iter().cloned());
    check_is_there(&of, command.is_there())?;
    Ok(command.inherit(entry.env.iter().cloned()))
}

/// Whether a command and the variables that it is to have can be taken. `of` is the key that they stand under.
pub(crate) fn check_command(
    of: &str,
    program: &str,
    args: &[String],
    env: &[String],
) -> Result<(), Misconfigured> {
    let filled_in = |text: &&str| WORDS.iter().find(|word| text.contains(**word));
    let texts = std::iter::once(program).chain(args.iter().map(String::as_str));
    if let Some(word) = texts.filter_map(|text| filled_in(&text)).next() {
        return Err(Misconfigured::Invalid {
            key: format!("{of}.command"),
            problem: format!(
                "has the word {word}, which is not filled in: the command reads it from its input"
            ),
        });
    }
    for (place, variable) in env.iter().enumerate() {
        let mut letters = variable.bytes();
        let begins = letters
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !begins || !letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Misconfigured::Invalid {
                key: format!("{of}.env"),
                problem: "has what is no name of a variable: letters, digits and `_` are wanted".to_owned(),
            });
        }
        self::variable(format!("{of}.env[{place}]"), variable)?;
    }
    Ok(())
}

pub(crate) fn check_is_there(of: &str, is_there: bool) -> Result<(), Misconfigured> {
    if is_there {
        return Ok(());
    }
    Err(Misconfigured::Invalid {
        key: format!("{of}.command"),
        problem: "names a program that is not there: an executable file is wanted, by its path or in PATH"
            .to_owned(),
    })
}

fn no_headers(name: &ConnectorName, entry: &ConnectorEntry) -> Result<(), Misconfigured> {
    for (key, headers) in [("headers", &entry.headers), ("headers_env", &entry.headers_env)] {
        if !headers.is_empty() {
            return Err(Misconfigured::Invalid {
                key: format!("connectors.{name}.{key}"),
                problem: "is allowed beside `http` only: a command is sent no headers".to_owned(),
            });
        }
    }
    Ok(())
}

fn http(name: &ConnectorName, entry: &ConnectorEntry) -> Result<HttpConnector, Misconfigured> {
    let endpoints = entry.http.clone().ok_or_else(|| Misconfigured::Neither {
        connector: name.clone(),
    })?;
    if !entry.env.is_empty() {
        return Err(Misconfigured::Invalid {
            key: format!("connectors.{name}.env"),
            problem: "is allowed beside `command` only: `headers_env` sends a variable as a header"
                .to_owned(),
        });
    }
    let of = |what: &str| format!("connectors.{name}{what}");
    let mut secrets = Vec::new();
    for (header, from) in &entry.headers_env {
        secrets.push((
            header.as_str(),
            variable(of(&format!(".headers_env.{header}")), from)?,
        ));
    }
    let secrets = secrets.iter().map(|(header, value)| (*header, value.as_str()));
    let connector = HttpConnector::new(endpoints, secrets);
    let mut connector = connector.map_err(|source| unusable(&of(".http"), source))?;
    for (header, value) in &entry.headers {
        connector = connector
            .header(header, value)
            .map_err(|source| unusable(&of(""), source))?;
    }
    Ok(connector)
}

pub(crate) fn unusable(of: &str, source: HttpError) -> Misconfigured {
    match source {
        HttpError::Invalid { key, problem } => Misconfigured::Invalid {
            key: format!("{of}.{key}"),
            problem,
        },
        source => Misconfigured::Http {
            of: of.to_owned(),
            source,
        },
    }
}

/// The value of the variable that is named under a key.
pub(crate) fn variable(key: String, name: &str) -> Result<String, Misconfigured> {
    // What is no name cannot be asked for.
    let named = !name.is_empty() && !name.contains(['=', '\0']);
    let value = named.then(|| std::env::var(name).ok()).flatten();
    let value = value.filter(|value| !value.is_empty());
    value.ok_or(Misconfigured::NoVariable { key })
}
