//! Sequences of the subscriber whose column gets other values than a sequence of the publisher gives: the column itself tells
//! what they have to give next.

use std::collections::{HashMap, HashSet};

use postgres::Statement;

use super::{CHUNK, Carried, Outcome, Owner, Pairs, Position, Sequence, SequencePlan};
use crate::error::{Doing as _, Error, Result};
use crate::flow::TableName;
use crate::flow::mapping::{Mapping, TableRule, is_column};
use crate::pg::Session;
use crate::pg::parameter::Parameter;
use crate::sql;

/// A column that a sequence fills.
#[derive(Debug, Clone)]
pub(super) struct Filled {
    /// `pg_class.oid` of the sequence.
    pub(super) sequence: u32,
    pub(super) column: Owner,
    /// With its values as they are.
    pub(super) is_plain: bool,
    /// Its furthest value is a number that can be had in a moment.
    is_readable: bool,
    is_partitioned: bool,
}

impl Filled {
    /// Whether its furthest value can be had in a moment, and tells where the sequence has to go on.
    fn tells(&self) -> bool {
        self.is_plain && self.is_readable
    }
}

/// Columns of the database that sequences fill.
pub(super) fn list_filled(session: &mut Session) -> Result<Vec<Filled>> {
    let rows = session.query(&sql::catalog::LIST_FILLED_COLUMNS, &[])?;
    let filled = |row: &postgres::Row| Filled {
        sequence: row.get("sequence"),
        column: (row.get("schema_name"), row.get("table_name"), row.get("column_name")),
        is_plain: row.get("is_plain"),
        is_readable: row.get("is_readable"),
        is_partitioned: row.get("is_partitioned"),
    };
    Ok(rows.iter().map(filled).collect())
}

/// Those of `there` that get, by one of the rules at least, other values than the sequences paired with theirs have given.
pub(super) fn without_equal(
    here: &[Filled],
    mut there: Vec<Filled>,
    pairs: &Pairs,
    mapping: &Mapping,
) -> Vec<Filled> {
    let rules = rules_by_target(mapping);
    let paired: HashSet<(u32, u32)> =
        pairs.iter().filter_map(|(here, there)| Some((here.oid, there.as_ref()?.oid))).collect();
    let mut fillers: HashMap<&Owner, Vec<u32>> = HashMap::new();
    for filled in here {
        fillers.entry(&filled.column).or_default().push(filled.sequence);
    }
    there.retain(|filled| {
        let is_equal = |rule: &TableRule, old: &str| {
            let old = (rule.from.schema.clone(), rule.from.name.clone(), old.to_owned());
            let mut its = fillers.get(&old).into_iter().flatten();
            its.any(|sequence| paired.contains(&(*sequence, filled.sequence)))
        };
        writing(&rules, &filled.column).any(|(rule, expression, _)| {
            let mut old = rule.old_columns.iter().filter(|old| is_column(expression, &old.name));
            !old.any(|old| is_equal(rule, &old.name))
        })
    });
    there
}

type RulesByTarget<'m> = HashMap<&'m TableName, Vec<&'m TableRule>>;

fn rules_by_target(mapping: &Mapping) -> RulesByTarget<'_> {
    let groups = mapping.by_target().into_iter();
    groups.map(|group| (&group[0].to, group.into_iter().map(AsRef::as_ref).collect())).collect()
}

/// The rules that write a column, each with the expression and the old columns that this reads.
fn writing<'a>(
    rules: &'a RulesByTarget<'_>,
    (schema, table, column): &'a Owner,
) -> impl Iterator<Item = (&'a TableRule, &'a str, &'a [usize])> {
    let table = TableName { schema: schema.clone(), name: table.clone() };
    let group = rules.get(&table).into_iter().flatten();
    group.flat_map(move |rule| {
        let its = rule.columns.iter().filter(move |mapped| mapped.name == *column);
        its.map(move |mapped| (*rule, mapped.expression.as_str(), mapped.reads.as_slice()))
    })
}

/// A sequence of the subscriber of which nobody can tell in a moment what it has to give next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// `public.orders_id_seq`.
    pub sequence: String,
    /// What it fills.
    pub table: TableName,
    /// Column of that.
    pub column: String,
}

/// Sequences of the subscriber that go by their column.
#[derive(Default)]
pub(super) struct Numbering {
    told: Vec<(Sequence, Filled)>,
    untold: Vec<Untold>,
    /// Columns of the publisher from which the values of the told ones are computed.
    read: HashSet<Owner>,
    /// Statements that read where they and their columns stand, and which these are.
    statements: Vec<(Statement, Vec<usize>)>,
}

