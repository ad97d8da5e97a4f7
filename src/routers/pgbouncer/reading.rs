//! What one `PgBouncer` process reads: its main file and those that it includes, in its order.

use std::path::{Path, PathBuf};

use crate::routers::pgbouncer::file::{DatabaseFile, Item, Reader, line_of, path_of};

/// More files than anybody has, which include each other.
const MOST: usize = 100;

/// Its files, and where in them one database stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Symbolic links resolved.
    pub files: Vec<PathBuf>,
    /// File and line of each entry; the last one counts.
    pub entries: Vec<(PathBuf, usize)>,
}

impl Reading {
    /// Follows what `main` includes; None when one of the files cannot be read from here.
    pub fn of(main: &Path, database: &str) -> Option<Reading> {
        let mut reading = Reading::default();
        reading.follow(main, database, &mut false)?;
        Some(reading)
    }

    /// A section goes on into the files that it includes, and behind them.
    fn follow(&mut self, path: &Path, database: &str, in_databases: &mut bool) -> Option<()> {
        // A relative name is relative to PgBouncer's working directory, which we do not know.
        if !path.is_absolute() || self.files.len() >= MOST {
            return None;
        }
        let file = DatabaseFile::read(path, None).ok()?;
        self.files.push(file.path().to_owned());
        let mut reader = Reader::new(file.text());
        while let Some(item) = reader.next().ok()? {
            match item {
                Item::Include(name) => self.follow(&path_of(name), database, in_databases)?,
                Item::Section(name) => *in_databases = name == b"databases",
                Item::Setting { name, whole, .. } if *in_databases && name == database.as_bytes() => {
                    self.entries.push((file.path().to_owned(), line_of(file.text(), whole.start)));
                }
                Item::Setting { .. } => {}
            }
        }
        Some(())
    }
}
