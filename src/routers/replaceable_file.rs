//! A configuration file of a router: read whole, and replaced at once with its mode and owner kept; by ourselves, or on
//! another host by a command of the operator's.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};

use crate::error::{Checked, Error, Result};
use crate::routers::program;

/// Held from the look at a file to its replacement.
static REPLACING: Mutex<()> = Mutex::new(());
/// How often a replacement is tried while others change the same file.
const ATTEMPTS: usize = 5;
/// Why a replacement is tried again.
const CHANGED: &str = "somebody else changed it at the same time";
/// How long one call of the operator's command may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The largest file that a command may bring.
const LARGEST: usize = 16 * 1024 * 1024;

/// A file as it was read.
pub struct ReplaceableFile {
    /// Symbolic links resolved, as far as it is here: the file that a rename replaces.
    path: PathBuf,
    text: Vec<u8>,
    place: Place,
}

/// Where a file is.
enum Place {
    /// On this host.
    Here(fs::Metadata),
    /// Where this command reads and replaces it.
    Behind(Vec<String>),
}

/// What keeps a file from being replaced although another can be made beside it, and what mends it.
struct Obstacle {
    message: String,
    hint: String,
}

impl ReplaceableFile {
    /// Reads the file; with a command, through it.
    pub fn read(path: &Path, command: Option<&[String]>) -> Result<ReplaceableFile> {
        if let Some(command) = command {
            let text = call(command, "read", path, &[])?;
            return Ok(ReplaceableFile {
                path: path.to_owned(),
                text,
                place: Place::Behind(command.to_vec()),
            });
        }
        let failed = || Error::io(format!("read {}", path.display()));
        let real = fs::canonicalize(path).map_err(failed())?;
        let metadata = fs::metadata(&real).map_err(failed())?;
        let text = fs::read(&real).map_err(failed())?;
        Ok(ReplaceableFile { path: real, text, place: Place::Here(metadata) })
    }

