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
    /// Name and value of what stands in `[pgbouncer]`; of several of one name the last one counts.
    pub settings: Vec<(String, String)>,
}

impl Reading {
    /// Follows what `main` includes; None when one of the files cannot be read from here.
    pub fn of(main: &Path, database: &str) -> Option<Reading> {
        let mut reading = Reading::default();
        reading.follow(main, database, &mut Vec::new())?;
        Some(reading)
    }

    /// A section goes on into the files that it includes, and behind them.
    fn follow(&mut self, path: &Path, database: &str, section: &mut Vec<u8>) -> Option<()> {
        // A relative name is relative to PgBouncer's working directory, which we do not know.
        if !path.is_absolute() || self.files.len() >= MOST {
            return None;
        }
        let file = DatabaseFile::read(path, None).ok()?;
        self.files.push(file.path().to_owned());
        let mut reader = Reader::new(file.text());
        while let Some(item) = reader.next().ok()? {
            match item {
                Item::Include(name) => self.follow(&path_of(name), database, section)?,
                Item::Section(name) => name.clone_into(section),
                Item::Setting { name, whole, .. }
                    if section == b"databases" && name == database.as_bytes() =>
                {
                    self.entries.push((file.path().to_owned(), line_of(file.text(), whole.start)));
                }
                Item::Setting { name, value, .. } if section == b"pgbouncer" => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    self.settings.push((text(name), text(&file.text()[value])));
                }
                Item::Setting { .. } => {}
            }
        }
        Some(())
    }
}
