//! Sequences, which no flow carries: prepared before clients are held, carried over while they are.

use std::collections::HashMap;
use std::fmt::Write as _;

use postgres::Statement;
use postgres::types::ToSql;

use crate::error::{Error, Result};
use crate::pg::{Server, Session};
use crate::sql;

/// Sequences that one statement reads or sets.
const CHUNK: usize = 500;

/// A sequence and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema, unquoted.
    pub schema: String,
    /// Name, unquoted.
    pub name: String,
    /// Negative for one that counts down.
    pub increment: i64,
    /// MINVALUE.
    pub minimum: i64,
    /// MAXVALUE.
    pub maximum: i64,
    /// CYCLE: it has no direction that it could be set back in.
    pub cycles: bool,
    /// Schema, table and column that own it.
    pub owner: Option<(String, String, String)>,
    /// Of an identity column.
    pub identity: bool,
}

impl Sequence {
    /// `public.orders_id_seq`, unquoted.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn quoted(&self) -> String {
        sql::quote_qualified(&self.schema, &self.name)
    }
}

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    /// `last_value`.
    pub value: i64,
    /// `is_called`: the next value is one increment further.
    pub called: bool,
}

/// What became of a sequence on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was set.
    Set,
    /// It stands there or further already, and stays.
    Kept,
    /// There is none of that name.
    Missing,
    /// The value lies outside its limits there: nothing was set.
    OutOfRange,
}

/// One sequence of a carry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Carried {
    /// `public.orders_id_seq`.
    pub name: String,
    /// Where it stands on the publisher.
    pub position: Position,
    /// Where it stood on the other side.
    pub before: Option<Position>,
    /// What became of it.
    pub outcome: Outcome,
}

/// All sequences of a database, owned ones, those of identities and free ones alike; not the system's, extensions' or ours.
pub fn list_sequences(session: &mut Session) -> Result<Vec<Sequence>> {
    let rows = session.query(&sql::catalog::LIST_SEQUENCES, &[])?;
    let sequence = |row: &postgres::Row| {
        let owner = |column: &str| row.get::<_, Option<String>>(column);
        let owner = owner("owner_schema").zip(owner("owner_table")).zip(owner("owner_column"));
        Sequence {
            oid: row.get("oid"),
            schema: row.get("schema_name"),
            name: row.get("sequence_name"),
            increment: row.get("increment"),
            minimum: row.get("minimum"),
            maximum: row.get("maximum"),
            cycles: row.get("cycles"),
            owner: owner.map(|((schema, table), column)| (schema, table, column)),
            identity: row.get("identity"),
        }
    };
    Ok(rows.iter().map(sequence).collect())
}

/// Everything that carrying sequences needs, made ready: two sessions with prepared statements.
pub struct SequencePlan {
    publisher: Session,
    subscriber: Session,
    /// On the publisher, with their namesakes on the subscriber.
    sequences: Vec<(Sequence, Option<Sequence>)>,
    reading: Vec<Statement>,
    /// Per chunk, the indexes of those that exist on both sides.
    setting: Vec<(Statement, Vec<usize>)>,
}

/// Lists the sequences of both sides and prepares the statements. Also warms them up, so that carrying is fast.
pub fn plan(publisher: &Server, subscriber: &Server) -> Result<SequencePlan> {
    let (mut publisher, mut subscriber) = (publisher.connect()?, subscriber.connect()?);
    let here = list_sequences(&mut publisher)?;
    let there = list_sequences(&mut subscriber)?;
    let mut there: HashMap<(String, String), Sequence> =
        there.into_iter().map(|s| ((s.schema.clone(), s.name.clone()), s)).collect();
    let pair = |sequence: Sequence| {
        let namesake = there.remove(&(sequence.schema.clone(), sequence.name.clone()));
        (sequence, namesake)
    };
    let sequences: Vec<_> = here.into_iter().map(pair).collect();
    let mut plan =
        SequencePlan { publisher, subscriber, sequences, reading: Vec::new(), setting: Vec::new() };
    plan.prepare()?;
    plan.warm_up()?;
    Ok(plan)
}

