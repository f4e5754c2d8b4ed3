//! Where lines are written, and when a new file is begun.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The size from which on a file is closed, unless told otherwise, in bytes.
pub const DEFAULT_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The lowest such size, in bytes.
pub const FILE_BYTES_MAX_LOWEST: u64 = 4 * 1024;
/// The age from which on a file is closed, unless told otherwise.
pub const DEFAULT_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where lines are written, and when a new file is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLinesSettings {
    path: PathBuf,
    bytes_max: u64,
    age_max: Duration,
}

/// Why lines cannot be written so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJsonLines {
    /// The path names no file.
    #[error("'{path}' names no file: it must end with a name in UTF-8")]
    Path {
        /// The path.
        path: String,
    },
    /// The size is too low.
    #[error("a file must be allowed {FILE_BYTES_MAX_LOWEST} bytes at least, not {bytes}")]
    Bytes {
        /// The size.
        bytes: u64,
    },
    /// The age is zero.
    #[error("a file must be allowed some age")]
    Age,
}

impl JsonLinesSettings {
    /// Lines in the file at `path`, whose directory must be there. A new file is begun before lines that would make it larger than
    /// `bytes_max`, unless it is empty, and with the first delivery after it is `age_max` old.
    ///
    /// # Errors
    /// [`InvalidJsonLines`] says what is wrong. The file system is not looked at.
    pub fn new(
        path: impl Into<PathBuf>,
        bytes_max: u64,
        age_max: Duration,
    ) -> Result<Self, InvalidJsonLines> {
        let path = path.into();
        if path.file_name().and_then(|name| name.to_str()).is_none() {
            let path = path.display().to_string();
            return Err(InvalidJsonLines::Path { path });
        }
        if bytes_max < FILE_BYTES_MAX_LOWEST {
            return Err(InvalidJsonLines::Bytes { bytes: bytes_max });
        }
        if age_max.is_zero() {
            return Err(InvalidJsonLines::Age);
        }
        Ok(Self {
            path,
            bytes_max,
            age_max,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) const fn age_max(&self) -> Duration {
        self.age_max
    }

    /// The directory of the file.
    pub(super) fn directory(&self) -> &Path {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or_else(|| Path::new("."))
    }

    /// A name beside that of the file.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        PathBuf::from(name)
    }
}
