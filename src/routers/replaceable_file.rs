//! A configuration file of a router: read whole, and replaced at once with its owner, mode and attributes kept; by ourselves, or on
//! another host by a command of the operator's.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, XattrFlags};

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

/// Who may do what with a file beside its owner and its group.
const ACCESS_LIST: &CStr = c"system.posix_acl_access";
/// The kernel's own sums of what is in a file.
const OF_CONTENT: [&CStr; 2] = [c"security.ima", c"security.evm"];

/// What Linux takes at most as an attribute's value, and as the list of all names.
const LARGEST_ATTRIBUTE: usize = 64 * 1024;

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
                format!("it cannot be replaced with its owner, mode and attributes kept: {why}"),
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

    /// Puts `text` in the file's place at once: readers see the old file or the new one. Owner, mode and extended attributes stay.
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
        self.require_unchanged()?;
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

    /// Puts `text` in the file's place for a moment, until [`Self::put_back`]: where files may have two names, the file itself
    /// waits beside it as `aside`, so that the very same one comes back.
    pub fn replace_for_a_moment(&self, text: &[u8], aside: &str) -> Result<()> {
        // One that a run before has left.
        self.remove_aside(aside);
        if let Place::Here(_) = self.place {
            // Where it cannot be, the text comes back in another file.
            let _ = fs::hard_link(&self.path, self.directory().join(aside));
        }
        let replaced = self.replace(text, None);
        if replaced.is_err() {
            self.remove_aside(aside);
        }
        replaced
    }

    /// Puts `text` back, which [`Self::replace_for_a_moment`] has put another in the place of: as the file that it was, if that
    /// waits beside it.
    pub fn put_back(&self, text: &[u8], aside: &str) -> Result<()> {
        let waiting = self.directory().join(aside);
        let is_here = matches!(self.place, Place::Here(_));
        if is_here && fs::read(&waiting).is_ok_and(|kept| kept == text) {
            let _alone = REPLACING.lock().unwrap_or_else(PoisonError::into_inner);
            self.require_unchanged()?;
            if fs::rename(&waiting, &self.path).is_ok() {
                return Ok(());
            }
        }
        self.replace(text, None)?;
        self.remove_aside(aside);
        Ok(())
    }

    /// Removes what waits beside the file; true when there was something.
    pub fn remove_aside(&self, aside: &str) -> bool {
        matches!(self.place, Place::Here(_)) && fs::remove_file(self.directory().join(aside)).is_ok()
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
        let written = take_after(&file, &self.path, metadata).and_then(|()| file.write_all(text));
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

    /// Whether it is still the one that was read.
    fn require_unchanged(&self) -> Result<()> {
        let Place::Here(metadata) = &self.place else { return Ok(()) };
        let now = fs::metadata(&self.path).map_err(Error::io(format!("write {}", self.path.display())))?;
        if (now.ino(), now.mtime(), now.mtime_nsec(), now.size())
            == (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size())
        {
            return Ok(());
        }
        Err(self.changed())
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

    /// An empty file beside it, with its owner, mode and attributes; gone when dropped.
    fn temporary(&self, metadata: &fs::Metadata) -> io::Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new().prefix(".pgdetour-").tempfile_in(self.directory())?;
        take_after(file.as_file(), &self.path, metadata)?;
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

/// Gives a file the owner, the mode and the extended attributes of the one at `path`: its list of who else may read it, and what
/// `SELinux` goes by, are among them.
fn take_after(file: &File, path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let created = file.metadata()?;
    let owner = (created.uid() != metadata.uid()).then_some(metadata.uid());
    let group = (created.gid() != metadata.gid()).then_some(metadata.gid());
    if owner.is_some() || group.is_some() {
        fchown(file, owner, group)?;
    }
    let names = names_in(|buffer| rustix::fs::listxattr(path, buffer))?;
    for name in names_in(|buffer| rustix::fs::flistxattr(file, buffer))? {
        // From the folder's default, which the other one did not get. What else there is comes from the system, and is not ours to drop.
        if name.as_c_str() == ACCESS_LIST && !names.contains(&name) {
            rustix::fs::fremovexattr(file, &name)?;
        }
    }
    file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    for name in names.iter().filter(|name| !OF_CONTENT.contains(&name.as_c_str())) {
        let value = whole(|buffer| rustix::fs::getxattr(path, name, buffer));
        let copied = value.and_then(|value| {
            // What is right already need not be allowed.
            if whole(|buffer| rustix::fs::fgetxattr(file, name, buffer)).is_ok_and(|own| own == value) {
                return Ok(());
            }
            Ok(rustix::fs::fsetxattr(file, name, &value, XattrFlags::empty())?)
        });
        copied.map_err(|error| {
            let message = format!("its attribute {} cannot be copied: {error}", name.to_string_lossy());
            io::Error::new(error.kind(), message)
        })?;
    }
    Ok(())
}

/// The names of extended attributes that a call lists; none where the file system has no such thing.
fn names_in(list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<CString>> {
    let names = match whole(list) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Vec::new(),
        names => names?,
    };
    let each = names.split_inclusive(|byte| *byte == 0);
    Ok(each.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
}

/// All that a call has to give.
fn whole(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LARGEST_ATTRIBUTE];
    let length = call(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
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

    /// A list that lets one more user read, as setfacl writes it, with a group that may not.
    const LIST: &[u8] = &[
        2, 0, 0, 0, // version
        1, 0, 6, 0, 255, 255, 255, 255, // the owner reads and writes
        2, 0, 4, 0, 101, 0, 0, 0, // user 101 reads
        4, 0, 0, 0, 255, 255, 255, 255, // the group
        16, 0, 4, 0, 255, 255, 255, 255, // the mask
        32, 0, 0, 0, 255, 255, 255, 255, // everybody else
    ];

    fn attribute(path: &Path, name: &CStr) -> Option<Vec<u8>> {
        whole(|buffer| rustix::fs::getxattr(path, name, buffer)).ok()
    }

    #[test]
    fn a_replaced_file_can_be_read_by_whom_its_attributes_let() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("databases.ini");
        fs::write(&path, "old").expect("a file");
        let of_folder = c"system.posix_acl_default";
        let set = |path: &Path, name: &CStr, value: &[u8]| {
            rustix::fs::setxattr(path, name, value, XattrFlags::empty()).is_ok()
        };
        if !set(&path, c"user.origin", b"ours") || !set(&path, ACCESS_LIST, LIST) {
            println!("skipped: attributes of a file, since this file system has none");
            return;
        }
        let mode = fs::metadata(&path).expect("it is there").mode();
        for ready in [false, true] {
            let file = ReplaceableFile::read(&path, None).expect("it can be read");
            let ready = if ready { file.make_ready(b"new").expect("there is room") } else { None };
            file.replace(b"new", ready).expect("it can be replaced");
            assert_eq!(attribute(&path, ACCESS_LIST).as_deref(), Some(LIST));
            assert_eq!(attribute(&path, c"user.origin").as_deref(), Some(&b"ours"[..]));
            assert_eq!(fs::metadata(&path).expect("it is there").mode(), mode);
        }
        // What a folder gives to new files is not what the file had.
        rustix::fs::removexattr(&path, ACCESS_LIST).expect("it has one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
        assert!(set(folder.path(), of_folder, LIST), "as for a file");
        let file = ReplaceableFile::read(&path, None).expect("it can be read");
        file.replace(b"newer", None).expect("it can be replaced");
        assert_eq!(attribute(&path, ACCESS_LIST), None);
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_file_that_makes_room_for_a_moment_comes_back_itself() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("databases.ini");
        fs::write(&path, "old").expect("a file");
        let read = || ReplaceableFile::read(&path, None).expect("it can be read");
        let number = || fs::metadata(&path).expect("it is there").ino();
        let before = number();
        let names = || fs::read_dir(folder.path()).expect("it can be read").count();
        for _ in 0..2 {
            read().replace_for_a_moment(b"passing", ".aside").expect("it can be replaced");
            // The second time, as after a run that was killed.
            assert_eq!((names(), fs::read(&path).expect("it can be read")), (2, b"passing".to_vec()));
            read().put_back(b"old", ".aside").expect("it waits");
            assert_eq!((names(), number()), (1, before));
        }
        // Somebody has changed it meanwhile.
        read().replace_for_a_moment(b"passing", ".aside").expect("it can be replaced");
        read().put_back(b"older", ".aside").expect("there is room");
        assert_eq!((names(), fs::read(&path).expect("it can be read")), (1, b"older".to_vec()));
    }
}