    /// Reads the file of `program` and finds out whether it could be replaced; what stands in the way is a finding.
    pub fn check(
        path: &Path,
        command: Option<&[String]>,
        program: &str,
        checked: &mut Checked,
    ) -> Option<ReplaceableFile> {
        let object = path.display().to_string();
        let file = match ReplaceableFile::read(path, command) {
            Ok(file) => file,
            Err(error) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                let hint = error.hint().unwrap_or_else(|| {
                    format!(
                        "Run pgdetour on {program}'s host as a user who may read and replace this file, or name a \
                         file_command that does it from here."
                    )
                });
                checked.fail("router_file", &object, format!("{error}{why}"), hint);
                return None;
            }
        };
        if let Some(Obstacle { message, hint }) = file.obstacle() {
            checked.fail("router_file", &object, format!("it cannot be replaced: {message}"), hint);
        } else if let Err(error) = file.try_replace(&file.text) {
            let why = match error {
                Error::Router { message, .. } => message,
                other => other.with_cause(),
            };
            checked.fail(
                "router_file",
                &object,
                format!("it cannot be replaced with its owner and mode kept: {why}"),
                "Run as the file's owner or as root, with the right to create files in its folder, and room for them there.",
            );
        }
        Some(file)
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
    /// What was made `ready` with the same text saves the time to write it. The new name is on the disk for sure once
    /// [`sync_folder`] has been called. An `Error::Router` when somebody else changed the file since it was read.
    pub fn replace(&self, text: &[u8], ready: Option<Ready>) -> Result<()> {
        let action = || Error::io(format!("write {}", self.path.display()));
        let metadata = match &self.place {
            Place::Here(metadata) => metadata,
            Place::Behind(command) => return self.replace_behind(command, text),
        };
        // Routers that share a file are pointed at the same time: none may miss what another has written.
        let _alone = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&self.path).map_err(action())?;
        if (now.ino(), now.mtime(), now.mtime_nsec(), now.size())
            != (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size())
        {
            return Err(self.changed());
        }
        let ready = ready.filter(|ready| ready.path == self.path && ready.text == text);
        if let Some(ready) = ready
            && ready.put().is_ok()
        {
            return Ok(());
        }
        let mut file = self.temporary(metadata).map_err(action())?;
        file.write_all(text).map_err(action())?;
        file.as_file().sync_all().map_err(action())?;
        let put = file.persist(&self.path).map_err(|error| action()(error.error));
        // It may have come to be so since it was looked at.
        put.map(drop).map_err(|error| self.obstacle().map_or(error, |obstacle| self.in_the_way(obstacle)))
    }

    /// Writes `text` to the disk as [`Self::replace`] will need it, under no name, so that nothing is left of it when we
    /// die. None where files need a name, or the file is elsewhere. An error where there would be no room for it, or it could
    /// not take the file's place: past the decision of a switch it would be too late.
    pub fn make_ready(&self, text: &[u8]) -> Result<Option<Ready>> {
        let Place::Here(metadata) = &self.place else { return self.try_replace(text).map(|()| None) };
        if let Some(obstacle) = self.obstacle() {
            return Err(self.in_the_way(obstacle));
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(self.directory(), flags, Mode::RUSR | Mode::WUSR) else {
            return self.try_replace(text).map(|()| None);
        };
        let mut file = File::from(file);
        let written = take_after(&file, metadata).and_then(|()| file.write_all(text));
        written.and_then(|()| file.sync_all()).map_err(|error| self.no_room(&error))?;
        Ok(Some(Ready { path: self.path.clone(), text: text.to_owned(), file }))
    }

    /// Why rename(2) would refuse to put another file in its place, which shows in nothing that can be tried without doing it.
    /// None where it would not, or the kernel cannot tell.
    fn obstacle(&self) -> Option<Obstacle> {
        if let Place::Behind(_) = self.place {
            return None;
        }
        let (file, folder) = (attributes(&self.path), attributes(self.directory()));
        let (path, directory) = (self.path.display(), self.directory().display());
        if file.contains(StatxAttributes::MOUNT_ROOT) {
            return Some(Obstacle {
                message: "it is a mount of its own".into(),
                hint: format!(
                    "Mount its folder instead of {path} alone, or name a file_command that writes into it where it is."
                ),
            });
        }
        let flags = [
            (file, StatxAttributes::IMMUTABLE, format!("{path} is immutable"), format!("chattr -i {path}")),
            (file, StatxAttributes::APPEND, format!("{path} is append-only"), format!("chattr -a {path}")),
            (
                folder,
                StatxAttributes::APPEND,
                format!("{directory} is append-only"),
                format!("chattr -a {directory}"),
            ),
        ];
        let stands = |(has, flag, ..): &(StatxAttributes, _, _, _)| has.contains(*flag);
        let (.., message, command) = flags.into_iter().find(stands)?;
        Some(Obstacle { message, hint: format!("Run {command}.") })
    }

    fn in_the_way(&self, Obstacle { message, hint }: Obstacle) -> Error {
        Error::Router { action: format!("replace {}", self.path.display()), message, hint }
    }

    fn no_room(&self, error: &io::Error) -> Error {
        Error::Router {
            action: format!("write {}", self.path.display()),
            message: error.to_string(),
            hint: format!(
                "See that there is room in {}, and who may write there.",
                self.directory().display()
            ),
        }
    }

    /// The folder that a replacement has to be made lasting in; none when the file is elsewhere.
    pub fn folder(&self) -> Option<PathBuf> {
        matches!(self.place, Place::Here(_)).then(|| self.directory().to_owned())
    }

    fn replace_behind(&self, command: &[String], text: &[u8]) -> Result<()> {
        if call(command, "read", &self.path, &[])? != self.text {
            return Err(self.changed());
        }
        call(command, "write", &self.path, text)?;
        if call(command, "read", &self.path, &[])? == text {
            return Ok(());
        }
        Err(Error::Router {
            action: format!("write {}", self.path.display()),
            message: format!("{} ended well, and reads another text than it was given", command[0]),
            hint: "With \"write\" it has to put its standard input in the file's place.".into(),
        })
    }

    fn changed(&self) -> Error {
        Error::Router {
            action: format!("write {}", self.path.display()),
            message: CHANGED.into(),
            hint: "Run the same command again.".into(),
        }
    }

    /// Whether [`Self::replace`] would succeed with a text: tries all of it but the rename; a command is given it, and asked.
    fn try_replace(&self, text: &[u8]) -> Result<()> {
        match &self.place {
            Place::Here(metadata) => {
                let written = self.temporary(metadata).and_then(|mut file| file.write_all(text));
                written.map_err(|error| self.no_room(&error))
            }
            Place::Behind(command) => call(command, "check", &self.path, text).map(drop),
        }
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// An empty file beside it, with its mode and owner; gone when dropped.
    fn temporary(&self, metadata: &fs::Metadata) -> io::Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new().prefix(".pgdetour-").tempfile_in(self.directory())?;
        take_after(file.as_file(), metadata)?;
        Ok(file)
    }
}

/// A file's next text, written and on the disk, without a name yet.
pub struct Ready {
    path: PathBuf,
    text: Vec<u8>,
    file: File,
}

