//! Whether a path still leads to the open file. A process that has a file open continues to write to it after the file was removed or
//! replaced by another. All that is written then is lost when the last process closes it.

use crate::error::StoreError;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Names a file among all files of the machine, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    #[cfg(unix)]
    fn at(path: &Path) -> Result<Option<Self>, Error> {
        use std::os::unix::fs::MetadataExt as _;
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(Self {
                device: found.dev(),
                inode: found.ino(),
            })),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Elsewhere a file that is open can neither be removed nor replaced.
    #[cfg(not(unix))]
    fn at(_: &Path) -> Result<Option<Self>, Error> {
        Ok(None)
    }
}

/// A path, and the file that it led to.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// None where it led to no file, such as before SQLite makes its log.
    file: Option<FileId>,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Lost {
    /// The path leads to no file, or to another.
    Moved(String),
    /// The system could not say.
    Unknown(Error),
}

impl Place {
    /// The path with the file that it leads to now.
    pub(super) fn of(path: PathBuf) -> Self {
        let file = FileId::at(&path).ok().flatten();
        Self { path, file }
    }

    /// Whether the path still leads to the file. Costs one `stat` of the file.
    pub(super) fn check(&self) -> Result<(), Lost> {
        let Some(file) = self.file else { return Ok(()) };
        let became = match FileId::at(&self.path).map_err(Lost::Unknown)? {
            Some(now) if now == file => return Ok(()),
            Some(_) => "was replaced by another file",
            None => "was removed",
        };
        Err(Lost::Moved(format!(
            "{} {became} while it was in use: put the file back that was there, or restore a backup, and start again",
            self.path.display()
        )))
    }

    /// The same once it is certain that there is a file. Where the path led to none before, the file there now is recorded.
    pub(super) fn settle(&mut self) -> Result<(), Lost> {
        if self.file.is_none() {
            self.file = FileId::at(&self.path).map_err(Lost::Unknown)?;
        }
        self.check()
    }
}

impl Lost {
    /// The error for a call that did something.
    pub(super) fn error(self, doing: &'static str) -> StoreError {
        match self {
            Self::Moved(problem) => StoreError::Poisoned {
                doing,
                source: std::sync::Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(problem)),
            },
            Self::Unknown(error) => StoreError::unavailable(doing, error),
        }
    }
}
