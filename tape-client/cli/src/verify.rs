//! `tape verify`.

mod audit;
mod checkpoint;
mod count;
mod file;
mod heads;

use crate::name::{RunPath, misused, of_tenant, path, tenant};
use crate::{Context, Failure};
pub(crate) use audit::{Damage, Sink, damage};
use audit::{Finding, audit};
use clap::Args;
pub(crate) use count::Count;
use futures::StreamExt as _;
pub(crate) use heads::Heads;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use tape_cli::stream::{Known, Sound};
use tape_client::core::id::{Seq, StreamId, Tenant};
use tape_client::core::payload::Digest;
use tape_client::core::reply::{Missing, Rejection};
use tape_client::{Error, RunId, RunQuery, Tail};

/// Most runs of a page.
const PAGE: u32 = 500;

/// Verifies the chains of streams and their snapshots, and prints their heads for publishing.
///
/// Streams are runs, sessions, shared state, values and owners of business keys. A stream's entries must form a chain under its name,
/// follow each other by the rules, and end where its head and the feed end; its snapshot must agree with them. Entries that are missing
/// from the stream, its head, the lists and the feed alike are detected only with a published head (--head, --heads).
///
/// A retired run has one entry left, which replaces the dropped ones. A head that was published before that entry is not covered: nothing
/// proves any more what it covered.
///
/// A missing payload must be covered by an entry that records its erasure; otherwise it was destroyed. For entries of the first builds
/// (version 1) this cannot be told, since those builds did not record erasures.
///
/// With --file, a file that `tape export` wrote is verified in the same way, without a journal.
///
/// Exits with 1 if anything is broken, and with 3 if nothing is broken but something is not proved: a published head that is not covered,
/// a missing payload of version 1, what a newer build wrote, or a snapshot that no entry names.
#[derive(Debug, Default, Args)]
#[command(
    override_usage = "tape verify [OPTIONS] <RUN>\n       tape verify [OPTIONS] --stream <STREAM>\n       \
                      tape verify [OPTIONS] --tenant <TENANT>\n       tape verify [OPTIONS] --all\n       \
                      tape verify [OPTIONS] --file <FILE>\n       \
                      tape verify [OPTIONS] --checkpoint <FILE> --heads <FILE> --key <KEY>"
)]
pub(crate) struct Verify {
    /// The run.
    #[arg(required_unless_present_any = ["stream", "tenant", "all", "file", "checkpoint"])]
    run: Option<RunPath>,
    /// A stream of any kind by its full name, such as acme/value/rate.
    #[arg(long, conflicts_with = "run")]
    stream: Option<StreamId>,
    /// All streams of a tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant)]
    tenant: Option<Tenant>,
    /// All streams of all tenants.
    #[arg(long, conflicts_with_all = ["run", "stream"])]
    all: bool,
    /// A file that `tape export` wrote, verified without a journal; - is standard input. A run or stream that is named must be in it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "quick"])]
    file: Option<PathBuf>,
    /// A head of the run or stream that was published earlier: the journal must still have it.
    #[arg(long, value_name = "SEQ:DIGEST", value_parser = heads::head, conflicts_with = "all")]
    head: Option<(Seq, Digest)>,
    /// Heads that were published earlier, as `tape verify --json` or `tape heads` printed them: the journal must still have them.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// A checkpoint of the log that --heads names: only the lines that it covers are used. Without RUN, --stream, --tenant or --all, the
    /// tenant of the log is verified.
    #[arg(long, value_name = "FILE", requires_all = ["heads", "key"])]
    checkpoint: Option<PathBuf>,
    /// The public key that must have signed the checkpoint, or a file that has it.
    #[arg(long, value_name = "KEY", requires = "checkpoint")]
    key: Option<String>,
    /// Does not read the feed, which is otherwise read completely. A stream that was truncated together with its head is then not found.
    #[arg(long)]
    quick: bool,
}

/// The last entry that the feed has of each stream.
type Ends = BTreeMap<StreamId, Known>;

impl Verify {
    /// Verifies all streams of a tenant where one is named, else what [`Verify::one`] is told.
    pub(crate) fn of(tenant: Option<Tenant>, quick: bool) -> Self {
        Self {
            tenant,
            quick,
            ..Self::default()
        }
    }

    /// Whether it verifies a file instead of a journal.
    pub(crate) const fn reads_file(&self) -> bool {
        self.file.is_some()
    }

    /// A tenant of the environment does not count where runs, a stream, all tenants, a file or a log are named.
    pub(crate) fn forget_tenant(&mut self) {
        let named = self.run.is_some() || self.stream.is_some() || self.all;
        if named || self.reads_file() || self.checkpoint.is_some() {
            self.tenant = None;
        }
    }

