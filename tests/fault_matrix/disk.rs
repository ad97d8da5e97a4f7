//! A target whose disk can be filled.

use crate::support::detour::Detour;
use crate::support::disk::Disk;
use crate::support::extent;
use crate::support::scratch::give_to_server_user;

/// A small disk that holds what the target writes; nothing where we may not mount one.
pub struct SmallDisk(Disk);

impl SmallDisk {
    /// Moves the target's database onto it.
    pub fn mount(detour: &Detour) -> Option<SmallDisk> {
        let path = detour.configuration().with_file_name("disk");
        // The application's rows grow with the number of cells.
        let disk = Disk::mount(&path, extent::pick("192M", "1G"), "the target's disk full")?;
        let space = path.join("space");
        std::fs::create_dir(&space).expect("the new file system is empty");
        give_to_server_user(&space);
        detour.target.exec(&format!("create tablespace small location '{}'", space.display()));
        let elsewhere = detour.target.conninfo("dba").replace("dbname=shop", "dbname=postgres");
        let mut client = postgres::Client::connect(&elsewhere, postgres::NoTls).expect("the target answers");
        client.batch_execute("alter database shop set tablespace small").expect("nobody is connected yet");
        // Recovery from before the move would drop the database's replication slots with its old directory.
        client.batch_execute("checkpoint").expect("a superuser may");
        Some(SmallDisk(disk))
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        self.0.fill();
    }

    /// Makes room again.
    pub fn clear(&self) {
        self.0.clear();
    }
}
