//! `tape verify`.

mod audit;

use crate::name::{RunPath, path};
use crate::text::counted;
use crate::{Context, Failure};
use audit::{Finding, Known, Verified, audit, damage};
use clap::Args;
use futures::StreamExt as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use tape_client::core::id::{Seq, StreamId, Tenant, ValueName};
use tape_client::core::payload::Digest;
use tape_client::core::reply::Rejection;
use tape_client::{Error, RunId, RunQuery, Tail};

/// Most runs of a page.
const PAGE: u32 = 500;

/// Verifies the chains of runs, and prints their heads for publishing. Exits with 1 where anything is broken.
///
/// A run's entries must form a chain, and end where its head and the feed say. That of a retired run begins with the entry that
/// stands for those which were dropped. The runs of a tenant are those that are listed, and
/// those that the feed has, which alone has the retired ones. What is gone from entries, head, list and feed alike shows only against a head that was
/// published (--head).
#[derive(Debug, Args)]
#[command(override_usage = "tape verify [OPTIONS] <RUN>\n       tape verify [OPTIONS] --tenant <TENANT>")]
pub(crate) struct Verify {
    /// The run; without it, all runs of a tenant.
    #[arg(required_unless_present = "tenant")]
    run: Option<RunPath>,
    /// Whose runs.
    #[arg(long, env = "TAPE_TENANT")]
    tenant: Option<Tenant>,
    /// A head that was published earlier: the journal must still have it.
    #[arg(long, value_name = "SEQ:DIGEST", value_parser = head, requires = "run")]
    head: Option<(Seq, Digest)>,
    /// Does without the feed, all of which is read otherwise: a run that is no longer listed, or was cut off together
    /// with its head, is not found then.
    #[arg(long)]
    quick: bool,
}

fn head(text: &str) -> Result<(Seq, Digest), String> {
    let form = || "a head is SEQ:DIGEST, as `tape verify` prints it".to_owned();
    let (seq, digest) = text.split_once(':').ok_or_else(form)?;
    Ok((
        Seq(seq.parse().map_err(|_| form())?),
        digest.parse().map_err(|_| form())?,
    ))
}

/// The last entry that the feed has of each run.
type Ends = BTreeMap<RunId, Known>;

/// What was found so far.
#[derive(Default)]
struct Count {
    runs: u64,
    entries: u64,
    erased: u64,
    dropped: u64,
    broken: u64,
}

impl Verify {
    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let mut count = Count::default();
        match (&self.run, &self.tenant) {
            (Some(RunPath(run)), _) => self.one(context, run, &mut count).await?,
            (None, Some(tenant)) => self.all(context, tenant, &mut count).await?,
            (None, None) => {}
        }
        count.say(context)?;
        Ok(if count.broken == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    async fn one(&self, context: &mut Context<'_>, run: &RunId, count: &mut Count) -> Result<(), Failure> {
        let stream = StreamId::Run(run.clone());
        let mut ends = self.ends(context, &stream.to_string(), count).await?;
        let finding = audit(context, run, self.head, ends.remove(run)).await?;
        let nothing = matches!(&finding, Ok(verified) if verified.head.0 == Seq::ZERO);
        if nothing && self.head.is_none() {
            return Err(Error::Rejected(Box::new(Rejection::NotFound { what: "run" })).into());
        }
        count.add(context, run, finding)
    }

    async fn all(
        &self,
        context: &mut Context<'_>,
        tenant: &Tenant,
        count: &mut Count,
    ) -> Result<(), Failure> {
        let mut ends = self.ends(context, &runs_of(tenant), count).await?;
        let (query, mut page) = (RunQuery::all(tenant.clone()), None);
        loop {
            let runs = match context.tape.runs(&query, page, PAGE).await {
                Ok(runs) => runs,
                Err(error) => {
                    count.broken(context, "list", tenant.as_str(), damage(error)?)?;
                    break;
                }
            };
            for (run, _) in runs.runs {
                let finding = audit(context, &run, None, ends.remove(&run)).await?;
                count.add(context, &run, has_entries(finding))?;
            }
            page = runs.next;
            if page.is_none() {
                break;
            }
        }
        for (run, end) in ends {
            let finding = audit(context, &run, None, Some(end)).await?;
            count.add(context, &run, may_be_unlisted(finding))?;
        }
        if count.runs == 0 && count.broken == 0 {
            let problem = format!("'{tenant}' has no runs");
            return Err(Error::Invalid {
                what: "tenant",
                problem,
            }
            .into());
        }
        Ok(())
    }

    /// What the feed has of the runs below a path; as much of it as can be read.
    async fn ends(&self, context: &mut Context<'_>, below: &str, count: &mut Count) -> Result<Ends, Failure> {
        let mut ends = Ends::new();
        if self.quick {
            return Ok(ends);
        }
        let pattern = format!("{}.>", below.replace('/', "."));
        let mut pages = context.tape.tail(&Tail {
            pattern: pattern.parse().map_err(Error::from)?,
            from_start: true,
            follow: false,
        });
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    count.broken(context, "feed", below, damage(error)?)?;
                    break;
                }
            };
            for (stream, stored) in page {
                if let StreamId::Run(run) = stream {
                    let (seq, digest) = (stored.seq, stored.digest);
                    ends.insert(
                        run,
                        Known {
                            by: "the feed",
                            seq,
                            digest,
                        },
                    );
                }
            }
        }
        Ok(ends)
    }
}

