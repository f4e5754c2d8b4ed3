//! Heads that a checkpoint vouches for.

use super::{Heads, Verify, heads};
use crate::Failure;
use crate::checkpoint::key::VerifierKey;
use crate::checkpoint::log::{self, Log};
use crate::checkpoint::note::{self, NOTE_BYTES_MAX};
use crate::checkpoint::{Checkpoint, base64};
use crate::name::of_tenant;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use tape_client::Error;

impl Verify {
    /// The heads that were published. Of a log with a checkpoint, these are those of the lines that it covers; where no more is named, the
    /// log's tenant is verified.
    pub(super) fn published(&mut self) -> Result<Heads, Failure> {
        let Some(path) = &self.heads else {
            return Ok(Heads::new());
        };
        let (Some(note), Some(key)) = (&self.checkpoint, &self.key) else {
            return heads::read(path).map_err(Failure::Misused);
        };
        let key = verifier_key(key)?;
        let checkpoint = checkpoint(note, &key)?;
        let log = covered(path, &checkpoint)?;
        let tenant = log.tenant().cloned().ok_or_else(|| {
            let text = format!("{}: the checkpoint covers no line of a log", note.display());
            Failure::Log(text)
        })?;
        let named = self.run.iter().map(|run| run.0.clone().into());
        let named: Vec<_> = named.chain(self.stream.clone()).collect();
        of_tenant(self.tenant.as_ref(), log.streams().cloned())?;
        of_tenant(Some(&tenant), named.iter().cloned())?;
        if let Some(unknown) = named.iter().find(|stream| log.newest(stream).is_none()) {
            let text = format!("{}: the checkpoint covers no head of {unknown}", path.display());
            return Err(Failure::Log(text));
        }
        if named.is_empty() && !self.all {
            self.tenant = Some(tenant);
        }
        Ok(log.into_heads())
    }
}

/// Reads a public key: the text itself, or the file that has it.
fn verifier_key(given: &str) -> Result<VerifierKey, Failure> {
    let invalid = |problem: String| Failure::Misused(Error::Invalid { what: "key", problem });
    if let Ok(key) = given.parse() {
        return Ok(key);
    }
    let text = read(Path::new(given)).map_err(|error| {
        invalid(format!(
            "{given}: neither a public key nor a file that has one: {error}"
        ))
    })?;
    let key = text.trim_end().parse::<VerifierKey>();
    key.map_err(|error| invalid(format!("{given}: {error}")))
}

/// Reads a checkpoint that the key signed, of the log of the key's name.
fn checkpoint(path: &Path, key: &VerifierKey) -> Result<Checkpoint, Failure> {
    let wrong = |problem: String| Failure::Log(format!("{}: {problem}", path.display()));
    let note = read(path).map_err(|error| {
        Failure::Misused(Error::Invalid {
            what: "checkpoint",
            problem: format!("{}: {error}", path.display()),
        })
    })?;
    let text = note::open(&note, key).map_err(|error| wrong(error.to_string()))?;
    let checkpoint: Checkpoint = text
        .parse()
        .map_err(|error: crate::checkpoint::Malformed| wrong(error.to_string()))?;
    // A key of one log proves nothing about another.
    if checkpoint.origin != key.name().as_str() {
        let (origin, name) = (&checkpoint.origin, key.name());
        return Err(wrong(format!("it is of the log {origin}, the key is of {name}")));
    }
    Ok(checkpoint)
}

/// A file of a few lines. What is longer than a note is cut, and then is none.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let most = NOTE_BYTES_MAX as u64 + 1;
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

/// The lines of a log that a checkpoint covers, where they have its root.
fn covered(path: &Path, checkpoint: &Checkpoint) -> Result<Log, Failure> {
    let wrong = |problem: String| Failure::Log(format!("{}: {problem}", path.display()));
    let bytes = fs::read(path).map_err(|error| {
        Failure::Misused(Error::Invalid {
            what: "heads",
            problem: format!("{}: {error}", path.display()),
        })
    })?;
    let size = checkpoint.size;
    let lines = usize::try_from(size)
        .ok()
        .and_then(|size| log::first(&bytes, size));
    let lines = lines.ok_or_else(|| {
        wrong(format!(
            "it has fewer than the {size} lines that the checkpoint covers"
        ))
    })?;
    let root = log::root(lines);
    if root != checkpoint.root {
        let (root, expected) = (base64(&root), base64(&checkpoint.root));
        return Err(wrong(format!(
            "its first {size} lines have root {root}, the checkpoint has {expected}: they were changed, or are of another log"
        )));
    }
    Log::parse(lines).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::checkpoint;
    use crate::checkpoint::key::{NewKey, PrivateKey, generate};
    use crate::checkpoint::{Checkpoint, note};
    use ring::rand::SystemRandom;
    use std::fs;
    use tape_client::core::payload::Digest;

    #[test]
    fn a_key_vouches_only_for_the_log_of_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint");
        let NewKey { private, verifier } =
            generate("tape/acme".parse().unwrap(), &SystemRandom::new()).unwrap();
        let key: PrivateKey = private.parse().unwrap();
        for (origin, told) in [
            ("tape/acme", None),
            (
                "tape/acme2",
                Some("it is of the log tape/acme2, the key is of tape/acme"),
            ),
        ] {
            let signed = Checkpoint {
                origin: origin.to_owned(),
                size: 1,
                root: Digest::of(b"root"),
            };
            fs::write(&path, note::sign(&signed.to_string(), &key)).unwrap();
            match (checkpoint(&path, &verifier), told) {
                (Ok(read), None) => assert_eq!(read, signed),
                (Err(error), Some(told)) => assert!(error.to_string().ends_with(told), "{error}"),
                (read, _) => panic!("{origin}: {read:?}"),
            }
        }
    }
}
