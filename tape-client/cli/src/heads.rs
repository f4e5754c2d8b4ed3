//! `tape heads`.

mod file;
mod keygen;
mod proof;

use crate::checkpoint::key::{Name, PrivateKey};
use crate::checkpoint::log::Log;
use crate::checkpoint::{Checkpoint, base64, merkle, note};
use crate::name::{of_tenant, tenant};
use crate::published::{Head, Published};
use crate::text::plain;
use crate::verify::damage;
use crate::{Context, DAMAGED, Failure, Printer};
use clap::{Args, Subcommand};
use file::LogFile;
use futures::StreamExt as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tape_client::Error;
use tape_client::core::id::{StreamId, Tenant};

/// The environment variable that has the private key itself.
const KEY: &str = "TAPE_HEADS_KEY";
/// How many streams are asked about at a time.
const AT_A_TIME: usize = 8;

/// Prints where the streams of a tenant end, or publishes it: appends it to a log, and prints a signed checkpoint of the log.
///
/// One stream a line, of all kinds, by name: its full name, a space and SEQ:DIGEST. With --log, a line is appended for each stream that went
/// on since its last line, and a checkpoint of all lines is printed, as C2SP tlog-checkpoint has it. Without a key it is not signed: its text
/// alone is printed. `tape verify --checkpoint` verifies a journal by it. docs/checkpoints.md says how to publish checkpoints.
///
/// A stream that ends before its last line in the log, or has another digest there, was cut or replaced: nothing is appended, and the
/// command exits with 1. A damaged stream is left out, and the command exits with 4 after the others are done.
#[derive(Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    override_usage = "tape heads --tenant <TENANT> [--log <FILE> [--key <FILE>] [--origin <NAME>]]\n       \
                      tape heads --log <FILE> --consistency <SIZE> [--size <SIZE>]\n       \
                      tape heads --log <FILE> --inclusion <STREAM> [--size <SIZE>]\n       \
                      tape heads keygen --origin <NAME> [--out <FILE>]"
)]
pub(crate) struct Heads {
    #[command(subcommand)]
    what: Option<What>,
    /// The tenant.
    #[arg(long, env = "TAPE_TENANT", value_parser = tenant, required_unless_present_any = ["consistency", "inclusion"])]
    tenant: Option<Tenant>,
    /// The log, which is made where there is none. One process at a time appends to it.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The private key that signs the checkpoint, as `tape heads keygen` writes it. Without it, the variable TAPE_HEADS_KEY has the key itself.
    #[arg(long, value_name = "FILE", requires = "log")]
    key: Option<PathBuf>,
    /// The name of the log, which is that of its key. Without it, the name is tape/TENANT.
    #[arg(long, value_name = "NAME", requires = "log")]
    origin: Option<Name>,
    /// Prints the proof that the log only grew since it had this many lines: a hash a line. This needs no journal.
    #[arg(long, value_name = "SIZE", group = "proof", requires = "log", conflicts_with_all = ["key", "origin"])]
    consistency: Option<usize>,
    /// Prints the proof that the newest line of this stream is in the log: its index from 0, the log's size, and a hash a line. This needs
    /// no journal.
    #[arg(long, value_name = "STREAM", group = "proof", requires = "log", conflicts_with_all = ["key", "origin"])]
    inclusion: Option<StreamId>,
    /// Proves it for the first SIZE lines of the log, as an earlier checkpoint has them.
    #[arg(long, value_name = "SIZE", requires = "proof")]
    size: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum What {
    Keygen(keygen::Keygen),
}

impl Heads {
    /// A tenant of the environment does not count where the log alone is read.
    pub(crate) fn forget_tenant(&mut self) {
        if self.needs_no_journal() {
            self.tenant = None;
        }
    }

    /// Whether the command only reads the log, or makes a key.
    pub(crate) const fn needs_no_journal(&self) -> bool {
        self.what.is_some() || self.consistency.is_some() || self.inclusion.is_some()
    }

    pub(crate) fn without_journal(self, print: &mut Printer<'_>) -> Result<ExitCode, Failure> {
        match self.what {
            Some(What::Keygen(keygen)) => keygen.run(print.out),
            None => self.prove(print.json, print.out),
        }
    }

    pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let tenant = self.tenant.clone().expect("the arguments have one");
        if let Some(path) = self.log.clone() {
            return self.publish(context, &tenant, &path).await;
        }
        let present = Present::read(context, &tenant, &[]).await?;
        for (stream, head) in &present.heads {
            let Some(head) = *head else { continue };
            let stream = stream.clone();
            let published = Published { stream, head };
            if context.print.json {
                let head = format!("{}:{}", head.0, head.1);
                context.value(&json!({"stream": published.stream.to_string(), "head": head}))?;
            } else {
                exactly(context.print.out, &published.to_string())?;
            }
        }
        present.is_any(&tenant)?;
        Ok(present.code())
    }

    async fn publish(
        self,
        context: &mut Context<'_>,
        tenant: &Tenant,
        path: &Path,
    ) -> Result<ExitCode, Failure> {
        let at = |problem: String| Failure::Log(format!("{}: {problem}", path.display()));
        let origin = self.origin.unwrap_or_else(|| Name::of_tenant(tenant));
        let key = private_key(self.key.as_deref(), &origin)?;
        // It is this process's before the journal is read: so no head of the log is newer than what is read.
        let (mut file, lines) = LogFile::open(path).map_err(|error| at(error.to_string()))?;
        let mut log = Log::parse(&lines).map_err(at)?;
        of_tenant(Some(tenant), log.streams().cloned())?;
        let known: Vec<StreamId> = log.streams().cloned().collect();
        let present = Present::read(context, tenant, &known).await?;
        let due = due(&log, &present)?;
        if log.size() == 0 {
            present.is_any(tenant)?;
        }
        let mut more = String::new();
        let appended = due.len();
        for published in due {
            more.push_str(&format!("{published}\n"));
            log.push(published).map_err(at)?;
        }
        if file.is_torn() {
            let text = "its last line was not written to its end, and is removed";
            let _ = writeln!(io::stderr(), "tape: {}: {text}", path.display());
        }
        file.append(&more).map_err(|error| at(error.to_string()))?;
        let checkpoint = Checkpoint {
            origin: origin.to_string(),
            size: log.size() as u64,
            root: merkle::root(log.leaves()),
        };
        say(context, &checkpoint, key.as_ref(), appended)?;
        Ok(present.code())
    }
}

