//! Sequences, which no flow carries: prepared before clients are held, carried over while they are.

mod columns;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use postgres::Statement;

use self::columns::{Filled, Numbering, list_filled, without_equal};
pub use self::columns::{Untold, list_unfit};
use super::mapping::{Mapping, TableName};
use crate::error::{Doing as _, Error, Result};
use crate::pg::parameter::Parameter;
use crate::pg::{Server, Session};
use crate::sql;

/// Sequences that one statement reads by name.
const CHUNK: usize = 200;

/// Schema, table and column that own a sequence.
pub type Owner = (String, String, String);

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
    /// The role that it belongs to.
    pub belongs_to: String,
    /// Our role may set it.
    pub settable: bool,
    /// The column that it goes with.
    pub owner: Option<Owner>,
    /// Of an identity column.
    pub identity: bool,
}

impl Sequence {
    /// `public.orders_id_seq`, unquoted.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The same, quoted.
    pub fn quoted(&self) -> String {
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

impl Position {
    /// Whether it is further in the direction of `sequence`.
    fn is_beyond(self, other: Position, sequence: &Sequence) -> bool {
        match self.value.cmp(&other.value) {
            Ordering::Equal => self.called && !other.called,
            unequal => (unequal == Ordering::Greater) == (sequence.increment > 0),
        }
    }
}

/// What became of a sequence on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was set.
    Set,
    /// It stands there or further already, and stays.
    Kept,
    /// There is none of that name, nor one of a column that takes the same values.
    Missing,
    /// The value lies outside its limits there: nothing was set.
    OutOfRange,
    /// The other side computes its column's values: what numbers them there goes by these.
    Computed,
    /// Of the subscriber's own: its limits leave nothing past its column's furthest value.
    Exhausted,
}

/// One sequence of a carry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Carried {
    /// `public.orders_id_seq`.
    pub name: String,
    /// Where it stands on the publisher.
    pub position: Position,
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
            belongs_to: row.get("belongs_to"),
            settable: row.get("settable"),
            owner: owner.map(|((schema, table), column)| (schema, table, column)),
            identity: row.get("identity"),
        }
    };
    Ok(rows.iter().map(sequence).collect())
}

/// Everything that carrying sequences needs, made ready: two sessions, and where each sequence was carried to already.
pub struct SequencePlan {
    publisher: Session,
    subscriber: Session,
    sequences: Vec<Planned>,
    /// Statements that read those that had not been called, and which these are.
    uncalled: Vec<(Statement, Vec<usize>)>,
    /// Those that were seen to have moved on, and are not set yet.
    moved: HashSet<usize>,
    /// Those of the subscriber that go by their column, since no value of the publisher's tells what comes next there.
    numbering: Numbering,
}

/// A sequence of the publisher.
struct Planned {
    here: Sequence,
    /// What it is on the subscriber, and where that stood when it had not been called.
    there: Option<(Sequence, Position)>,
    /// Where it stood when it was last looked at.
    position: Position,
    outcome: Outcome,
}

/// Lists the sequences of both sides and carries their values ahead: what is left for later are those that move on.
/// The side that takes over gets nothing that it could not have from the users' own work. Without a mapping, the schema is the
/// same.
pub fn plan(publisher: &Server, subscriber: &Server, mapping: Option<&Mapping>) -> Result<SequencePlan> {
    let (mut publisher, mut subscriber) = (publisher.connect()?, subscriber.connect()?);
    let (pairs, numbering) = pair_all(&mut publisher, &mut subscriber, mapping)?;
    let positions = read_exactly(&mut publisher, &pairs.iter().map(|(here, _)| here).collect::<Vec<_>>())?;
    let namesakes: Vec<&Sequence> = pairs.iter().filter_map(|(_, there)| there.as_ref()).collect();
    let mut standing = read_exactly(&mut subscriber, &namesakes)?.into_iter();
    let sequences: Vec<Planned> = pairs
        .into_iter()
        .zip(positions)
        .map(|((here, there), position)| Planned {
            outcome: if numbering.stands_for(&here) { Outcome::Computed } else { Outcome::Missing },
            here,
            there: there.and_then(|there| Some((there, standing.next()?))),
            position,
        })
        .collect();
    let moved = (0..sequences.len()).collect();
    let mut plan = SequencePlan { publisher, subscriber, sequences, uncalled: Vec::new(), moved, numbering };
    plan.prepare()?;
    plan.carry()?;
    plan.prepare_numbering()?;
    plan.go_past_columns()?;
    Ok(plan)
}

/// Sequences, each with one that becomes it; none where nothing does.
pub type Pairs = Vec<(Sequence, Option<Sequence>)>;

