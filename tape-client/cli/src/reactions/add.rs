//! `tape reactions add`.

use super::{Named, kept};
use crate::age::{Age, age};
use crate::{Context, Failure};
use clap::Args;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape_client::core::id::{App, ConnectorName, GateName, Key, Operation, User};
use tape_client::core::subject::Pattern;
use tape_client::environment::machine;
use tape_relay::reactions::{Begins, Definition, FORM, Rate, Target, Then, When};

/// A new reaction.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("then").required(true).args(["begin", "signal", "outbox"])))]
pub(crate) struct Add {
    #[command(flatten)]
    named: Named,
    /// The subjects of the entries to which it reacts.
    #[arg(long, value_name = "PATTERN")]
    when: Pattern,
    /// What must be true of an entry, in CEL.
    #[arg(long, value_name = "CEL")]
    predicate: Option<String>,
    /// Begins a run of this app, with the event as its input.
    #[arg(long, value_name = "APP")]
    begin: Option<App>,
    /// The user of the runs; `reaction` where none is named.
    #[arg(long, value_name = "USER", requires = "begin")]
    user: Option<User>,
    /// A label of the runs.
    #[arg(long, value_name = "KEY=VALUE", requires = "begin", value_parser = label)]
    label: Vec<(Key, String)>,
    /// Signals this gate, with the event as the answer.
    #[arg(long, value_name = "GATE", requires = "run")]
    signal: Option<GateName>,
    /// The run that is signalled: its name, or `same` for the run of the event.
    #[arg(long, value_name = "RUN", requires = "signal", conflicts_with_all = ["begin", "outbox"])]
    run: Option<Target>,
    /// Has a worker carry out an operation of a connector.
    #[arg(long, value_name = "CONNECTOR/OPERATION", value_parser = operation)]
    outbox: Option<(ConnectorName, Operation)>,
    /// The arguments of the operation, as JSON; the event where there are none.
    #[arg(long, value_name = "JSON", requires = "outbox", conflicts_with_all = ["begin", "signal"], value_parser = raw)]
    request: Option<Box<RawValue>>,
    /// The operation is not sent again before its outcome is known.
    #[arg(long, requires = "outbox", conflicts_with_all = ["begin", "signal"])]
    non_idempotent: bool,
    /// Reacts to an entry only where no other follows in its stream within this time, such as 5s.
    #[arg(long, value_name = "TIME", value_parser = age)]
    debounce: Option<Age>,
    /// Most runs that are unfinished at a time.
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Most runs that begin in a time, such as 10/1m.
    #[arg(long, value_name = "N/TIME", value_parser = rate)]
    rate: Option<Rate>,
    /// How often the reaction may be among those that led to an entry. By default it reacts to nothing that it caused itself.
    #[arg(long, value_name = "N", default_value_t = 0)]
    repeats: u32,
    /// Begins with the first entry of the feed, instead of with new ones.
    #[arg(long)]
    from_start: bool,
    /// Takes the place of the reaction that has the name, and goes on from where that is.
    #[arg(long)]
    replace: bool,
}

impl Add {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let definition = self.definition()?;
        let written = definition.write(&self.named.tenant, &Arc::clone(&machine()));
        let written = written.map_err(|problem| kept::invalid(&problem))?;
        let value = kept::value(context, &self.named);
        let found = value.get().await?;
        let is_there = found.as_ref().is_some_and(|found| found.value.is_some());
        if is_there != self.replace {
            let Named { name, tenant } = &self.named;
            return Err(if is_there {
                kept::misused(format!(
                    "'{name}' of tenant '{tenant}' is there already; to change it, add --replace"
                ))
            } else {
                kept::absent(&self.named)
            });
        }
        let version = found.map_or(0, |found| found.version);
        let version = value.compare_and_set(version, written).await?;
        let what = if self.replace { "replaced" } else { "added" };
        kept::say(context, &self.named, version, what)
    }

    fn definition(&self) -> Result<Definition, Failure> {
        let millis = |age: &Age| u64::try_from(age.duration.as_millis()).unwrap_or(u64::MAX);
        Ok(Definition {
            form: FORM,
            when: When {
                pattern: self.when.clone(),
                predicate: self.predicate.clone(),
            },
            then: self.then()?,
            start: if self.from_start {
                Begins::Beginning
            } else {
                Begins::Now
            },
            debounce_ms: self.debounce.as_ref().map(millis),
            concurrency: self.concurrency,
            rate: self.rate,
            repeats: self.repeats,
            paused: false,
        })
    }

    fn then(&self) -> Result<Then, Failure> {
        match (&self.begin, &self.signal, &self.run, &self.outbox) {
            (Some(app), ..) => Ok(Then::Begin {
                app: app.clone(),
                user: self.user.clone(),
                labels: self.label.iter().cloned().collect::<BTreeMap<_, _>>(),
            }),
            (_, Some(gate), Some(run), _) => Ok(Then::Signal {
                gate: gate.clone(),
                run: run.clone(),
            }),
            (.., Some((connector, operation))) => Ok(Then::Outbox {
                connector: connector.clone(),
                operation: operation.clone(),
                non_idempotent: self.non_idempotent,
                request: self.request.clone(),
            }),
            _ => Err(kept::misused(
                "needs --begin, --signal with --run, or --outbox".to_owned(),
            )),
        }
    }
}

fn label(text: &str) -> Result<(Key, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    let key = Key::new(key).map_err(|invalid| invalid.to_string())?;
    Ok((key, value.to_owned()))
}

fn operation(text: &str) -> Result<(ConnectorName, Operation), String> {
    let (connector, operation) = text
        .split_once('/')
        .ok_or("an operation is CONNECTOR/OPERATION")?;
    let connector = ConnectorName::new(connector).map_err(|invalid| invalid.to_string())?;
    let operation = Operation::new(operation).map_err(|invalid| invalid.to_string())?;
    Ok((connector, operation))
}

fn raw(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<Rate, String> {
    let form = || "a rate is a number of runs and a time, such as 10/1m".to_owned();
    let (count, per) = text.split_once('/').ok_or_else(form)?;
    let per = age(per).map_err(|_| form())?.duration.as_millis();
    Ok(Rate {
        count: count.parse().map_err(|_| form())?,
        per_ms: u64::try_from(per).map_err(|_| form())?,
    })
}