impl Ready {
    /// Gives it a name of its own, and then the file's.
    fn put(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let name = tempfile::Builder::new().prefix(".pgdetour-").make_in(folder, |name| {
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            Ok(rustix::fs::linkat(CWD, open, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
        })?;
        name.persist(&self.path).map(drop).map_err(|error| error.error)
    }
}

/// What the kernel knows to hold of a file or a folder.
fn attributes(path: &Path) -> StatxAttributes {
    let seen = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    seen.map_or(StatxAttributes::empty(), |seen| seen.stx_attributes & seen.stx_attributes_mask)
}

/// Gives a file the mode and the owner of another.
fn take_after(file: &File, metadata: &fs::Metadata) -> io::Result<()> {
    let created = file.metadata()?;
    let owner = (created.uid() != metadata.uid()).then_some(metadata.uid());
    let group = (created.gid() != metadata.gid()).then_some(metadata.gid());
    if owner.is_some() || group.is_some() {
        fchown(file, owner, group)?;
    }
    file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

/// Has the names in a folder on the disk.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io(format!("write {} to the disk", folder.display())))
}

/// Runs `command ACTION PATH`; what it wrote. The text goes through standard input, since it may hold passwords.
fn call(command: &[String], action: &str, path: &Path, input: &[u8]) -> Result<Vec<u8>> {
    let failed = |message: String| Error::Router {
        action: format!("{action} {} with {}", path.display(), command.join(" ")),
        message,
        hint: format!("Run {} {action} {} by hand to see why.", command.join(" "), path.display()),
    };
    let [name, arguments @ ..] = command else { return Err(failed("no program is configured".into())) };
    let mut program = Command::new(name);
    program.args(arguments).arg(action).arg(path);
    let ended = program::run(program, input, LARGEST, Instant::now() + ANSWER, &|| false)
        .map_err(|error| failed(error.to_string()))?;
    match ended.status {
        Some(status) if status.success() => Ok(ended.output),
        Some(status) => Err(failed(format!("{status}{}", ended.said()))),
        None => Err(Error::TimedOut {
            what: format!("{} ({action})", command.join(" ")),
            budget: ANSWER,
            detail: program::some_text(&ended.errors),
            hint: "It was ended. See why it does not answer, then run the same command again.".into(),
        }),
    }
}

/// Does `work`, which reads a file and replaces it, again when somebody else was faster: processes that share one file
/// may change different entries of it at the same time.
pub fn repeat_if_changed<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match work() {
            Err(Error::Router { message, .. }) if message == CHANGED => {
                thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
    work()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn runs(program: &str, arguments: &[&str], path: &Path) -> bool {
        let ended = Command::new(program).args(arguments).arg(path).output();
        ended.is_ok_and(|output| output.status.success())
    }

    /// What is found of it, and that it is not made ready either.
    fn found(path: &Path) -> Vec<(String, String)> {
        let mut checked = Checked::default();
        let file = ReplaceableFile::check(path, None, "PgBouncer", &mut checked).expect("it can be read");
        assert_eq!(file.make_ready(b"new").is_err(), !checked.failures.is_empty());
        let folder = fs::read_dir(file.directory()).expect("it can be read");
        assert_eq!(folder.count(), 2, "nothing is left");
        assert!(checked.failures.iter().all(|finding| finding.check == "router_file"));
        checked.failures.into_iter().map(|finding| (finding.message, finding.hint)).collect()
    }

    #[test]
    fn a_file_whose_place_no_other_can_take_is_named_before_it_is_tried() {
        let folder = tempfile::tempdir().expect("a directory");
        let (path, link) = (folder.path().join("databases.ini"), folder.path().join("link.ini"));
        fs::write(&path, "old").expect("a file");
        symlink(&path, &link).expect("a link");
        assert_eq!(found(&link), []);

        if runs("mount", &["--bind", &path.display().to_string()], &path) {
            let seen = found(&link);
            let file = ReplaceableFile::read(&link, None).expect("it can be read");
            let error = file.replace(b"new", None).expect_err("it is busy");
            assert!(runs("umount", &[], &path));
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!(seen[0].0, "it cannot be replaced: it is a mount of its own");
            assert!(seen[0].1.starts_with("Mount its folder instead of "), "{seen:?}");
            assert_eq!(error.hint().as_ref(), Some(&seen[0].1));
        } else {
            println!("skipped: a file that is mounted, since nothing can be mounted here");
        }
        for (flag, on, what) in [
            ("i", &path, "immutable"),
            ("a", &path, "append-only"),
            ("a", &folder.path().to_owned(), "append-only"),
        ] {
            // Not every file system has them, and not everybody may set them.
            if !runs("chattr", &[&format!("+{flag}")], on) {
                println!("skipped: {} that is {what}, since nothing can be made so here", on.display());
                continue;
            }
            let seen = found(&link);
            assert!(runs("chattr", &[&format!("-{flag}")], on));
            let on = on.display();
            assert_eq!(
                seen,
                [(format!("it cannot be replaced: {on} is {what}"), format!("Run chattr -{flag} {on}."))]
            );
        }
        let file = ReplaceableFile::read(&link, None).expect("it can be read");
        let ready = file.make_ready(b"new").expect("nothing is in the way any more");
        file.replace(b"new", ready).expect("it can be replaced");
        assert_eq!(fs::read(&path).expect("it can be read"), b"new");
    }
}
