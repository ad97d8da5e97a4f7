//! A file system that can be filled, and a file that is one by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; gone when dropped.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of `size`, such as `64k`, at a new folder; nothing where we may not, which is said with what is left out.
    pub fn mount(path: &Path, size: &str, left_out: &str) -> Option<Disk> {
        std::fs::create_dir(path).expect("the scratch directory can be written");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: {left_out}, since no file system can be mounted here");
            return None;
        }
        Some(Disk { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        // Ends when the file system has no more room.
        let _ = Command::new("dd").arg("if=/dev/zero").arg("bs=4k").arg(self.of()).output();
    }

    /// Makes room again.
    pub fn clear(&self) {
        let _ = std::fs::remove_file(self.path.join("ballast"));
    }

    fn of(&self) -> String {
        format!("of={}", self.path.join("ballast").display())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}

/// A file that is mounted by itself, as containers have it; as it was when dropped.
pub struct MountedFile(PathBuf);

impl MountedFile {
    /// Mounts it where it is; nothing where we may not, which is said with what is left out.
    pub fn mount(path: &Path, left_out: &str) -> Option<MountedFile> {
        let mounted = Command::new("mount").arg("--bind").args([path, path]).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("skipped: {left_out}, since no file can be mounted here");
            return None;
        }
        Some(MountedFile(path.to_owned()))
    }
}

impl Drop for MountedFile {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}
