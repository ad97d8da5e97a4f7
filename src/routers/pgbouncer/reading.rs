//! What one `PgBouncer` process reads: its main file and those that it includes, in its order.

use std::path::{Path, PathBuf};

use crate::routers::pgbouncer::file::{Item, Reader, line_of, path_of};
use crate::routers::replaceable_file::ReplaceableFile;

/// More files than anybody has, which include each other.
const MOST: usize = 100;

/// The sections that some version knows.
const SECTIONS: [&str; 4] = ["pgbouncer", "databases", "users", "peers"];

/// Its files, and what stands in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Symbolic links resolved.
    pub files: Vec<PathBuf>,
    /// What stands in `[databases]`; of several of one name the last one counts.
    pub entries: Vec<Written>,
    /// What stands in `[pgbouncer]`.
    pub settings: Vec<Written>,
    /// How many of these it has forgotten again: where a further `[pgbouncer]` begins, all settings go back to their defaults.
    forgotten: usize,
    /// Where it would stop reading, and why.
    pub mistakes: Vec<String>,
}

/// One setting of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// Symbolic links resolved.
    pub path: PathBuf,
    /// 1-based.
    pub line: usize,
    pub name: String,
    pub value: String,
}

impl Written {
    /// `/etc/pgbouncer/pgbouncer.ini:7`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }
}

impl Reading {
    /// Follows what `main` includes; None when one of the files cannot be read from here.
    pub fn of(main: &Path) -> Option<Reading> {
        let mut reading = Reading::default();
        reading.follow(main, &mut String::new())?;
        Some(reading)
    }

    /// The settings that hold; of several of one name the last one counts.
    pub fn standing(&self) -> &[Written] {
        &self.settings[self.forgotten..]
    }

    /// A section goes on into the files that it includes, and behind them.
    fn follow(&mut self, path: &Path, section: &mut String) -> Option<()> {
        // A relative name is relative to PgBouncer's working directory, which we do not know.
        if !path.is_absolute() || self.files.len() >= MOST {
            return None;
        }
        let file = ReplaceableFile::read(path, None).ok()?;
        self.files.push(file.path().to_owned());
        let mut reader = Reader::new(file.text());
        loop {
            match reader.next() {
                Ok(None) => return Some(()),
                Ok(Some(Item::Include(name))) => self.follow(&path_of(name), section)?,
                Ok(Some(Item::Section(name))) => {
                    *section = String::from_utf8_lossy(name).into_owned();
                    if section == "pgbouncer" {
                        self.forgotten = self.settings.len();
                    }
                    if !SECTIONS.contains(&section.as_str()) {
                        self.mistakes.push(format!("{}: section [{section}]", file.path().display()));
                    }
                }
                Ok(Some(Item::Setting { name, whole, value })) => {
                    let list = match section.as_str() {
                        "databases" => &mut self.entries,
                        "pgbouncer" => &mut self.settings,
                        _ => continue,
                    };
                    list.push(Written {
                        path: file.path().to_owned(),
                        line: line_of(file.text(), whole.start),
                        name: String::from_utf8_lossy(name).into_owned(),
                        value: String::from_utf8_lossy(&file.text()[value]).into_owned(),
                    });
                }
                Err(what) => {
                    self.mistakes.push(format!("{}: {what}", file.path().display()));
                    return Some(());
                }
            }
        }
    }
}
