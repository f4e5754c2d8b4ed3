//! Connectors and agents, as the configuration says.

use crate::config::{AgentEntry, AgentKind, ConnectorEntry, File, Misconfigured};
use std::time::Duration;
use tape_core::id::Connector;
use tape_reactors::{
    AgentEngineRedriver, CommandConnector, Connectors, HttpConnector, HttpError, HttpRedriver, Registry,
};

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
    HttpConnector::new(endpoints, headers).map_err(|source| unusable(name.as_str(), source))
}

pub(crate) fn agents(file: &File) -> Result<Registry, Misconfigured> {
    let mut all = Registry::new();
    for (app, entry) in &file.agents {
        all = match entry.kind {
            AgentKind::Http => all.redriver(app.clone(), endpoint(app.as_str(), entry)?),
            AgentKind::AgentEngine => all.redriver(app.clone(), engine(app.as_str(), entry)?),
        };
    }
    Ok(all)
}

fn endpoint(app: &str, entry: &AgentEntry) -> Result<HttpRedriver, Misconfigured> {
    let redriver = HttpRedriver::new(&entry.url, Duration::from_millis(entry.timeout_ms));
    let redriver = redriver.map_err(|source| unusable(app, source))?;
    Ok(match &entry.secret_env {
        Some(from) => redriver.signed(variable(app, from)?),
        None => redriver,
    })
}

fn engine(app: &str, entry: &AgentEntry) -> Result<AgentEngineRedriver, Misconfigured> {
    let redriver = AgentEngineRedriver::new(&entry.url, Duration::from_millis(entry.timeout_ms));
    let redriver = redriver.map_err(|source| unusable(app, source))?;
    Ok(match &entry.method {
        Some(method) => redriver.method(method),
        None => redriver,
    })
}

fn unusable(of: &str, source: HttpError) -> Misconfigured {
    Misconfigured::Http {
        of: of.to_owned(),
        source,
    }
}

fn variable(of: &str, name: &str) -> Result<String, Misconfigured> {
    std::env::var(name).map_err(|_| Misconfigured::NoVariable {
        of: of.to_owned(),
        variable: name.to_owned(),
    })
}
