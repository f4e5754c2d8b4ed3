//! `tape runs`.

use crate::list::{self, Pages};
use crate::moment::{Moment, moment};
use crate::name::{path, tenant};
use crate::text::time;
use crate::{Context, Failure, driver};
use clap::Args;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use tape_client::core::agent_version::{self, BegunBy, OWN};
use tape_client::core::causes::Causes;
use tape_client::core::id::{AgentVersion, App, Holder, Key, RunPrefix, Tenant};
use tape_client::core::payload::ERASED;
use tape_client::core::run::Driver;
use tape_client::core::status::{RunStatus, Summary};
use tape_client::core::time::Timestamp;
use tape_client::{Error, RunId, RunQuery, Tape};

/// Lists runs, newest first. For each, where any of a page has one, the version of the agent that began it. For each that has not ended: its driver and the end of the lease, or since when it has no driver.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Tenant,
    /// Only runs of this app.
    #[arg(long)]
    app: Option<App>,
    /// Only runs in this status; may be given several times.
    #[arg(long, value_parser = status)]
    status: Vec<RunStatus>,
    /// Only runs whose names begin with this, after the tenant: such as treasury/ann/. Names are compared as they are printed.
    #[arg(long, value_name = "PREFIX")]
    name: Option<RunPrefix>,
    /// Only runs with this label.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Option<(Key, String)>,
    /// Begun by this version of the agent alone.
    #[arg(long, value_name = "VERSION")]
    agent_version: Option<AgentVersion>,
    /// Only runs that this holder drives now.
    #[arg(long, value_name = "HOLDER")]
    driver: Option<Holder>,
    /// Only runs that need a driver and have none.
    #[arg(long, conflicts_with = "driver")]
    driverless: bool,
    /// Only runs that began at this time or later: a time in UTC, such as 2026-11-22 or '2026-11-22 12:00:00', or an age, such as 12h.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only runs that began before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Counts the runs by status, instead of listing them.
    #[arg(long, conflicts_with_all = ["driverless", "limit"])]
    count: bool,
    /// Most runs to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub(crate) fn status(text: &str) -> Result<RunStatus, String> {
    let words = || RunStatus::ALL.map(RunStatus::as_str).join(", ");
    let found = RunStatus::ALL.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| format!("a status is one of {}", words()))
}

fn label(text: &str) -> Result<(Key, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((
        Key::new(key).map_err(|error| error.to_string())?,
        value.to_owned(),
    ))
}

/// The statuses in which a run that needs a driver may have none.
const DRIVEN: [RunStatus; 2] = [RunStatus::Running, RunStatus::Suspended];

/// Most queries for drivers at the same time.
const ASKED_MAX: usize = 8;

impl Runs {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = self.query(context.tape.now());
        if self.count {
            self.tell_counts(context, &query).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let (mut pages, mut listed, mut left) = (Pages::of(&query), 0, self.limit);
        while left > 0
            && let Some(page) = pages.next(context, left).await?
        {
            let found = self.list(context, page.items).await?;
            listed += found;
            left = left.saturating_sub(u32::try_from(found).unwrap_or(u32::MAX));
        }
        let cut = (!pages.is_over()).then(|| list::more(listed));
        list::end(context, listed, cut.as_deref())?;
        Ok(ExitCode::SUCCESS)
    }

    fn query(&self, now: Timestamp) -> RunQuery {
        RunQuery {
            tenant: self.tenant.clone(),
            app: self.app.clone(),
            statuses: self.statuses(),
            label: self.label.clone().or_else(|| self.version_label()),
            prefix: self.name.clone(),
            begun_from: self.since.map(|since| since.from(now)),
            begun_before: self.until.map(|until| until.from(now)),
            driver: self.driver.clone(),
        }
    }

    fn statuses(&self) -> BTreeSet<RunStatus> {
        if self.driverless && self.status.is_empty() {
            return BTreeSet::from(DRIVEN);
        }
        self.status.iter().copied().collect()
    }

    fn version_label(&self) -> Option<(Key, String)> {
        let version = self.agent_version.as_ref()?;
        Some((agent_version::key(), version.to_string()))
    }

    fn is_of_version(&self, summary: &Summary) -> bool {
        self.agent_version.is_none() || self.agent_version == agent_version::of(&summary.labels)
    }

