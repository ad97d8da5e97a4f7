//! What was found out about the servers, for work that asks for the same again and again.

use std::collections::HashMap;

use crate::error::Result;
use crate::pg::catalog::facts::{self, DatabaseFacts, ServerFacts};
use crate::pg::catalog::{self, Table};
use crate::phase::Place;
use crate::steps::Run;

/// Answers of the servers; nothing here is asked for twice.
#[derive(Default)]
pub struct Seen {
    tables: HashMap<Place, Vec<Table>>,
    servers: HashMap<Place, ServerFacts>,
    databases: HashMap<Place, DatabaseFacts>,
}

impl Run {
    /// Does work that looks at each thing once, however often it asks; what it sees is forgotten at its end.
    pub fn looking_once<T>(&mut self, work: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
        if self.seen.is_some() {
            return work(self);
        }
        self.seen = Some(Seen::default());
        let result = work(self);
        self.seen = None;
        result
    }

    /// All tables of one database.
    pub fn list_tables(&mut self, place: impl Into<Place>) -> Result<Vec<Table>> {
        self.look(place.into(), |seen| &mut seen.tables, catalog::list_tables)
    }

    /// One server.
    pub fn server_facts(&mut self, place: impl Into<Place>) -> Result<ServerFacts> {
        self.look(place.into(), |seen| &mut seen.servers, facts::read_server)
    }

    /// The database there.
    pub fn database_facts(&mut self, place: impl Into<Place>) -> Result<DatabaseFacts> {
        self.look(place.into(), |seen| &mut seen.databases, facts::read_database)
    }

    fn look<T: Clone>(
        &mut self,
        place: Place,
        answers: impl Fn(&mut Seen) -> &mut HashMap<Place, T>,
        ask: impl FnOnce(&mut crate::pg::Session) -> Result<T>,
    ) -> Result<T> {
        let known = self.seen.as_mut().and_then(|seen| answers(seen).get(&place).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let answer = ask(self.session(place))?;
        if let Some(seen) = &mut self.seen {
            answers(seen).insert(place, answer.clone());
        }
        Ok(answer)
    }
}
