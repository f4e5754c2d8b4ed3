//! Builds connectors and agents from the configuration.

use crate::config::{ConnectorEntry, File, Misconfigured};
use crate::google::{CloudTasksEntry, PubsubEntry};
use crate::published;
use std::sync::Arc;
use tape_core::id::ConnectorName;
use tape_environment::Environment;
use tape_reactors::{CommandConnector, Connectors, HttpConnector, HttpEndpoints, HttpError};

pub(crate) async fn connectors(
    file: &File,
    environment: &Arc<dyn Environment>,
) -> Result<Connectors, Misconfigured> {
    let mut all = Connectors::new();
    for (name, entry) in &file.connectors {
        let (name_of, places) = (name.clone(), entry.concurrency);
        all = match entry.kind(name)? {
            Upstream::Http(endpoints) => all.with(name_of, http(name, entry, endpoints)?, places),
            Upstream::Command(command) => {
                no_headers(name, entry)?;
                let [program, args @ ..] = command else {
                    return Err(Misconfigured::no_program(&format!("connectors.{name}")));
                };
                let command = self::command(name, entry, program, args)?;
                all.with(name_of, command.environment(Arc::clone(environment)), places)
            }
            Upstream::Pubsub(topic) => published::to_topic(all, name, entry, topic).await?,
            Upstream::CloudTasks(queue) => published::to_queue(all, name, entry, queue).await?,
        };
    }
    Ok(all)
}

/// The kind of an upstream.
enum Upstream<'a> {
    Http(&'a HttpEndpoints),
    Command(&'a [String]),
    Pubsub(&'a PubsubEntry),
    CloudTasks(&'a CloudTasksEntry),
}

impl ConnectorEntry {
    /// Its only kind.
    fn kind(&self, name: &ConnectorName) -> Result<Upstream<'_>, Misconfigured> {
        match (
            &self.http,
            self.command.as_deref(),
            &self.pubsub,
            &self.cloud_tasks,
        ) {
            (Some(http), None, None, None) => Ok(Upstream::Http(http)),
            (None, Some(command), None, None) => Ok(Upstream::Command(command)),
            (None, None, Some(pubsub), None) => Ok(Upstream::Pubsub(pubsub)),
            (None, None, None, Some(queue)) => Ok(Upstream::CloudTasks(queue)),
            _ => Err(Misconfigured::NotOneKind {
                connector: name.clone(),
            }),
        }
    }
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
                problem: "is not allowed beside `command`: a command is sent no headers".to_owned(),
            });
        }
    }
    Ok(())
}

fn http(
    name: &ConnectorName,
    entry: &ConnectorEntry,
    endpoints: &HttpEndpoints,
) -> Result<HttpConnector, Misconfigured> {
    no_env(name, entry)?;
    let secrets = secrets(name, entry)?;
    let secrets = secrets.iter().map(|(header, value)| (*header, value.as_str()));
    let connector = HttpConnector::new(endpoints.clone(), secrets);
    let mut connector = connector.map_err(|source| unusable(&format!("connectors.{name}.http"), source))?;
    for (header, value) in &entry.headers {
        connector = connector
            .header(header, value)
            .map_err(|source| unusable(&format!("connectors.{name}"), source))?;
    }
    Ok(connector)
}

/// The headers whose values come from the environment, by name.
pub(crate) fn secrets<'a>(
    name: &ConnectorName,
    entry: &'a ConnectorEntry,
) -> Result<Vec<(&'a str, String)>, Misconfigured> {
    let secrets = entry.headers_env.iter().map(|(header, from)| {
        let value = variable(format!("connectors.{name}.headers_env.{header}"), from)?;
        Ok((header.as_str(), value))
    });
    secrets.collect()
}

pub(crate) fn no_env(name: &ConnectorName, entry: &ConnectorEntry) -> Result<(), Misconfigured> {
    if entry.env.is_empty() {
        return Ok(());
    }
    Err(Misconfigured::Invalid {
        key: format!("connectors.{name}.env"),
        problem: "is allowed beside `command` only: `headers_env` sends a variable as a header".to_owned(),
    })
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