/// Prints a checkpoint, signed where there is a key.
fn say(
    context: &mut Context<'_>,
    checkpoint: &Checkpoint,
    key: Option<&PrivateKey>,
    appended: usize,
) -> Result<(), Failure> {
    let text = checkpoint.to_string();
    let text = key.map_or_else(|| text.clone(), |key| note::sign(&text, key));
    if context.print.json {
        let Checkpoint { origin, size, root } = checkpoint;
        return context.value(&json!({
            "origin": origin, "size": size, "root": base64(root), "appended": appended, "signed": key.is_some(), "checkpoint": text,
        }));
    }
    for line in text.lines() {
        exactly(context.print.out, line)?;
    }
    Ok(())
}

/// Writes a line as it is, since programs read it, but to a terminal without what would steer it.
fn exactly(out: &mut dyn Write, line: &str) -> io::Result<()> {
    if io::stdout().is_terminal() {
        writeln!(out, "{}", plain(line))
    } else {
        writeln!(out, "{line}")
    }
}

/// The key that signs for a log, if there is one.
fn private_key(file: Option<&Path>, origin: &Name) -> Result<Option<PrivateKey>, Failure> {
    let invalid = |problem: String| Failure::Misused(Error::Invalid { what: "key", problem });
    let (source, text) = match file {
        Some(path) => {
            let source = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| invalid(format!("{source}: {error}")))?;
            (source, text)
        }
        None => match std::env::var_os(KEY).filter(|text| !text.is_empty()) {
            Some(text) => (KEY.to_owned(), text.into_string().unwrap_or_default()),
            None => return Ok(None),
        },
    };
    let key: PrivateKey = text
        .trim_end()
        .parse()
        .map_err(|error| invalid(format!("{source}: {error}")))?;
    let name = key.verifier().name();
    if name != origin {
        let problem = format!(
            "{source}: the key is of the log {name}, and this log is {origin}: --origin says another name"
        );
        return Err(invalid(problem));
    }
    Ok(Some(key))
}

/// The lines that a log lacks, in the order of names.
///
/// # Errors
/// Where a stream went back behind a line.
fn due(log: &Log, present: &Present) -> Result<Vec<Published>, Failure> {
    let (mut due, mut back) = (Vec::new(), 0);
    for (stream, head) in &present.heads {
        match log.is_due(stream, *head) {
            Ok(true) => due.extend(head.map(|head| Published {
                stream: stream.clone(),
                head,
            })),
            Ok(false) => {}
            Err(how) => {
                back += 1;
                let _ = writeln!(io::stderr(), "BROKEN  {}  {how}", plain(&stream.to_string()));
            }
        }
    }
    if back == 0 {
        return Ok(due);
    }
    let streams = crate::text::counted(back, "stream", "streams");
    Err(Failure::Log(format!(
        "the journal was cut or replaced behind what the log has of {streams}: nothing was appended"
    )))
}

/// Where the streams of a tenant end.
struct Present {
    /// In the order of names.
    heads: Vec<(StreamId, Option<Head>)>,
    damaged: u64,
}

impl Present {
    /// Reads the ends of the tenant's streams, and of those that are known.
    async fn read(context: &Context<'_>, tenant: &Tenant, known: &[StreamId]) -> Result<Self, Failure> {
        let of = |stream: StreamId| (stream.to_string(), stream);
        let mut names: BTreeMap<String, StreamId> = known.iter().cloned().map(of).collect();
        let mut page = None;
        loop {
            let found = context.tape.streams(page).await?;
            let streams = found.streams.into_iter();
            names.extend(streams.filter(|stream| stream.tenant() == tenant).map(of));
            page = found.next;
            if page.is_none() {
                break;
            }
        }
        let (mut heads, mut damaged) = (Vec::with_capacity(names.len()), 0);
        let ends = names.into_values().map(|stream| async {
            let end = context.tape.stream_end(&stream).await;
            (stream, end)
        });
        let mut ends = futures::stream::iter(ends).buffered(AT_A_TIME);
        while let Some((stream, end)) = ends.next().await {
            match end {
                Ok(end) => heads.push((stream, end.map(|end| (end.seq, end.digest)))),
                Err(error) => {
                    let broken = damage(error)?;
                    damaged += 1;
                    let (name, broken) = (stream.to_string(), plain(&broken));
                    let _ = writeln!(io::stderr(), "BROKEN  {}  {broken}", plain(&name));
                }
            }
        }
        Ok(Self { heads, damaged })
    }

    /// # Errors
    /// Where the tenant has no streams, as that of a name that was mistyped.
    fn is_any(&self, tenant: &Tenant) -> Result<(), Failure> {
        if self.damaged > 0 || self.heads.iter().any(|(_, head)| head.is_some()) {
            return Ok(());
        }
        Err(Failure::Log(format!(
            "tenant '{tenant}' has no streams: there is nothing to publish"
        )))
    }

    fn code(&self) -> ExitCode {
        if self.damaged > 0 {
            ExitCode::from(DAMAGED)
        } else {
            ExitCode::SUCCESS
        }
    }
}
