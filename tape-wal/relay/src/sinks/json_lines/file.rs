//! The file under a sink of JSON lines.

use super::JsonLinesSettings;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};
use tape_environment::Environment;

/// How much of the end of a file is searched for where its last whole line ends, in bytes: more than one delivery writes.
const TAIL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Digits of the number of a file that is closed.
const NUMBER_DIGITS: usize = 10;

/// The open file, which ends with a whole line.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    len: u64,
    /// When the file was created, since the Unix epoch. Where the file system does not say, it is when the file was first appended to here.
    created: Option<Duration>,
    /// The number of the last file that was closed.
    last: u64,
    /// Locked as long as this is there.
    _lock: File,
    sync: fn(&File) -> io::Result<()>,
}

impl Lines {
    /// Opens the file, or creates it, and cuts off what a crash left of a line at its end.
    pub(super) fn open(settings: &JsonLinesSettings) -> io::Result<Self> {
        Self::open_with(settings, File::sync_all)
    }

    fn open_with(settings: &JsonLinesSettings, sync: fn(&File) -> io::Result<()>) -> io::Result<Self> {
        let lock = lock(settings)?;
        let (file, len, created) = open_end(settings, sync)?;
        let last = last_number(settings)?;
        Ok(Self {
            file,
            len,
            created,
            last,
            _lock: lock,
            sync,
        })
    }

    /// Appends lines and makes them durable. After an error the end of the file is not known, and it must be opened anew.
    pub(super) fn append(
        &mut self,
        text: &[u8],
        settings: &JsonLinesSettings,
        environment: &dyn Environment,
    ) -> io::Result<()> {
        if self.len > 0 && (self.is_full(text.len(), settings) || self.is_old(settings, environment)) {
            self.rotate(settings)?;
        }
        if let Err(error) = self.file.write_all(text).and_then(|()| (self.sync)(&self.file)) {
            // What is there of the lines is not confirmed. Without them, a full disk has a little room.
            drop(self.file.set_len(self.len));
            return Err(error);
        }
        self.len += text.len() as u64;
        Ok(())
    }

    const fn is_full(&self, more: usize, settings: &JsonLinesSettings) -> bool {
        self.len.saturating_add(more as u64) > settings.bytes_max()
    }

    fn is_old(&mut self, settings: &JsonLinesSettings, environment: &dyn Environment) -> bool {
        let micros = u64::try_from(environment.wall().as_micros()).unwrap_or(0);
        let now = Duration::from_micros(micros);
        let created = *self.created.get_or_insert(now);
        now.saturating_sub(created) >= settings.age_max()
    }

    /// Gives the file its number and begins a new one. A crash in between leaves no file without a number, and the next opening creates it.
    fn rotate(&mut self, settings: &JsonLinesSettings) -> io::Result<()> {
        let number = self.last + 1;
        let closed = settings.beside(&format!("{number:0NUMBER_DIGITS$}"));
        // A rename would replace a file that another program put there since this one was opened.
        if fs::exists(&closed)? {
            let problem = format!("{} is there already", closed.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        fs::rename(settings.path(), &closed)?;
        self.last = number;
        (self.file, self.len, self.created) = open_end(settings, self.sync)?;
        Ok(())
    }
}

/// The file, positioned at its end, after a whole line; its length and when it was created.
fn open_end(
    settings: &JsonLinesSettings,
    sync: fn(&File) -> io::Result<()>,
) -> io::Result<(File, u64, Option<Duration>)> {
    let mut file = private().read(true).open(settings.path())?;
    let data = file.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other(format!(
            "{} is no regular file",
            settings.path().display()
        )));
    }
    let len = whole_lines(&mut file, data.len(), settings.path())?;
    if len < data.len() {
        tracing::warn!(
            path = %settings.path().display(),
            bytes = data.len() - len,
            "removed what a crash left of lines that were not confirmed"
        );
        file.set_len(len)?;
    }
    file.seek(SeekFrom::Start(len))?;
    sync(&file)?;
    // Its name must be as durable as its lines.
    sync(&File::open(settings.directory())?)?;
    let created = data
        .created()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((file, len, created))
}

