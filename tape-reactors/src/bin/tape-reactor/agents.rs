//! Agents, as the configuration says.

use crate::config::{AgentEntry, AgentKind, File, Misconfigured};
use crate::parts::{check_command, check_is_there, unusable, variable};
use std::sync::Arc;
use tape_core::id::{AgentVersion, App};
use tape_environment::Environment;
use tape_reactors::{AgentEngineRedriver, CommandRedriver, HttpRedriver, Redriver, Registry};

pub(crate) fn agents(file: &File, environment: &Arc<dyn Environment>) -> Result<Registry, Misconfigured> {
    let mut all = Registry::new();
    for (app, entry) in &file.agents {
        let of = format!("agents.{app}");
        if entry.is_somewhere() || entry.versions.is_empty() {
            let place = Place::of(file, app, None, entry, environment);
            all = place.add(all, &of, entry)?;
        }
        for (version, entry) in &entry.versions {
            let of = format!("{of}.versions.{version}");
            let place = Place::of(file, app, Some(version), entry, environment);
            all = place.add(all, &of, entry)?;
        }
    }
    Ok(all)
}

/// What a re-driver is for, and how many runs it has at once.
struct Place {
    app: App,
    version: Option<AgentVersion>,
    places: usize,
    environment: Arc<dyn Environment>,
}

impl Place {
    fn of(
        file: &File,
        app: &App,
        version: Option<&AgentVersion>,
        entry: &AgentEntry,
        environment: &Arc<dyn Environment>,
    ) -> Self {
        Self {
            app: app.clone(),
            version: version.cloned(),
            places: file.places(entry),
            environment: Arc::clone(environment),
        }
    }

    /// Adds the agent that stands under the key `of`.
    fn add(self, all: Registry, of: &str, entry: &AgentEntry) -> Result<Registry, Misconfigured> {
        let environment = Arc::clone(&self.environment);
        match (&entry.url, entry.command.as_deref(), entry.kind) {
            (Some(url), None, None | Some(AgentKind::Http)) => {
                Ok(self.fill(all, endpoint(of, url, entry)?.environment(environment)))
            }
            (Some(url), None, Some(AgentKind::AgentEngine)) => Ok(self.fill(all, engine(of, url, entry)?)),
            (None, Some([program, args @ ..]), _) => {
                Ok(self.fill(all, command(of, program, args, entry)?.environment(environment)))
            }
            (None, Some([]), _) => Err(Misconfigured::no_program(of)),
            _ => Err(Misconfigured::NoAgent { of: of.to_owned() }),
        }
    }

    fn fill(self, all: Registry, redriver: impl Redriver) -> Registry {
        match self.version {
            None => all.redriver(self.app, self.places, redriver),
            Some(version) => all.redriver_of_version(self.app, version, self.places, redriver),
        }
    }
}

fn endpoint(of: &str, url: &str, entry: &AgentEntry) -> Result<HttpRedriver, Misconfigured> {
    if entry.method.is_some() {
        return Err(not_of_its_kind(of, "method", AgentKind::AgentEngine));
    }
    no_env(of, entry)?;
    let redriver = HttpRedriver::new(url, entry.timeout()).map_err(|source| unusable(of, source))?;
    Ok(match &entry.secret_env {
        Some(from) => {
            let secret = variable(format!("{of}.secret_env"), from)?;
            redriver.signed(secret).map_err(|source| unusable(of, source))?
        }
        None => redriver,
    })
}

fn engine(of: &str, url: &str, entry: &AgentEntry) -> Result<AgentEngineRedriver, Misconfigured> {
    // Its requests carry an access token instead.
    if entry.secret_env.is_some() {
        return Err(not_of_its_kind(of, "secret_env", AgentKind::Http));
    }
    no_env(of, entry)?;
    let redriver = AgentEngineRedriver::new(url, entry.timeout());
    let redriver = redriver.map_err(|source| unusable(of, source))?;
    Ok(match &entry.method {
        Some(method) => redriver.method(method),
        None => redriver,
    })
}

fn command(
    of: &str,
    program: &str,
    args: &[String],
    entry: &AgentEntry,
) -> Result<CommandRedriver, Misconfigured> {
    let of_urls = [
        ("kind", entry.kind.is_some()),
        ("method", entry.method.is_some()),
        ("secret_env", entry.secret_env.is_some()),
    ];
    if let Some((key, _)) = of_urls.into_iter().find(|(_, given)| *given) {
        return Err(Misconfigured::Invalid {
            key: format!("{of}.{key}"),
            problem: "is allowed beside `url` only".to_owned(),
        });
    }
    check_command(of, program, args, &entry.env)?;
    let redriver = CommandRedriver::new(program, args.iter().cloned(), entry.timeout());
    check_is_there(of, redriver.is_there())?;
    Ok(redriver.inherit(entry.env.iter().cloned()))
}

fn no_env(of: &str, entry: &AgentEntry) -> Result<(), Misconfigured> {
    if entry.env.is_empty() {
        return Ok(());
    }
    Err(Misconfigured::Invalid {
        key: format!("{of}.env"),
        problem: "is allowed beside `command` only".to_owned(),
    })
}

fn not_of_its_kind(of: &str, key: &str, kind: AgentKind) -> Misconfigured {
    let kind = match kind {
        AgentKind::Http => "http",
        AgentKind::AgentEngine => "agent_engine",
    };
    Misconfigured::Invalid {
        key: format!("{of}.{key}"),
        problem: format!("is allowed for agents of the kind `{kind}` only"),
    }
}
