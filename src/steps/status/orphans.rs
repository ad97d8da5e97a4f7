//! Objects of ours that no record speaks of: left by a crash, or by a database that was dropped.

use serde::Serialize;

use crate::error::Result;
use crate::phase::Place;
use crate::sql;
use crate::steps::Run;

/// One object found by its fixed name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Where it is.
    pub side: Place,
    /// `replication slot`, `publication`, `subscription`, `schema` or `trigger`.
    pub kind: String,
    /// Its name; for a trigger, that of its table too.
    pub name: String,
}

impl Run {
    /// Everything on the databases that are connected that bears one of our names.
    pub fn find_orphans(&mut self) -> Result<Vec<Orphan>> {
        let mut found = Vec::new();
        for side in self.places() {
            let session = self.session(side);
            for row in session.query(&sql::record::LIST_OUR_OBJECTS, &[])? {
                found.push(Orphan { side, kind: row.get("kind"), name: row.get("name") });
            }
        }
        Ok(found)
    }
}