impl SequencePlan {
    fn prepare(&mut self) -> Result<()> {
        let reading = "prepare to read sequences";
        for chunk in self.sequences.chunks(CHUNK) {
            let text = union(chunk.iter().enumerate().map(|(index, (sequence, _))| (index, sequence)), "");
            let statement = self.publisher.client().prepare(&text);
            self.reading.push(statement.map_err(|error| failed(&self.publisher, reading, &error))?);
        }
        // With parameters the server would plan each of the first calls anew.
        let generic = "set plan_cache_mode = force_generic_plan";
        if !self.subscriber.is_dry() {
            self.subscriber.change_script(generic)?;
        }
        let common: Vec<usize> =
            (0..self.sequences.len()).filter(|index| self.sequences[*index].1.is_some()).collect();
        for chunk in common.chunks(CHUNK) {
            let namesakes =
                chunk.iter().map(|index| self.sequences[*index].1.as_ref().expect("filtered above"));
            let text = set_statement(namesakes.enumerate());
            let statement = self.subscriber.client().prepare(&text);
            let statement =
                statement.map_err(|error| failed(&self.subscriber, "prepare to set sequences", &error))?;
            self.setting.push((statement, chunk.to_vec()));
        }
        Ok(())
    }

    /// The first run of a statement plans it, which takes far longer than the run: without values nothing is set.
    fn warm_up(&mut self) -> Result<()> {
        self.read()?;
        if self.subscriber.is_dry() {
            return Ok(());
        }
        for (statement, _) in &self.setting {
            let nothing: [&(dyn ToSql + Sync); 2] = [&Vec::<i64>::new(), &Vec::<bool>::new()];
            let result = self.subscriber.client().query(statement, &nothing);
            result.map_err(|error| failed(&self.subscriber, "prepare to set sequences", &error))?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<Position>> {
        let mut positions = Vec::with_capacity(self.sequences.len());
        for statement in &self.reading {
            let rows = self.publisher.client().query(statement, &[]);
            let rows = rows.map_err(|error| failed(&self.publisher, "read sequences", &error))?;
            positions.extend(
                rows.iter().map(|row| Position { value: row.get("value"), called: row.get("called") }),
            );
        }
        Ok(positions)
    }

    /// Sets every sequence of the other side to where it stands here, but never back in its own direction; one that
    /// cycles has none and is set as it is. Two round trips for each five hundred.
    pub fn carry(&mut self) -> Result<Vec<Carried>> {
        let positions = self.read()?;
        let mut carried: Vec<Carried> = self
            .sequences
            .iter()
            .zip(&positions)
            .map(|((sequence, _), position)| Carried {
                name: sequence.display(),
                position: *position,
                before: None,
                outcome: Outcome::Missing,
            })
            .collect();
        if self.subscriber.is_dry() {
            self.note(&positions);
            return Ok(carried);
        }
        for (statement, indexes) in &self.setting {
            let values: Vec<i64> = indexes.iter().map(|index| positions[*index].value).collect();
            let called: Vec<bool> = indexes.iter().map(|index| positions[*index].called).collect();
            let parameters: [&(dyn ToSql + Sync); 2] = [&values, &called];
            let rows = self.subscriber.client().query(statement, &parameters);
            let rows = rows.map_err(|error| failed(&self.subscriber, "set sequences", &error))?;
            for row in rows {
                let place = &mut carried[indexes[row.get::<_, i32>("ordinal") as usize]];
                place.before = Some(Position { value: row.get("value"), called: row.get("called") });
                place.outcome = match row.get("outcome") {
                    "set" => Outcome::Set,
                    "kept" => Outcome::Kept,
                    _ => Outcome::OutOfRange,
                };
            }
        }
        Ok(carried)
    }

    fn note(&self, positions: &[Position]) {
        for ((sequence, namesake), Position { value, called }) in self.sequences.iter().zip(positions) {
            if namesake.is_some() {
                let name = sql::quote_literal(&sequence.quoted());
                self.subscriber.note(format!("select pg_catalog.setval({name}, {value}, {called})"));
            }
        }
    }
}

fn failed(session: &Session, action: &str, error: &postgres::Error) -> Error {
    Error::sql(action, session.side.name(), error)
}

/// Position of each sequence, one row each, with its ordinal; `columns` are added to each branch.
fn union<'a>(sequences: impl Iterator<Item = (usize, &'a Sequence)>, columns: &str) -> String {
    let branches = sequences.map(|(ordinal, sequence)| {
        let extra = columns.replace("{oid}", &sequence.oid.to_string());
        let ascending = sequence.increment > 0;
        let extra = extra
            .replace("{cycles}", &sequence.cycles.to_string())
            .replace("{ascending}", &ascending.to_string())
            .replace("{minimum}", &format!("({}::numeric)", sequence.minimum))
            .replace("{maximum}", &format!("({}::numeric)", sequence.maximum));
        format!(
            "select {ordinal} as ordinal, s.last_value as value, s.is_called as called{extra} from {} as s",
            sequence.quoted()
        )
    });
    branches.collect::<Vec<_>>().join("\nunion all\n")
}