/// The sequences of both sides, and those of the subscriber that no pair accounts for.
fn pair_all(
    publisher: &mut Session,
    subscriber: &mut Session,
    mapping: Option<&Mapping>,
) -> Result<(Pairs, Numbering)> {
    let (here, there) = (list_sequences(publisher)?, list_sequences(subscriber)?);
    let Some(mapping) = mapping else {
        return Ok((pair(here, &there, &[], None), Numbering::default()));
    };
    let (filling, filled) = (list_filled(publisher)?, list_filled(subscriber)?);
    let pairs = pair(here, &there, &filled, Some(mapping));
    let unaccounted = without_equal(&filling, filled, &pairs, mapping);
    let numbering = Numbering::new(unaccounted, &there, mapping);
    Ok((pairs, numbering))
}

/// The columns of the subscriber that get a column's values as they are.
fn images(mapping: Option<&Mapping>, owner: &Owner) -> Vec<Owner> {
    let (schema, table, column) = owner;
    match mapping.filter(|mapping| !mapping.rules_for(schema, table).is_empty()) {
        None => vec![owner.clone()],
        Some(mapping) => {
            let table = TableName { schema: schema.clone(), name: table.clone() };
            let found = mapping.images_of(&table, column).into_iter();
            found.map(|(table, column)| (table.schema, table.name, column)).collect()
        }
    }
}

/// Each sequence of the publisher with those that become it on the subscriber, on which `session` is, where `there` are its sequences.
pub fn list_heirs(
    here: Vec<Sequence>,
    there: &[Sequence],
    session: &mut Session,
    mapping: &Mapping,
) -> Result<Pairs> {
    Ok(pair(here, there, &list_filled(session)?, Some(mapping)))
}

/// Each sequence with its namesake there, or with those that number the same values: maintenance may have made a table anew, in
/// another schema or as two. One for which there is nothing stands alone. `filled` are the columns there, where they are known.
fn pair(here: Vec<Sequence>, there: &[Sequence], filled: &[Filled], mapping: Option<&Mapping>) -> Pairs {
    let mut pairs = Vec::with_capacity(here.len());
    let by_name: HashMap<(&str, &str), &Sequence> =
        there.iter().map(|there| ((there.schema.as_str(), there.name.as_str()), there)).collect();
    let by_oid: HashMap<u32, &Sequence> = there.iter().map(|there| (there.oid, there)).collect();
    let mut by_column: HashMap<&Owner, Vec<&Sequence>> = HashMap::new();
    for there in there {
        if let Some(owner) = &there.owner {
            by_column.entry(owner).or_default().push(there);
        }
    }
    for filled in filled.iter().filter(|filled| filled.is_plain) {
        if let Some(there) = by_oid.get(&filled.sequence) {
            by_column.entry(&filled.column).or_default().push(there);
        }
    }
    for sequence in here {
        let owners = sequence.owner.as_ref().map(|owner| images(mapping, owner)).unwrap_or_default();
        let mut found: Vec<&Sequence> =
            owners.iter().filter_map(|owner| by_column.get(owner)).flatten().copied().collect();
        let namesake = by_name.get(&(sequence.schema.as_str(), sequence.name.as_str()));
        let is_mapped = |(schema, table, _): &Owner| {
            mapping.is_some_and(|mapping| !mapping.rules_for(schema, table).is_empty())
        };
        // The namesake may number another table by now, or the same with other values.
        found.extend(namesake.filter(|namesake| {
            let may_differ = sequence.owner.as_ref().is_some_and(is_mapped);
            namesake.owner.is_none() || (found.is_empty() && !may_differ)
        }));
        found.sort_by_key(|there| there.oid);
        found.dedup_by_key(|there| there.oid);
        match found.as_slice() {
            [] => pairs.push((sequence, None)),
            _ => pairs.extend(found.into_iter().map(|there| (sequence.clone(), Some(there.clone())))),
        }
    }
    pairs
}