/// The path that the names of all runs of a tenant begin with.
fn runs_of(tenant: &Tenant) -> String {
    // Any stream's path begins with the tenant, written as in paths.
    let name = ValueName::new("any").expect("it is a name");
    let tenant = tenant.clone();
    let path = StreamId::Value { tenant, name }.to_string();
    let tenant = path.split('/').next().unwrap_or_default();
    format!("{tenant}/run")
}

/// Runs whose entries were dropped are no longer listed; others that are not, should be.
fn may_be_unlisted(finding: Finding) -> Finding {
    match finding {
        Ok(Verified { dropped: 0, .. }) => {
            Err("the feed has it, but it is not in the list of runs".to_owned())
        }
        other => other,
    }
}

fn has_entries(finding: Finding) -> Finding {
    match finding {
        Ok(Verified {
            head: (Seq::ZERO, _), ..
        }) => Err("it is listed, but has no entries".to_owned()),
        other => other,
    }
}

impl Count {
    /// Counts a run and says how it is.
    fn add(&mut self, context: &mut Context<'_>, run: &RunId, finding: Finding) -> Result<(), Failure> {
        self.runs += 1;
        let Verified {
            head: (seq, digest),
            erased,
            dropped,
        } = match finding {
            Ok(verified) => verified,
            Err(broken) => return self.broken(context, "run", &path(run), broken),
        };
        self.entries += seq.0 - dropped;
        self.erased += erased;
        self.dropped += dropped;
        let (name, head) = (path(run), format!("{seq}:{digest}"));
        let gone = match erased {
            0 => String::new(),
            n => format!("{}  ", payloads_erased(n)),
        };
        let retired = match dropped {
            0 => String::new(),
            n => format!("retired, {} dropped  ", counted(n, "entry", "entries")),
        };
        let line = json!({"run": name, "ok": true, "head": head, "erased": erased, "dropped": dropped});
        context.say(&line, &format!("ok      {name}  {retired}{gone}head {head}"))
    }

    /// Counts what is broken and says so.
    fn broken(
        &mut self,
        context: &mut Context<'_>,
        what: &'static str,
        name: &str,
        broken: String,
    ) -> Result<(), Failure> {
        self.broken += 1;
        let of = if what == "run" {
            String::new()
        } else {
            format!("the {what} of ")
        };
        let text = format!("BROKEN  {of}{name}  {broken}");
        context.say(&json!({what: name, "ok": false, "broken": broken}), &text)
    }

    fn say(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Self {
            runs,
            entries,
            erased,
            dropped,
            broken,
        } = *self;
        let line =
            json!({"runs": runs, "entries": entries, "erased": erased, "dropped": dropped, "broken": broken});
        let (runs, entries) = (counted(runs, "run", "runs"), counted(entries, "entry", "entries"));
        let retired = match dropped {
            0 => String::new(),
            n => format!("{} dropped, ", counted(n, "entry", "entries")),
        };
        let text = format!(
            "{runs}, {entries} verified, {retired}{}, {broken} broken",
            payloads_erased(erased)
        );
        context.say(&line, &text)
    }
}

fn payloads_erased(n: u64) -> String {
    format!("{} erased", counted(n, "payload", "payloads"))
}

#[cfg(test)]
mod tests {
    use super::has_entries;
    use crate::verify::audit::Verified;
    use tape_client::core::id::Seq;
    use tape_client::core::payload::Digest;

    #[test]
    fn a_run_without_entries_is_no_run() {
        let of = |seq| {
            let head = (Seq(seq), Digest::of(b"head"));
            has_entries(Ok(Verified {
                head,
                ..Verified::default()
            }))
        };
        assert!(of(0).is_err_and(|broken| broken == "it is listed, but has no entries"));
        assert!(of(1).is_ok());
        assert!(has_entries(Err("gone".to_owned())).is_err_and(|broken| broken == "gone"));
    }
}
