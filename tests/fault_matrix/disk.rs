//! A target whose disk can be filled.

use std::path::PathBuf;
use std::process::Command;

use crate::support::detour::Detour;
use crate::support::extent;
use crate::support::scratch::give_to_server_user;

/// A small disk that holds what the target writes; nothing where we may not mount one.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Moves the target's database onto it.
    pub fn mount(detour: &Detour) -> Option<SmallDisk> {
        let path = detour.configuration().with_file_name("disk");
        std::fs::create_dir(&path).expect("the scratch directory can be written");
        // The application's rows grow with the number of cells.
        let size = extent::pick("size=192M", "size=1G");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "tmpfs"])
            .arg(&path)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: the target's disk full, since no file system can be mounted here");
            return None;
        }
        let space = path.join("space");
        std::fs::create_dir(&space).expect("the new file system is empty");
        give_to_server_user(&space);
        detour.target.exec(&format!("create tablespace small location '{}'", space.display()));
        let elsewhere = detour.target.conninfo("dba").replace("dbname=shop", "dbname=postgres");
        let mut client = postgres::Client::connect(&elsewhere, postgres::NoTls).expect("the target answers");
        client.batch_execute("alter database shop set tablespace small").expect("nobody is connected yet");
        // Recovery from before the move would drop the database's replication slots with its old directory.
        client.batch_execute("checkpoint").expect("a superuser may");
        Some(SmallDisk { path })
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        // Ends when the file system has no more room.
        let _ = Command::new("dd").arg("if=/dev/zero").arg("bs=64k").arg(self.of()).output();
    }

    /// Makes room again.
    pub fn clear(&self) {
        let _ = std::fs::remove_file(self.path.join("ballast"));
    }

    fn of(&self) -> String {
        format!("of={}", self.path.join("ballast").display())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
    }
}
