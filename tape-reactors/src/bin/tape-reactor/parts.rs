//! Builds connectors and agents from the configuration.

use crate::config::{AgentEntry, AgentKind, ConnectorEntry, File, Misconfigured};
use std::time::Duration;
use tape_core::id::ConnectorName;
use tape_reactors::{
    AgentEngineRedriver, CommandConnector, Connectors, HttpConnector, HttpError, HttpRedriver, Registry,
};

pub(crate) fn connectors(file: &File) -> Result<Connectors, Misconfigured> {
    let mut all = Connectors::new();
    for (name, entry) in &file.connectors {
        let places = entry.concurrency;
        all = match (&entry.http, entry.command.as_deref()) {
            (Some(_), None) => all.with(name.clone(), http(name, entry)?, places),
            (None, Some([program, args @ ..])) => {
                no_headers(name, entry)?;
                all.with(name.clone(), command(name, entry, program, args)?, places)
            }
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
    let filled_in = |text: &&str| WORDS.iter().find(|word| text.contains(**word));
    let texts = std::iter::once(program).chain(args.iter().map(String::as_str));
    if let Some(word) = texts.filter_map(|text| filled_in(&text)).next() {
        return Err(Misconfigured::Invalid {
            key: format!("connectors.{name}.command"),
            problem: format!(
                "has the word {word}, which is not filled in: the command reads it from its input"
            ),
        });
    }
    for (place, variable) in entry.env.iter().enumerate() {
        let mut letters = variable.bytes();
        let begins = letters
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !begins || !letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Misconfigured::Invalid {
                key: format!("connectors.{name}.env"),
                problem: "has what is no name of a variable: letters, digits and `_` are wanted".to_owned(),
            });
        }
        self::variable(format!("connectors.{name}.env[{place}]"), variable)?;
    }
    let command = CommandConnector::new(program, args.iter().cloned());
    if !command.is_there() {
        return Err(Misconfigured::Invalid {
            key: format!("connectors.{name}.command"),
            problem:
                "names a program that is not there: an executable file is wanted, by its path or in PATH"
                    .to_owned(),
        });
    }
    Ok(command.inherit(entry.env.iter().cloned()))
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

pub(crate) fn agents(file: &File) -> Result<Registry, Misconfigured> {
    let mut all = Registry::new();
    for (app, entry) in &file.agents {
        let places = file.places(entry);
        all = match entry.kind {
            AgentKind::Http => all.redriver(app.clone(), places, endpoint(app.as_str(), entry)?),
            AgentKind::AgentEngine => all.redriver(app.clone(), places, engine(app.as_str(), entry)?),
        };
    }
    Ok(all)
}

fn endpoint(app: &str, entry: &AgentEntry) -> Result<HttpRedriver, Misconfigured> {
    if entry.method.is_some() {
        return Err(not_of_its_kind(app, "method", AgentKind::AgentEngine));
    }
    let redriver = HttpRedriver::new(&entry.url, Duration::from_millis(entry.timeout_ms));
    let redriver = redriver.map_err(|source| unusable(&format!("agents.{app}"), source))?;
    Ok(match &entry.secret_env {
        Some(from) => {
            let secret = variable(format!("agents.{app}.secret_env"), from)?;
            let signed = redriver.signed(secret);
            signed.map_err(|source| unusable(&format!("agents.{app}"), source))?
        }
        None => redriver,
    })
}

fn engine(app: &str, entry: &AgentEntry) -> Result<AgentEngineRedriver, Misconfigured> {
    // Its requests carry an access token instead.
    if entry.secret_env.is_some() {
        return Err(not_of_its_kind(app, "secret_env", AgentKind::Http));
    }
    let redriver = AgentEngineRedriver::new(&entry.url, Duration::from_millis(entry.timeout_ms));
    let redriver = redriver.map_err(|source| unusable(&format!("agents.{app}"), source))?;
    Ok(match &entry.method {
        Some(method) => redriver.method(method),
        None => redriver,
    })
}

fn not_of_its_kind(app: &str, key: &str, kind: AgentKind) -> Misconfigured {
    let kind = match kind {
        AgentKind::Http => "http",
        AgentKind::AgentEngine => "agent_engine",
    };
    Misconfigured::Invalid {
        key: format!("agents.{app}.{key}"),
        problem: format!("is allowed for agents of the kind `{kind}` only"),
    }
}

fn unusable(of: &str, source: HttpError) -> Misconfigured {
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

/// The value of the environment variable that a key names.
fn variable(key: String, name: &str) -> Result<String, Misconfigured> {
    // The system cannot look up a text that is no variable name.
    let named = !name.is_empty() && !name.contains(['=', '\0']);
    let value = named.then(|| std::env::var(name).ok()).flatten();
    let value = value.filter(|value| !value.is_empty());
    value.ok_or(Misconfigured::NoVariable { key })
}
