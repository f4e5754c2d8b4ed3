//! Connectors and agents, as the configuration says.

use crate::config::{AgentEntry, ConnectorEntry, File, Misconfigured};
use std::time::Duration;
use tape_core::id::Connector;
use tape_reactors::{CommandConnector, Connectors, HttpConnector, HttpRedriver, Registry};

pub(crate) fn connectors(file: &File) -> Result<Connectors, Misconfigured> {
    let mut all = Connectors::new();
    for (name, entry) in &file.connectors {
        let places = entry.concurrency;
        all = match (&entry.http, entry.command.as_deref()) {
            (Some(_), None) => all.with(name.clone(), http(name, entry)?, places),
            (None, Some([program, args @ ..])) => all.with(
                name.clone(),
                CommandConnector::new(program, args.iter().cloned()),
                places,
            ),
            _ => {
                return Err(Misconfigured::Neither {
                    connector: name.clone(),
                });
            }
        };
    }
    Ok(all)
}

fn http(name: &Connector, entry: &ConnectorEntry) -> Result<HttpConnector, Misconfigured> {
    let endpoints = entry.http.clone().ok_or_else(|| Misconfigured::Neither {
        connector: name.clone(),
    })?;
    let mut headers = entry.headers.clone();
    for (header, from) in &entry.headers_env {
        headers.insert(header.clone(), variable(name.as_str(), from)?);
    }
    let headers = headers
        .iter()
        .map(|(header, value)| (header.as_str(), value.as_str()));
    HttpConnector::new(endpoints, headers).map_err(|source| Misconfigured::Http {
        of: name.to_string(),
        source,
    })
}

pub(crate) fn agents(file: &File) -> Result<Registry, Misconfigured> {
    let mut all = Registry::new();
    for (app, entry) in &file.agents {
        all = all.redriver(app.clone(), agent(app.as_str(), entry)?);
    }
    Ok(all)
}

fn agent(app: &str, entry: &AgentEntry) -> Result<HttpRedriver, Misconfigured> {
    let redriver =
        HttpRedriver::new(&entry.url, Duration::from_millis(entry.timeout_ms)).map_err(|source| {
            Misconfigured::Http {
                of: app.to_owned(),
                source,
            }
        })?;
    Ok(match &entry.secret_env {
        Some(from) => redriver.signed(variable(app, from)?),
        None => redriver,
    })
}

fn variable(of: &str, name: &str) -> Result<String, Misconfigured> {
    std::env::var(name).map_err(|_| Misconfigured::NoVariable {
        of: of.to_owned(),
        variable: name.to_owned(),
    })
}