impl SequencePlan {
    /// Finds those that have moved on here since the last look: one round trip, whatever their number, unless sequences
    /// were reset.
    pub fn look(&mut self) -> Result<()> {
        let oids: Vec<u32> = self.sequences.iter().map(|planned| planned.here.oid).collect();
        let known: Vec<Option<i64>> = self
            .sequences
            .iter()
            .map(|planned| planned.position.called.then_some(planned.position.value))
            .collect();
        let mut values = known.clone();
        let rows = self
            .publisher
            .query(&sql::flow::READ_MOVED_SEQUENCES, &[&oids, &known])
            .doing(|| "read sequences".into())?;
        for row in &rows {
            values[row.get::<_, i32>("place") as usize] = row.get("value");
        }
        let mut found: HashMap<usize, Position> = HashMap::new();
        for (statement, places) in &self.uncalled {
            if places.iter().any(|at| values[*at].is_none()) {
                let positions = read_prepared(&mut self.publisher, statement)?;
                found.extend(places.iter().copied().zip(positions));
            }
        }
        // Those that were reset since.
        let reset: Vec<usize> =
            (0..values.len()).filter(|at| values[*at].is_none() && !found.contains_key(at)).collect();
        let asked: Vec<&Sequence> = reset.iter().map(|at| &self.sequences[*at].here).collect();
        found.extend(reset.iter().copied().zip(read_uncalled(&mut self.publisher, &asked)?));
        for (at, value) in values.into_iter().enumerate() {
            // A sequence that was called while we looked stands where it was called to.
            if let Some(value) = value {
                found.insert(at, Position { value, called: true });
            }
        }
        found.retain(|at, position| self.sequences[*at].position != *position);
        for (at, position) in &found {
            self.sequences[*at].position = *position;
        }
        self.moved.extend(found.into_keys());
        Ok(())
    }

    /// Sets the namesakes of those that have moved on, but never back in their own direction; one that cycles has none and is
    /// set as it is. One round trip.
    pub fn carry(&mut self) -> Result<Vec<Carried>> {
        let moved = std::mem::take(&mut self.moved);
        self.set(&moved)?;
        let carried = self.sequences.iter().map(|planned| Carried {
            name: planned.here.display(),
            position: planned.position,
            outcome: planned.outcome,
        });
        Ok(carried.collect())
    }

    /// The first run of a statement plans it, which takes far longer than the run.
    fn prepare(&mut self) -> Result<()> {
        self.publisher.prepare(&[&sql::flow::READ_MOVED_SEQUENCES])?;
        let uncalled: Vec<usize> =
            (0..self.sequences.len()).filter(|at| !self.sequences[*at].position.called).collect();
        for places in uncalled.chunks(CHUNK) {
            let sequences = places.iter().map(|at| &self.sequences[*at].here);
            let text = reading(sequences);
            let statement = self.publisher.client().prepare(&text);
            let statement = statement.map_err(|error| {
                Error::sql("prepare to read sequences", self.publisher.place.name(), &error)
            })?;
            read_prepared(&mut self.publisher, &statement)?;
            self.uncalled.push((statement, places.to_vec()));
        }
        Ok(())
    }

    /// Sets the namesakes of these.
    fn set(&mut self, moved: &HashSet<usize>) -> Result<()> {
        let mut due: Vec<(&mut Outcome, &Sequence, Position, i64)> = Vec::new();
        let mut places: HashMap<u32, usize> = HashMap::new();
        for (at, planned) in self.sequences.iter_mut().enumerate() {
            let Some((there, standing)) = &planned.there else { continue };
            if !moved.contains(&at) {
                continue;
            }
            if !(there.minimum..=there.maximum).contains(&planned.position.value) {
                planned.outcome = Outcome::OutOfRange;
                continue;
            }
            let one = (&mut planned.outcome, there, planned.position, standing.value);
            match places.get(&there.oid) {
                None => {
                    places.insert(there.oid, due.len());
                    due.push(one);
                }
                // Two tables became one: what comes next is new to both.
                Some(at) if planned.position.is_beyond(due[*at].2, there) => {
                    *due[*at].0 = Outcome::Kept;
                    due[*at] = one;
                }
                Some(_) => *one.0 = Outcome::Kept,
            }
        }
        if self.subscriber.is_dry() {
            for (outcome, sequence, Position { value, called }, _) in due {
                let name = sql::quote_literal(&sequence.quoted());
                self.subscriber.note(format!("select pg_catalog.setval({name}, {value}, {called})"));
                *outcome = Outcome::Set;
            }
            return Ok(());
        }
        let oids: Vec<u32> = due.iter().map(|(_, sequence, ..)| sequence.oid).collect();
        let values: Vec<i64> = due.iter().map(|(_, _, position, _)| position.value).collect();
        let called: Vec<bool> = due.iter().map(|(_, _, position, _)| position.called).collect();
        let ascends: Vec<bool> = due.iter().map(|(_, sequence, ..)| sequence.increment > 0).collect();
        let cycles: Vec<bool> = due.iter().map(|(_, sequence, ..)| sequence.cycles).collect();
        let uncalled: Vec<i64> = due.iter().map(|(.., standing)| *standing).collect();
        // Also for the next time, when clients wait.
        self.subscriber.prepare(&[&sql::flow::SET_SEQUENCES])?;
        if due.is_empty() {
            return Ok(());
        }
        let parameters: [&dyn Parameter; 6] = [&oids, &values, &called, &ascends, &cycles, &uncalled];
        let rows =
            self.subscriber.query(&sql::flow::SET_SEQUENCES, &parameters).doing(|| "set sequences".into())?;
        for ((outcome, ..), row) in due.into_iter().zip(rows) {
            *outcome = if row.get("due") { Outcome::Set } else { Outcome::Kept };
        }
        Ok(())
    }
}