    pub(crate) async fn run(mut self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        if self.all && self.tenant.is_some() {
            return Err(misused(
                "is one, and --all means all of them: say one of the two".to_owned(),
            ));
        }
        let named = self.run.iter().map(|RunPath(run)| StreamId::Run(run.clone()));
        of_tenant(self.tenant.as_ref(), named.chain(self.stream.clone()))?;
        let mut heads = self.published()?;
        let mut count = Count::default();
        match self.named() {
            Some(stream) => {
                let mut published = heads.remove(&stream).unwrap_or_default();
                if published.is_empty() {
                    self.check_heads_of(&stream)?;
                }
                published.extend(self.head);
                (count.heads, count.left_out) = (published.len() as u64, number_of(&heads));
                self.one(context, &stream, &published, &mut count, &mut ())
                    .await?;
            }
            None if self.head.is_some() => return Err(head_of_none()),
            None => {
                of_tenant(self.tenant.as_ref(), heads.keys().cloned())?;
                count.heads = number_of(&heads);
                self.many(context, heads, &mut count, &mut ()).await?;
            }
        }
        count.end(&mut context.print)
    }

    /// Refuses a file of heads that has none of the stream that is named: nothing would be compared.
    fn check_heads_of(&self, stream: &StreamId) -> Result<(), Failure> {
        self.heads.as_ref().map_or(Ok(()), |path| {
            let problem = format!("{}: it has no head of {stream}", path.display());
            Err(Failure::Misused(Error::Invalid {
                what: "heads",
                problem,
            }))
        })
    }

    /// The run or stream that is named.
    fn named(&self) -> Option<StreamId> {
        let run = self.run.as_ref().map(|RunPath(run)| StreamId::Run(run.clone()));
        run.or_else(|| self.stream.clone())
    }

    /// One stream, which must be there unless heads of it were published.
    pub(crate) async fn one(
        &self,
        context: &mut Context<'_>,
        stream: &StreamId,
        published: &[(Seq, Digest)],
        count: &mut Count,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let mut ends = self.ends(context, Some(&stream.to_string()), count).await?;
        let finding = audit(context, stream, published, ends.remove(stream), sink).await?;
        let nothing = matches!(&finding, Ok(sound) if sound.verified.head.0 == Seq::ZERO);
        if nothing && published.is_empty() {
            let (what, name) = match stream.as_run() {
                Some(run) => (Missing::Run, path(run)),
                None => (Missing::Stream, stream.to_string()),
            };
            let name = Some(name);
            return Err(Error::Rejected(Box::new(Rejection::NotFound { what, name })).into());
        }
        sink.end(stream, broken(&finding))?;
        count.add(&mut context.print, stream, finding)
    }

    /// All streams of a tenant, or of all tenants, that the feed, the store, the lists or published heads name.
    pub(crate) async fn many(
        &self,
        context: &mut Context<'_>,
        heads: Heads,
        count: &mut Count,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let tenant = self.tenant.as_ref();
        let below = tenant.map(path_of);
        let ends = self.ends(context, below.as_deref(), count).await?;
        let in_scope = |stream: &StreamId| tenant.is_none_or(|tenant| stream.tenant() == tenant);
        let mut names: BTreeSet<StreamId> = self.stored(context, count).await?;
        names.extend(ends.keys().chain(heads.keys()).cloned());
        names.retain(in_scope);
        // Lists are read last, so that every run that is known by now is in them.
        let mut tenants: BTreeSet<Tenant> = names.iter().map(|stream| stream.tenant().clone()).collect();
        tenants.extend(tenant.cloned());
        let listed = list(context, &tenants, count).await?;
        names.extend(listed.iter().flatten().cloned().map(StreamId::Run));
        for stream in names {
            let published = heads.get(&stream).map_or(&[][..], Vec::as_slice);
            let finding = audit(context, &stream, published, ends.get(&stream).copied(), sink).await?;
            let finding = match (&listed, stream.as_run()) {
                (Some(listed), Some(run)) => is_listed(finding, listed.contains(run)),
                _ => finding,
            };
            sink.end(&stream, broken(&finding))?;
            count.add(&mut context.print, &stream, finding)?;
        }
        if count.runs + count.streams + count.broken == 0 {
            return Err(Failure::Empty(match tenant {
                Some(tenant) => format!("tenant '{tenant}' has no streams"),
                None => "the journal has no streams".to_owned(),
            }));
        }
        Ok(())
    }

    /// The streams of the store itself, as far as they can be read.
    async fn stored(
        &self,
        context: &mut Context<'_>,
        count: &mut Count,
    ) -> Result<BTreeSet<StreamId>, Failure> {
        let (mut names, mut page) = (BTreeSet::new(), None);
        loop {
            let found = match context.tape.streams(page).await {
                Ok(found) => found,
                Err(error) => {
                    count.broken(
                        &mut context.print,
                        ("streams", "the journal"),
                        "the streams of ",
                        &damage(error)?,
                    )?;
                    return Ok(names);
                }
            };
            names.extend(found.streams);
            if self.tenant.is_none() {
                for name in found.unreadable {
                    let broken = "that is no name of a stream".to_owned();
                    count.broken(&mut context.print, ("stream", &name), "", &broken)?;
                }
            }
            page = found.next;
            if page.is_none() {
                return Ok(names);
            }
        }
    }