/// Compares and sets in one statement: `$1` values, `$2` whether called, by ordinal.
fn set_statement<'a>(sequences: impl Iterator<Item = (usize, &'a Sequence)>) -> String {
    let columns = ", {oid}::pg_catalog.oid as oid, {cycles} as cycles, {ascending} as ascending, \
                   {minimum} as minimum, {maximum} as maximum";
    let mut text = String::from("with standing as materialized (\n");
    text.push_str(&union(sequences, columns));
    let ahead = "case when s.ascending then n.value > s.value else n.value < s.value end \
                 or (n.value = s.value and n.called and not s.called)";
    write!(
        text,
        "\n),\ndecided as materialized (\n\
         select s.*, n.value as new_value, n.called as new_called,\n\
         case when not (n.value between s.minimum and s.maximum) then 'out_of_range'\n\
         when s.cycles then case when n.value = s.value and n.called = s.called then 'kept' else 'set' end\n\
         when {ahead} then 'set' else 'kept' end as outcome\n\
         from standing as s\n\
         join unnest($1::int8[], $2::bool[]) with ordinality as n (value, called, place) on n.place = s.ordinal + 1\n\
         )\n\
         select d.ordinal, d.value, d.called, d.outcome,\n\
         case when d.outcome = 'set' then pg_catalog.setval(d.oid::pg_catalog.regclass, d.new_value, d.new_called) end as now\n\
         from decided as d"
    )
    .expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::test_server::TestServer;
    use crate::phase::Side;
    use crate::plan::Plan;

    #[test]
    fn sequences_never_go_back_in_their_own_direction() {
        let (one, two) = (TestServer::start(""), TestServer::start(""));
        let server = |side, server: &TestServer| Server {
            side,
            conninfo: server.conninfo(),
            application_name: "pgdetour test".into(),
            plan: Plan::real(),
        };
        let (source, target) = (server(Side::Source, &one), server(Side::Target, &two));
        let (mut here, mut there) = (source.connect().unwrap(), target.connect().unwrap());
        let make = "create schema \"Od\"\"d\";\
            create table public.t (id int8 generated always as identity, s serial);\
            create sequence \"Od\"\"d\".\"s'q\"; create sequence public.behind; create sequence public.fresh;\
            create sequence public.down increment -1 minvalue -1000 maxvalue 10;\
            create sequence public.down_behind increment -5 minvalue -1000 maxvalue 10;\
            create sequence public.round maxvalue 9 cycle;\
            create sequence public.equal; create sequence public.called;";
        here.change_script(make).unwrap();
        there.change_script(make).unwrap();
        let set = |session: &mut Session, name: &str, value: i64, called: bool| {
            session
                .change(
                    "select pg_catalog.setval($1::text::pg_catalog.regclass, $2, $3)",
                    &[&name, &value, &called],
                )
                .unwrap();
        };
        here.change_script("create sequence public.gone; create sequence public.wide").unwrap();
        there.change_script("create sequence public.wide maxvalue 100").unwrap();
        set(&mut here, "public.t_id_seq", 40, true);
        set(&mut here, "\"Od\"\"d\".\"s'q\"", 7, false);
        set(&mut here, "public.behind", 5, true);
        set(&mut there, "public.behind", 9, true);
        set(&mut here, "public.down", -20, true);
        set(&mut here, "public.down_behind", -5, true);
        set(&mut there, "public.down_behind", -10, true);
        set(&mut here, "public.round", 2, true);
        set(&mut there, "public.round", 8, true);
        set(&mut here, "public.equal", 3, true);
        set(&mut there, "public.equal", 3, true);
        set(&mut here, "public.called", 3, true);
        set(&mut there, "public.called", 3, false);
        set(&mut here, "public.wide", 500, true);
        let mut plan = plan(&source, &target).unwrap();
        set(&mut here, "public.t_s_seq", 41, true);
        let carried = plan.carry().unwrap();
        let outcome = |name: &str| carried.iter().find(|c| c.name == name).unwrap().outcome;
        for (name, expected) in [
            ("public.t_id_seq", Outcome::Set),
            ("public.t_s_seq", Outcome::Set),
            ("Od\"d.s'q", Outcome::Set),
            ("public.behind", Outcome::Kept),
            ("public.fresh", Outcome::Kept),
            ("public.down", Outcome::Set),
            ("public.down_behind", Outcome::Kept),
            ("public.round", Outcome::Set),
            ("public.equal", Outcome::Kept),
            ("public.called", Outcome::Set),
            ("public.gone", Outcome::Missing),
            ("public.wide", Outcome::OutOfRange),
        ] {
            assert_eq!(outcome(name), expected, "{name}");
        }
        let mut next = |name: &str| -> i64 {
            there.query_text(&format!("select pg_catalog.nextval('{name}')"), &[]).unwrap()[0].get(0)
        };
        assert_eq!(next("public.t_id_seq"), 41);
        assert_eq!(next("public.t_s_seq"), 42);
        assert_eq!(next("\"Od\"\"d\".\"s''q\""), 7);
        assert_eq!(next("public.behind"), 10);
        assert_eq!(next("public.fresh"), 1);
        assert_eq!(next("public.down"), -21);
        assert_eq!(next("public.round"), 3);
        assert_eq!(next("public.wide"), 1);
        assert!(
            super::plan(&source, &target)
                .and_then(|mut plan| plan.carry())
                .unwrap()
                .iter()
                .all(|c| c.outcome != Outcome::Set || c.name == "public.round")
        );
    }

    #[test]
    fn thousands_of_sequences_are_carried_within_a_write_pause() {
        let (one, two) = (
            TestServer::start("max_locks_per_transaction = 512"),
            TestServer::start("max_locks_per_transaction = 512"),
        );
        let server = |side, server: &TestServer| Server {
            side,
            conninfo: server.conninfo(),
            application_name: "pgdetour test".into(),
            plan: Plan::real(),
        };
        let (source, target) = (server(Side::Source, &one), server(Side::Target, &two));
        let make = "do $$ begin for i in 1..1200 loop execute pg_catalog.format('create sequence public.s%s', i); end loop; end $$";
        source.connect().unwrap().change_script(make).unwrap();
        target.connect().unwrap().change_script(make).unwrap();
        let mut plan = plan(&source, &target).unwrap();
        source.connect().unwrap().change_script("select pg_catalog.setval(('public.s' || i)::pg_catalog.regclass, 10) from pg_catalog.generate_series(1, 1200) as i").unwrap();
        let began = std::time::Instant::now();
        let carried = plan.carry().unwrap();
        let took = began.elapsed();
        assert!(carried.iter().all(|c| c.outcome == Outcome::Set && c.position.value == 10));
        assert!(took.as_millis() < 1000, "{took:?}");
        println!("{} sequences in {took:?}", carried.len());
    }
}
