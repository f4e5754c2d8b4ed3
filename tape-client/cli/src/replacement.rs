//! A file that takes the place of another once it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What is written for a path. Until it is complete, the path has what it had before.
#[derive(Debug)]
pub(crate) enum Replacement {
    /// A file beside the path, which only its owner may read unless the file at the path has other permissions.
    File { beside: NamedTempFile, path: PathBuf },
    /// A pipe or device at the path: it is written to, and stays.
    Device(File),
}

impl Replacement {
    /// Begins a file for the path. Where the path is a link, the file that it leads to is replaced.
    ///
    /// # Errors
    /// Where the path, or a file in its directory, cannot be written.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let before = match fs::canonicalize(path) {
            Ok(found) => Some((fs::metadata(&found)?, found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if before.as_ref().is_some_and(|(before, _)| !before.is_file()) {
            return Ok(Self::Device(OpenOptions::new().write(true).open(path)?));
        }
        let target = before.as_ref().map_or(path, |(_, found)| found);
        let beside = tempfile::Builder::new()
            .prefix(".tape-")
            .tempfile_in(directory(target))?;
        let path = target.to_owned();
        if let Some((before, _)) = before {
            beside.as_file().set_permissions(before.permissions())?;
        }
        Ok(Self::File { beside, path })
    }

    /// Puts the file in its place. A machine that fails from now on has the whole file.
    ///
    /// # Errors
    /// Where it cannot be made durable or put there. The path then has what it had before, or all of the file.
    pub(crate) fn complete(self) -> io::Result<()> {
        match self {
            Self::File { beside, path } => {
                beside.as_file().sync_all()?;
                beside.persist(&path)?;
                File::open(directory(&path))?.sync_all()
            }
            Self::Device(mut device) => device.flush(),
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { beside, .. } => beside.write(bytes),
            Self::Device(device) => device.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File { beside, .. } => beside.flush(),
            Self::Device(device) => device.flush(),
        }
    }
}

/// The directory of a file.
pub(crate) fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::Replacement;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    fn write(path: &Path, text: &str) -> Replacement {
        let mut file = Replacement::of(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_takes_its_place_once_it_is_complete_and_leaves_nothing_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export");
        drop(write(&path, "half"));
        assert!(!path.exists());
        write(&path, "whole").complete().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(mode(&path), 0o600);
        drop(write(&path, "half"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_keeps_its_permissions_and_the_links_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("export"), directory.path().join("link"));
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        write(&link, "after").complete().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        let null = Path::new("/dev/null");
        write(null, "gone").complete().unwrap();
        assert!(!fs::metadata(null).unwrap().is_file());
    }
}