    /// The ends of the streams below a path according to the feed, as far as it can be read.
    async fn ends(
        &self,
        context: &mut Context<'_>,
        below: Option<&str>,
        count: &mut Count,
    ) -> Result<Ends, Failure> {
        let mut ends = Ends::new();
        if self.quick {
            return Ok(ends);
        }
        let below = below.unwrap_or_default();
        let pattern = if below.is_empty() {
            ">".to_owned()
        } else {
            format!("{}.>", below.replace('/', "."))
        };
        let mut pages = context.tape.tail(&Tail {
            from_start: true,
            follow: false,
            ..Tail::new(pattern.parse().map_err(Error::from)?)
        });
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    count.broken(
                        &mut context.print,
                        ("feed", below),
                        "the feed of ",
                        &damage(error)?,
                    )?;
                    break;
                }
            };
            // Damage of a known stream is found when that stream is verified.
            for damaged in page
                .damaged
                .into_iter()
                .filter(|damaged| damaged.stream.is_none())
            {
                count.broken(
                    &mut context.print,
                    ("feed", below),
                    "the feed of ",
                    &damaged.problem,
                )?;
            }
            for (stream, stored) in page.entries {
                let (seq, digest) = (stored.seq, stored.digest);
                let by = "the feed";
                ends.insert(stream, Known { by, seq, digest });
            }
        }
        Ok(ends)
    }
}

/// What is broken, where something is.
fn broken(finding: &Finding) -> Option<&Damage> {
    finding.as_ref().err()
}

/// How many heads there are.
fn number_of(heads: &Heads) -> u64 {
    heads.values().map(|heads| heads.len() as u64).sum()
}

fn head_of_none() -> Failure {
    let problem = "a head is of one run or stream: say which, or give --heads FILE".to_owned();
    Failure::Misused(Error::Invalid {
        what: "head",
        problem,
    })
}

/// The listed runs; none where the lists cannot be read.
async fn list(
    context: &mut Context<'_>,
    tenants: &BTreeSet<Tenant>,
    count: &mut Count,
) -> Result<Option<BTreeSet<RunId>>, Failure> {
    let mut listed = BTreeSet::new();
    for tenant in tenants {
        let (query, mut page) = (RunQuery::all(tenant.clone()), None);
        loop {
            let runs = match context.tape.runs(&query, page, PAGE).await {
                Ok(runs) => runs,
                Err(error) => {
                    count.broken(
                        &mut context.print,
                        ("list", tenant.as_str()),
                        "the list of ",
                        &damage(error)?,
                    )?;
                    return Ok(None);
                }
            };
            for (run, _) in runs.runs {
                if run.tenant == *tenant {
                    listed.insert(run);
                } else {
                    // It is not in the list where it belongs, as far as this one says.
                    let problem = format!("it has {}, which is of another tenant", path(&run));
                    let list = ("list", tenant.as_str());
                    count.broken(&mut context.print, list, "the list of ", &problem)?;
                }
            }
            page = runs.next;
            if page.is_none() {
                break;
            }
        }
    }
    Ok(Some(listed))
}

/// The first part of the names of a tenant's streams, percent-encoded.
pub(crate) fn path_of(tenant: &Tenant) -> String {
    let name = tape_client::core::id::ValueName::new("any").expect("it is a name");
    let tenant = tenant.clone();
    let path = StreamId::Value { tenant, name }.to_string();
    path.split('/').next().unwrap_or_default().to_owned()
}

/// Checks that a run with entries is listed. A run whose entries were dropped need not be.
fn is_listed(finding: Finding, listed: bool) -> Finding {
    let Ok(Sound { verified, .. }) = &finding else {
        return finding;
    };
    match (verified.head.0, verified.dropped) {
        (Seq::ZERO, _) if listed => Err("it is listed, but has no entries".to_owned().into()),
        (_, 0) if !listed => Err("it is not in the list of runs".to_owned().into()),
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::is_listed;
    use tape_cli::stream::Sound;
    use tape_client::core::id::Seq;
    use tape_client::core::payload::Digest;
    use tape_client::core::verify::Verified;

    #[test]
    fn a_run_is_listed_as_long_as_it_has_its_entries() {
        let of = |seq, dropped, listed| {
            let verified = Verified {
                head: (Seq(seq), Digest::of(b"head")),
                dropped,
                ..Verified::default()
            };
            let doubts = Vec::new();
            let found = is_listed(Ok(Sound { verified, doubts }), listed);
            found.err().map(|broken| broken.what)
        };
        let told = |broken: &str| Some(broken.to_owned());
        assert_eq!(of(0, 0, true), told("it is listed, but has no entries"));
        assert_eq!(of(1, 0, true), None);
        assert_eq!(of(1, 0, false), told("it is not in the list of runs"));
        assert_eq!(of(9, 8, true), None, "it was retired, and is dropped soon");
        assert_eq!(of(9, 8, false), None);
        let gone = is_listed(Err("gone".to_owned().into()), false);
        assert_eq!(gone.err().map(|broken| broken.what), told("gone"));
    }
}