impl Numbering {
    /// Of these columns. A sequence that cycles has no direction in which a value could be the furthest.
    pub(super) fn new(filled: Vec<Filled>, sequences: &[Sequence], mapping: &Mapping) -> Numbering {
        let by_oid: HashMap<u32, &Sequence> = sequences.iter().map(|one| (one.oid, one)).collect();
        let rules = rules_by_target(mapping);
        let mut numbering = Numbering::default();
        for filled in filled {
            let Some(sequence) = by_oid.get(&filled.sequence).filter(|sequence| !sequence.cycles) else {
                continue;
            };
            if !filled.tells() {
                let (schema, name, column) = filled.column;
                let table = TableName { schema, name };
                numbering.untold.push(Untold { sequence: sequence.display(), table, column });
                continue;
            }
            for (rule, _, reads) in writing(&rules, &filled.column) {
                let name = |at: &usize| rule.old_columns[*at].name.clone();
                let read = reads.iter().map(name);
                let owner = |column| (rule.from.schema.clone(), rule.from.name.clone(), column);
                numbering.read.extend(read.map(owner));
            }
            numbering.told.push(((*sequence).clone(), filled));
        }
        numbering
    }

    /// Whether what this sequence of the publisher numbers is numbered by one of these.
    pub(super) fn stands_for(&self, sequence: &Sequence) -> bool {
        sequence.owner.as_ref().is_some_and(|owner| self.read.contains(owner))
    }
}

/// Sequences of the publisher that carrying would leave where they stand on the subscriber, since there is nothing to take their
/// values; and those of the subscriber that nobody can set in a moment.
pub fn list_unfit(
    publisher: &mut Session,
    subscriber: &mut Session,
    mapping: &Mapping,
) -> Result<(Vec<Sequence>, Vec<Untold>)> {
    let (pairs, numbering) = super::pair_all(publisher, subscriber, Some(mapping))?;
    let is_missing =
        |(sequence, there): &(Sequence, Option<Sequence>)| there.is_none() && !numbering.stands_for(sequence);
    let missing = pairs.into_iter().filter(is_missing).map(|(sequence, _)| sequence).collect();
    Ok((missing, numbering.untold))
}

impl SequencePlan {
    /// So that they are planned before clients are held.
    pub(super) fn prepare_numbering(&mut self) -> Result<()> {
        let places: Vec<usize> = (0..self.numbering.told.len()).collect();
        for places in places.chunks(CHUNK) {
            let branches: Vec<String> =
                places.iter().map(|at| reading(*at, &self.numbering.told[*at])).collect();
            let text = format!("{}\norder by place", branches.join("\nunion all\n"));
            let prepared = self.subscriber.client().prepare(&text);
            let statement =
                prepared.map_err(|error| Error::sql(READING, self.subscriber.place.name(), &error))?;
            self.numbering.statements.push((statement, places.to_vec()));
        }
        Ok(())
    }

    /// Sets sequences whose column gets values that no sequence of the publisher gives past the furthest of these, in their own
    /// direction and their own steps. To be done again once the last change is there. Some hundreds are one round trip, and one
    /// more where any is due.
    pub fn go_past_columns(&mut self) -> Result<Vec<Carried>> {
        let mut due: HashMap<u32, (&Sequence, Position, i64)> = HashMap::new();
        let mut gone = Vec::new();
        for (statement, places) in &self.numbering.statements {
            let rows = self.subscriber.client().query(statement, &[]);
            let rows = rows.map_err(|error| Error::sql(READING, self.subscriber.place.name(), &error))?;
            for (row, at) in rows.iter().zip(places) {
                let (sequence, _) = &self.numbering.told[*at];
                let Some(furthest) = row.get("furthest") else { continue };
                let standing = Position { value: row.get("last_value"), called: row.get("is_called") };
                match past(sequence, standing, furthest) {
                    Past::Already => {}
                    Past::By(next) => {
                        let one = due.entry(sequence.oid).or_insert((sequence, standing, next));
                        // The same one may fill several columns.
                        one.2 = if sequence.increment > 0 { one.2.max(next) } else { one.2.min(next) };
                    }
                    Past::OutOfReach => gone.push(Carried {
                        name: sequence.display(),
                        position: standing,
                        outcome: Outcome::Exhausted,
                    }),
                }
            }
        }
        let due: Vec<(&Sequence, Position, i64)> = due.into_values().collect();
        if self.subscriber.is_dry() {
            for (sequence, _, next) in &due {
                let name = sql::quote_literal(&sequence.quoted());
                self.subscriber.note(format!("select pg_catalog.setval({name}, {next}, false)"));
            }
        } else if !due.is_empty() {
            let oids: Vec<u32> = due.iter().map(|(sequence, ..)| sequence.oid).collect();
            let values: Vec<i64> = due.iter().map(|(.., next)| *next).collect();
            let called = vec![false; due.len()];
            let ascends: Vec<bool> = due.iter().map(|(sequence, ..)| sequence.increment > 0).collect();
            let cycles = vec![false; due.len()];
            let uncalled: Vec<i64> = due.iter().map(|(_, standing, _)| standing.value).collect();
            let parameters: [&dyn Parameter; 6] = [&oids, &values, &called, &ascends, &cycles, &uncalled];
            self.subscriber.query(&sql::flow::SET_SEQUENCES, &parameters).doing(|| "set sequences".into())?;
        }
        gone.extend(due.iter().map(|(sequence, _, next)| Carried {
            name: sequence.display(),
            position: Position { value: *next, called: false },
            outcome: Outcome::Set,
        }));
        Ok(gone)
    }
}

