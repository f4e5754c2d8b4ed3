//! `tape runs`.

use crate::name::path;
use crate::text::time;
use crate::{Context, Failure};
use clap::Args;
use serde_json::json;
use std::process::ExitCode;
use tape_client::RunQuery;
use tape_client::core::id::{App, Key, Tenant};
use tape_client::core::stream::RunStatus;

/// Lists runs, newest first.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Whose.
    #[arg(long, env = "TAPE_TENANT")]
    tenant: Tenant,
    /// Of this app alone.
    #[arg(long)]
    app: Option<App>,
    /// In this status alone.
    #[arg(long, value_parser = status)]
    status: Option<RunStatus>,
    /// With this label alone.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Option<(Key, String)>,
    /// Most runs.
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

impl Runs {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let query = RunQuery {
            tenant: self.tenant,
            app: self.app,
            status: self.status,
            label: self.label,
        };
        let (mut page, mut left) = (None, self.limit);
        while left > 0 {
            let runs = context.tape.runs(&query, page, left).await?;
            left = left.saturating_sub(u32::try_from(runs.runs.len()).unwrap_or(u32::MAX));
            for (run, summary) in runs.runs {
                let labels = summary.labels.iter().map(|(key, value)| format!("{key}={value}"));
                let labels = labels.collect::<Vec<_>>().join(" ");
                let (status, begun) = (summary.status.as_str(), time(summary.begun_at));
                let value = json!({"run": path(&run), "status": status, "begun": begun,
                    "changed": time(summary.changed_at), "labels": summary.labels});
                let line = format!("{begun}  {status:<12}  {}  {labels}", path(&run));
                context.say(&value, line.trim_end())?;
            }
            page = runs.next;
            if page.is_none() {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
