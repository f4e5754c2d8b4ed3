//! `tape heads keygen`.

use crate::Failure;
use crate::checkpoint::key::{Name, NewKey, generate};
use crate::replacement::directory;
use clap::Args;
use ring::rand::SystemRandom;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes a key that signs checkpoints of a log.
///
/// The private key goes to standard output and the public one to standard error. With --out they go to files; one that is there is not
/// replaced.
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The name of the log: that of its checkpoints, such as tape/acme.
    #[arg(long, value_name = "NAME")]
    origin: Name,
    /// Writes the private key to a file that only its owner may read, and the public key to FILE.pub.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Keygen {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<ExitCode, Failure> {
        let key = generate(self.origin, &SystemRandom::new());
        let NewKey { private, verifier } =
            key.ok_or_else(|| io::Error::other("the system has no randomness"))?;
        let Some(path) = self.out else {
            writeln!(out, "{private}")?;
            writeln!(io::stderr(), "{verifier}")?;
            return Ok(ExitCode::SUCCESS);
        };
        let mut public = path.clone().into_os_string();
        public.push(".pub");
        let public = Path::new(&public);
        // Where either is there, neither is written: a pair stays a pair.
        if public.try_exists()? {
            return Err(Failure::Log(format!("{}: it is there already", public.display())));
        }
        create(&path, 0o600, &private)?;
        create(public, 0o644, &verifier.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a file of one line that was not there, and makes it durable.
fn create(path: &Path, mode: u32, line: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        writeln!(file, "{line}")?;
        file.sync_all()?;
        File::open(directory(path))?.sync_all()
    };
    write().map_err(|error| Failure::Log(format!("{}: {error}", path.display())))
}