const READING: &str = "read the furthest values of columns";

/// Where a sequence and its column stand.
fn reading(place: usize, (sequence, filled): &(Sequence, Filled)) -> String {
    let (schema, table, column) = &filled.column;
    let only = if filled.is_partitioned { "" } else { "only " };
    let (table, column) = (sql::quote_qualified(schema, table), sql::quote_identifier(column));
    let end = if sequence.increment > 0 { "max" } else { "min" };
    // A number may be larger than any that a sequence gives.
    format!(
        "select {place} as place, s.last_value, s.is_called, greatest(least((select pg_catalog.{end}(t.{column}) from {only}{table} \
         as t), 9223372036854775807), -9223372036854775808)::int8 as furthest from {} as s",
        sequence.quoted()
    )
}

/// Whether a sequence is past a value.
#[derive(Debug, PartialEq, Eq)]
enum Past {
    Already,
    /// It would be if it gave this next.
    By(i64),
    /// Its limits end before.
    OutOfReach,
}

fn past(sequence: &Sequence, standing: Position, furthest: i64) -> Past {
    let step = i128::from(sequence.increment);
    let next = i128::from(standing.value) + if standing.called { step } else { 0 };
    let behind_by = (i128::from(furthest) - next) * step.signum();
    if behind_by < 0 {
        return Past::Already;
    }
    let next = next + (behind_by / step.abs() + 1) * step;
    let is_allowed = |next: &i64| (sequence.minimum..=sequence.maximum).contains(next);
    i64::try_from(next).ok().filter(is_allowed).map_or(Past::OutOfReach, Past::By)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_goes_on_past_a_value_in_its_own_direction_and_steps() {
        let sequence = |increment, minimum, maximum| Sequence {
            oid: 1,
            schema: "public".into(),
            name: "s".into(),
            increment,
            minimum,
            maximum,
            cycles: false,
            belongs_to: "postgres".to_owned(),
            settable: true,
            owner: None,
            identity: false,
        };
        let at = |value, called| Position { value, called };
        let up = sequence(1, 1, i64::MAX);
        assert_eq!(past(&up, at(100, true), 100), Past::Already);
        assert_eq!(past(&up, at(100, false), 100), Past::By(101));
        assert_eq!(past(&up, at(100, true), 150), Past::By(151));
        assert_eq!(past(&up, at(100, true), i64::MAX), Past::OutOfReach);
        // Of two servers that share the numbers, this one gives the odd ones.
        let odd = sequence(2, 1, 1000);
        assert_eq!(past(&odd, at(1, true), 8), Past::By(9));
        assert_eq!(past(&odd, at(1, true), 9), Past::By(11));
        assert_eq!(past(&odd, at(1, true), 2), Past::Already);
        assert_eq!(past(&odd, at(1, true), 999), Past::OutOfReach);
        let down = sequence(-5, -1000, 10);
        assert_eq!(past(&down, at(0, true), -5), Past::By(-10));
        assert_eq!(past(&down, at(0, true), -4), Past::Already);
        assert_eq!(past(&down, at(0, false), 500), Past::Already);
        assert_eq!(past(&down, at(-995, true), -1000), Past::OutOfReach);
    }
}