/// Where each stands, by the value that it gave out last; none where it has not been called.
fn read_called(session: &mut Session, oids: impl Iterator<Item = u32>) -> Result<Vec<Option<i64>>> {
    let oids: Vec<u32> = oids.collect();
    let rows = session.query(&sql::flow::READ_SEQUENCES, &[&oids]).doing(|| "read sequences".into())?;
    Ok(rows.iter().map(|row| row.get("value")).collect())
}

/// The same, and the value that one gives next which has not been called.
fn read_exactly(session: &mut Session, sequences: &[&Sequence]) -> Result<Vec<Position>> {
    let values = read_called(session, sequences.iter().map(|sequence| sequence.oid))?;
    let of_uncalled: Vec<&Sequence> = sequences
        .iter()
        .zip(&values)
        .filter_map(|(sequence, value)| value.is_none().then_some(*sequence))
        .collect();
    let mut uncalled = read_uncalled(session, &of_uncalled)?.into_iter();
    let position = |value: Option<i64>| match value {
        Some(value) => Some(Position { value, called: true }),
        None => uncalled.next(),
    };
    Ok(values.into_iter().filter_map(position).collect())
}

/// Reads the sequences themselves, which costs far more than asking for the last value.
fn read_uncalled(session: &mut Session, sequences: &[&Sequence]) -> Result<Vec<Position>> {
    let mut positions = Vec::with_capacity(sequences.len());
    for chunk in sequences.chunks(CHUNK) {
        let rows = session.query_text(&reading(chunk.iter().copied()), &[]);
        positions.extend(rows.doing(|| "read sequences".into())?.iter().map(position_of));
    }
    Ok(positions)
}

fn read_prepared(session: &mut Session, statement: &Statement) -> Result<Vec<Position>> {
    let rows = session.client().query(statement, &[]);
    let rows = rows.map_err(|error| Error::sql("read sequences", session.place.name(), &error))?;
    Ok(rows.iter().map(position_of).collect())
}

fn position_of(row: &postgres::Row) -> Position {
    Position { value: row.get("last_value"), called: row.get("is_called") }
}

/// Position of each sequence, one row each, in their order.
fn reading<'a>(sequences: impl Iterator<Item = &'a Sequence>) -> String {
    let branches: Vec<String> = sequences
        .enumerate()
        .map(|(place, sequence)| {
            format!("select {place} as place, s.last_value, s.is_called from {} as s", sequence.quoted())
        })
        .collect();
    format!("{}\norder by place", branches.join("\nunion all\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::test_server::TestServer;
    use crate::phase::Side;

    #[test]
    fn sequences_never_go_back_in_their_own_direction() {
        let (one, two) = (TestServer::start(""), TestServer::start(""));
        let (source, target) = (one.server(Side::Source), two.server(Side::Target));
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
        let mut plan = plan(&source, &target, None).unwrap();
        set(&mut here, "public.t_s_seq", 41, true);
        plan.look().unwrap();
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
            super::plan(&source, &target, None)
                .and_then(|mut plan| plan.look().and_then(|()| plan.carry()))
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
        let (source, target) = (one.server(Side::Source), two.server(Side::Target));
        let make = "do $$ begin for i in 1..1200 loop execute pg_catalog.format('create sequence public.s%s', i); end loop; end $$";
        source.connect().unwrap().change_script(make).unwrap();
        target.connect().unwrap().change_script(make).unwrap();
        let mut plan = plan(&source, &target, None).unwrap();
        source.connect().unwrap().change_script("select pg_catalog.setval(('public.s' || i)::pg_catalog.regclass, 10) from pg_catalog.generate_series(1, 1200) as i").unwrap();
        let began = std::time::Instant::now();
        plan.look().unwrap();
        let carried = plan.carry().unwrap();
        let took = began.elapsed();
        assert!(carried.iter().all(|c| c.outcome == Outcome::Set && c.position.value == 10));
        assert!(took.as_millis() < 1000, "{took:?}");
        println!("{} sequences in {took:?}", carried.len());
    }
}
