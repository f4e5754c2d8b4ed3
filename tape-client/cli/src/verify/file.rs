//! `tape verify --file`: verifies what `tape export` wrote, without a journal.

use super::{Count, Verify, head_of_none, number_of};
use crate::name::of_tenant;
use crate::{Failure, Printer};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::ExitCode;
use tape_cli::exported::{self, Exported, Heads};
use tape_client::Error;
use tape_client::core::id::StreamId;

impl Verify {
    /// Verifies the file.
    pub(crate) fn run_on_file(mut self, print: &mut Printer<'_>) -> Result<ExitCode, Failure> {
        let path = self.file.clone().unwrap_or_else(|| "-".into());
        let path = path.as_path();
        let named = self.named();
        // A log names a tenant too, but only one that was asked for narrows the file.
        let tenant = self.tenant.clone();
        of_tenant(tenant.as_ref(), named.clone())?;
        let mut heads = self.published()?;
        of_tenant(tenant.as_ref(), heads.keys().cloned())?;
        match (&named, self.head) {
            // A stream that is named must be in the file, as one of which a head was published.
            (Some(stream), head) => heads.entry(stream.clone()).or_default().extend(head),
            (None, Some(_)) => return Err(head_of_none()),
            (None, None) => {}
        }
        let found = read(path, &heads).map_err(|error| unreadable(path, &error))?;
        of_tenant(
            tenant.as_ref(),
            found.streams.keys().filter_map(|name| name.parse().ok()),
        )?;
        let mut count = Count {
            heads: number_of(&heads),
            ..Count::default()
        };
        count.file(print, &path.display().to_string(), found)?;
        count.end(print)
    }
}

fn read(path: &Path, heads: &Heads) -> io::Result<Exported> {
    if path == Path::new("-") {
        return exported::verify(&mut io::stdin().lock(), heads);
    }
    exported::verify(&mut BufReader::new(File::open(path)?), heads)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Misused(Error::Invalid {
        what: "file",
        problem: format!("{}: {error}", path.display()),
    })
}

impl Count {
    /// Counts and prints what was found in a file.
    fn file(&mut self, print: &mut Printer<'_>, path: &str, found: Exported) -> Result<(), Failure> {
        for (name, found) in found.streams {
            match (name.parse::<StreamId>(), found) {
                (Ok(stream), found) => self.add(print, &stream, found.map_err(Into::into))?,
                (Err(_), Err(broken)) => self.broken(print, ("stream", &name), "", &broken)?,
                (Err(error), Ok(_)) => self.broken(print, ("stream", &name), "", &error.to_string())?,
            }
        }
        for broken in found.broken {
            self.broken(print, ("file", path), "", &broken)?;
        }
        for unread in found.unread {
            self.unread(print, path, &unread)?;
        }
        Ok(())
    }
}