    /// Adds up the counts of all pages.
    async fn tell_counts(&self, context: &mut Context<'_>, query: &RunQuery) -> Result<(), Failure> {
        if self.label.is_some() && self.agent_version.is_some() {
            return Err(Failure::Misused(Error::Invalid {
                what: "--count",
                problem: "counts by one label: say --label or --agent-version".to_owned(),
            }));
        }
        let (mut counts, mut from) = (BTreeMap::<&str, u64>::new(), None);
        loop {
            let page = context.tape.count_runs(query, from).await?;
            for (status, runs) in page.by_status {
                *counts.entry(status.as_str()).or_default() += runs;
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        let runs: u64 = counts.values().sum();
        if context.print.json {
            return context.value(&json!({"counts": counts, "runs": runs}));
        }
        for (status, runs) in counts {
            context.line(&format!("{status:<12}  {runs}"))?;
        }
        context.line(&format!("{:<12}  {runs}", "all"))
    }

    /// Lists those of a page of runs that are asked for. How many that were.
    async fn list(
        &self,
        context: &mut Context<'_>,
        mut runs: Vec<(RunId, Summary)>,
    ) -> Result<usize, Failure> {
        let tape = context.tape.clone();
        runs.retain(|(_, summary)| self.is_of_version(summary));
        let versions = runs.iter().filter_map(|(_, summary)| version(summary));
        let column = versions.map(|version| version.chars().count()).max();
        let ask = |(run, summary): (RunId, Summary)| {
            let tape = tape.clone();
            async move {
                let standing = Standing::ask(&tape, &run, &summary).await?;
                Ok::<_, Failure>((run, summary, standing))
            }
        };
        let mut runs = futures::stream::iter(runs).map(ask).buffered(ASKED_MAX);
        let mut listed = 0;
        while let Some(asked) = runs.next().await {
            let (run, summary, standing) = asked?;
            if !self.driverless || standing.is_alone() {
                tell(context, &run, &summary, &standing, column)?;
                listed += 1;
            }
        }
        Ok(listed)
    }
}

/// The state of a run in the list.
enum Standing {
    Driver(Driver),
    /// It cannot be read.
    Damaged(String),
}

impl Standing {
    async fn ask(tape: &Tape, run: &RunId, summary: &Summary) -> Result<Self, Failure> {
        if summary.status.is_final() {
            return Ok(Self::Driver(Driver::Unneeded));
        }
        match tape.driver(run).await {
            Ok(Some(driver)) => Ok(Self::Driver(driver)),
            Ok(None) => Ok(Self::Damaged("it is listed, and not in the journal".to_owned())),
            Err(error @ Error::Damaged { .. }) => Ok(Self::Damaged(Causes(&error).to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it needs a driver and has none, or is damaged so that it can have none.
    const fn is_alone(&self) -> bool {
        matches!(self, Self::Driver(Driver::Alone { .. }) | Self::Damaged(_))
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::Driver(of) => driver::text(of),
            Self::Damaged(problem) => Some(format!("DAMAGED: {problem}")),
        }
    }
}

/// What the list says in the column of versions; none where the run was begun without one.
fn version(summary: &Summary) -> Option<String> {
    match BegunBy::of(&summary.labels, false) {
        BegunBy::NoVersion => None,
        BegunBy::Version(version) => Some(version.to_string()),
        BegunBy::Erased => Some(ERASED.to_owned()),
    }
}

fn tell(
    context: &mut Context<'_>,
    run: &RunId,
    summary: &Summary,
    standing: &Standing,
    column: Option<usize>,
) -> Result<(), Failure> {
    let (status, begun) = (summary.status.as_str(), time(summary.begun_at));
    if context.print.json {
        let version = agent_version::of(&summary.labels);
        let (of, damaged) = match standing {
            Standing::Driver(of) => (driver::json(of), None),
            Standing::Damaged(problem) => (Value::Null, Some(problem)),
        };
        return context.value(&json!({"run": path(run), "status": status, "begun": begun,
            "changed": time(summary.changed_at), "labels": summary.labels, "agent_version": version, "driver": of, "damaged": damaged}));
    }
    let version = column.map(|width| {
        let version = version(summary).unwrap_or_else(|| "-".to_owned());
        format!("{version:<width$}  ")
    });
    let labels = summary.labels.iter();
    let labels = labels.filter(|(key, _)| !key.as_str().starts_with(OWN));
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    let more: Vec<String> = standing.text().into_iter().chain(labels).collect();
    let (version, run) = (version.unwrap_or_default(), path(run));
    let line = format!("{begun}  {status:<12}  {version}{run}  {}", more.join("  "));
    context.line(line.trim_end())
}
