//! The file of a log: one process appends to it at a time, and what was appended is durable.

use crate::replacement::directory;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A log that no other process appends to meanwhile.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
    /// The length of its whole lines.
    whole: u64,
    /// Whether bytes of a line that was not written to its end follow.
    torn: bool,
}

impl LogFile {
    /// Opens the file, or makes it, and returns its whole lines.
    ///
    /// # Errors
    /// Where it is no file, cannot be read and written, or another process has it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::other("another process appends to it now"),
        })?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = crate::checkpoint::log::whole(&bytes).0.len();
        let torn = whole < bytes.len();
        bytes.truncate(whole);
        let file = Self {
            file,
            path: path.to_owned(),
            whole: whole as u64,
            torn,
        };
        Ok((file, bytes))
    }

    /// Whether the last line was not written to its end. No checkpoint covers it: one is printed only after its lines are durable.
    pub(super) const fn is_torn(&self) -> bool {
        self.torn
    }

    /// Appends whole lines after those that are there, in the place of a torn one. Once this returns, they survive a failure of the machine,
    /// and so do those before.
    ///
    /// # Errors
    /// Where they cannot be written. The lines before stay; of these, some may be there.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole)?;
        }
        self.file.write_all(lines.as_bytes())?;
        // Also where nothing is appended: lines of a process that ended before this may not be durable yet.
        self.file.sync_all()?;
        File::open(directory(&self.path))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::LogFile;
    use std::fs;

    #[test]
    fn lines_are_appended_and_a_torn_one_gives_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut file, lines) = LogFile::open(&path).unwrap();
        assert_eq!((lines, file.is_torn()), (Vec::new(), false));
        file.append("a\nb\n").unwrap();
        drop(file);
        fs::write(&path, "a\nb\nc tor").unwrap();
        let (mut file, lines) = LogFile::open(&path).unwrap();
        assert_eq!((&lines[..], file.is_torn()), (&b"a\nb\n"[..], true));
        file.append("c\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\nc\n");
    }

    #[test]
    fn one_process_at_a_time_has_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (first, _) = LogFile::open(&path).unwrap();
        let error = LogFile::open(&path).unwrap_err().to_string();
        assert_eq!(error, "another process appends to it now");
        drop(first);
        LogFile::open(&path).unwrap();
        LogFile::open(directory.path()).unwrap_err();
    }
}