/// The length of a file without what a crash left at its end: a line without its line feed, or lines with zeros, which a file system may
/// leave where data was not written before power was lost. Lines that were confirmed are whole and have no zeros.
fn whole_lines(file: &mut File, len: u64, path: &Path) -> io::Result<u64> {
    let from = len.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail)?;
    let mut end = tail.len();
    while end > 0 {
        let begin = tail[..end - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let line = &tail[begin..end];
        if line.ends_with(b"\n") && !line.contains(&0) {
            break;
        }
        end = begin;
    }
    if end == 0 && from > 0 {
        let problem = format!(
            "{} has no line within its last {TAIL_BYTES_MAX} bytes",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(from + end as u64)
}

/// Keeps other processes from the file as long as the lock is there.
fn lock(settings: &JsonLinesSettings) -> io::Result<File> {
    let path = settings.beside("lock");
    let lock = private().open(&path)?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{} is locked by another writer", path.display()),
        ),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(lock)
}

/// The highest number of a file that was closed; zero where there is none.
fn last_number(settings: &JsonLinesSettings) -> io::Result<u64> {
    let beside = settings.beside("");
    let prefix = beside
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut last = 0;
    for entry in fs::read_dir(settings.directory())? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        last = last.max(number.and_then(|number| number.parse().ok()).unwrap_or(0));
    }
    Ok(last)
}

/// Opens for writing, and creates with access for the owner alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tape_environment::machine;

    thread_local! {
        /// What the file had at each `sync`, and whether the next one fails.
        static SYNCED: RefCell<(Vec<u64>, bool)> = const { RefCell::new((Vec::new(), false)) };
    }

    fn sync(file: &File) -> io::Result<()> {
        let data = file.metadata()?;
        SYNCED.with_borrow_mut(|(synced, fails)| {
            if data.is_file() {
                synced.push(data.len());
            }
            if *fails {
                Err(io::Error::other("the disk is broken"))
            } else {
                Ok(())
            }
        })
    }

    fn synced() -> Vec<u64> {
        SYNCED.with_borrow(|(synced, _)| synced.clone())
    }

    fn set_fails(fails: bool) {
        SYNCED.with_borrow_mut(|(_, next)| *next = fails);
    }

    #[test]
    fn lines_are_on_the_disk_before_they_are_confirmed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let settings = JsonLinesSettings::new(&path, 4_096, Duration::from_secs(3_600)).unwrap();
        let environment = machine();
        let mut lines = Lines::open_with(&settings, sync).unwrap();
        lines.append(b"{\"a\":1}\n", &settings, &*environment).unwrap();
        assert_eq!(synced(), [0, 8]);
        lines.append(b"{\"b\":22}\n", &settings, &*environment).unwrap();
        assert_eq!(synced(), [0, 8, 17]);
        // The new file and its name, before anything is in it.
        let large = [b"\"", &[b'x'; 4_090][..], b"\"\n"].concat();
        lines.append(&large, &settings, &*environment).unwrap();
        assert_eq!(synced(), [0, 8, 17, 0, 4_093]);
    }

    #[test]
    fn lines_that_do_not_reach_the_disk_are_not_confirmed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let settings = JsonLinesSettings::new(&path, 4_096, Duration::from_secs(3_600)).unwrap();
        let environment = machine();
        let mut lines = Lines::open_with(&settings, sync).unwrap();
        lines.append(b"1\n", &settings, &*environment).unwrap();
        set_fails(true);
        assert!(lines.append(b"2\n", &settings, &*environment).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"1\n");
        drop(lines);
        assert!(
            Lines::open_with(&settings, sync).is_err(),
            "nothing is opened that is not on the disk"
        );
        set_fails(false);
        let mut lines = Lines::open_with(&settings, sync).unwrap();
        lines.append(b"2\n", &settings, &*environment).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\n");
    }
}
