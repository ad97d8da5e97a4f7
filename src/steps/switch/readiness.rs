//! What the side that takes over needs in order to be as fast as the one that is left: statistics, and warm caches.

use postgres::error::SqlState;

use crate::error::{Doing as _, Result};
use crate::phase::Side;
use crate::sql;
use crate::steps::Run;

impl Run {
    /// Gathers the planner's statistics of tables that have none or old ones, which no flow carries.
    pub fn refresh_statistics(&mut self, side: Side) -> Result<()> {
        for row in self.session(side).query(&sql::catalog::LIST_STALE_TABLES, &[])? {
            self.heed_signals()?;
            let table = sql::quote_qualified(row.get("schema_name"), row.get("table_name"));
            let analyzed = self
                .session(side)
                .change_script(&format!("analyze {table}"))
                .doing(|| format!("analyze {table}"));
            // Who has it may keep it for long, and plans are all that suffers.
            if let Err(error) = &analyzed
                && error.is_sqlstate(&SqlState::LOCK_NOT_AVAILABLE)
            {
                self.warn(format!(
                    "another session holds a lock on {table}: its statistics stay as they are"
                ));
                continue;
            }
            analyzed?;
        }
        Ok(())
    }

    /// Loads what fits into the server's cache, by extension `pg_prewarm`; where that is absent, says so.
    pub fn warm_caches(&mut self, side: Side) -> Result<()> {
        let schema = self.session(side).query_opt(&sql::catalog::FIND_EXTENSION_SCHEMA, &[&"pg_prewarm"])?;
        let Some(schema) = schema.map(|row| row.get::<_, String>("schema_name")) else {
            self.warn(format!(
                "extension pg_prewarm is not installed on the {side}, so its caches were not warmed: \
                 run CREATE EXTENSION pg_prewarm; there"
            ));
            return Ok(());
        };
        let warming = format!("select {}.pg_prewarm($1::oid::regclass)", sql::quote_identifier(&schema));
        for row in self.session(side).query(&sql::catalog::LIST_WARMABLE, &[])? {
            self.heed_signals()?;
            let (oid, name): (u32, String) = (row.get("oid"), row.get("name"));
            self.session(side).change(&warming, &[&oid]).doing(|| format!("warm {name}"))?;
        }
        Ok(())
    }
}
