//! A configuration file of a router: read whole, and replaced at once with its mode and owner kept.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};

/// How often a replacement is tried while others change the same file.
const ATTEMPTS: usize = 5;

/// A file as it was read.
pub struct ReplaceableFile {
    /// Symbolic links resolved: the file that a rename replaces.
    path: PathBuf,
    text: Vec<u8>,
    metadata: fs::Metadata,
}

impl ReplaceableFile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<ReplaceableFile> {
        let failed = || Error::io(format!("read {}", path.display()));
        let real = fs::canonicalize(path).map_err(failed())?;
        let metadata = fs::metadata(&real).map_err(failed())?;
        let text = fs::read(&real).map_err(failed())?;
        Ok(ReplaceableFile { path: real, text, metadata })
    }

    /// Where it is, symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Puts `text` in the file's place at once: readers see the old file or the new one. Mode and owner stay.
    /// An `Error::Router` when somebody else changed the file since it was read.
    pub fn replace(&self, text: &[u8]) -> Result<()> {
        let action = || Error::io(format!("write {}", self.path.display()));
        let now = fs::metadata(&self.path).map_err(action())?;
        if (now.ino(), now.mtime(), now.mtime_nsec(), now.size())
            != (self.metadata.ino(), self.metadata.mtime(), self.metadata.mtime_nsec(), self.metadata.size())
        {
            return Err(Error::Router {
                action: format!("write {}", self.path.display()),
                message: "somebody else changed it at the same time".into(),
                hint: "Run the same command again.".into(),
            });
        }
        let mut file = self.temporary().map_err(action())?;
        file.write_all(text).map_err(action())?;
        file.as_file().sync_all().map_err(action())?;
        file.persist(&self.path).map_err(|error| action()(error.error))?;
        File::open(self.directory()).and_then(|directory| directory.sync_all()).map_err(action())
    }

    /// Whether [`Self::replace`] would succeed: tries all of it but the rename.
    pub fn try_replace(&self) -> io::Result<()> {
        self.temporary().map(drop)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// An empty file beside it, with its mode and owner; gone when dropped.
    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new().prefix(".pgdetour-").tempfile_in(self.directory())?;
        let created = file.as_file().metadata()?;
        let owner = (created.uid() != self.metadata.uid()).then_some(self.metadata.uid());
        let group = (created.gid() != self.metadata.gid()).then_some(self.metadata.gid());
        if owner.is_some() || group.is_some() {
            fchown(file.as_file(), owner, group)?;
        }
        file.as_file().set_permissions(fs::Permissions::from_mode(self.metadata.mode() & 0o7777))?;
        Ok(file)
    }
}

/// Does `work`, which reads a file and replaces it, again when a router's file refuses: processes that share one
/// file may change different entries of it at the same time.
pub fn repeat_if_changed<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match work() {
            Err(Error::Router { .. }) => thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    work()
}
