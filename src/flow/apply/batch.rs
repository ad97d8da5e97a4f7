//! Whole transactions gathered by bytes, and the fewest set-based steps that have their effect.

mod in_order;

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use postgres::types::PgLsn;

pub use self::in_order::in_order;
use crate::flow::mapping::bound::Bound;
use crate::flow::mapping::{Order, TableName};
use crate::flow::source::change::{Row, RowChange, Value};

/// One change of a transaction, with where it goes.
#[derive(Debug)]
pub enum Work {
    /// Of one row.
    Row {
        /// Its table.
        table: Arc<Bound>,
        /// What happened to it.
        change: RowChange,
    },
    /// All rows of these tables are gone.
    Truncate {
        /// The tables.
        tables: Vec<Arc<Bound>>,
    },
}

/// Tables of the subscriber that changes go to.
pub(super) fn targets(work: &[Work]) -> HashSet<&TableName> {
    let mut tables: HashSet<*const Bound> = HashSet::new();
    let mut targets = HashSet::new();
    for work in work {
        let its = match work {
            Work::Row { table, .. } => std::slice::from_ref(table),
            Work::Truncate { tables } => tables,
        };
        for table in its.iter().filter(|table| tables.insert(Arc::as_ptr(table))) {
            targets.extend(table.rules.iter().map(|rule| &rule.rule.to));
        }
    }
    targets
}

/// A marker that arrived in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivedMarker {
    /// A uuid's text.
    pub id: String,
    /// When it was written, as text.
    pub written_at: String,
}

/// A transaction of the publisher, or as much of it as has been read.
#[derive(Debug)]
pub struct Transaction {
    /// Position after its commit; 0 while it is open.
    pub end_lsn: PgLsn,
    /// In commit order.
    pub work: Vec<Work>,
    /// The flow's own markers.
    pub markers: Vec<ArrivedMarker>,
}

/// A set of rows of one table that one statement can handle, or a change that must be alone.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Rows by the keys of these old rows.
    Delete(Vec<Row>),
    /// Rows by key, all with the same columns present.
    Update(Vec<Row>),
    /// New rows.
    Insert(Vec<Row>),
    /// Rows whose keys change. Where there are several, none comes to where another one was, and all values are there.
    Move {
        /// Hold the keys before.
        old: Vec<Row>,
        /// The rows after, in the same order.
        new: Vec<Row>,
    },
}

/// What to do, in order.
#[derive(Debug)]
pub enum Planned {
    /// On one table.
    Rows {
        /// The table.
        table: Arc<Bound>,
        /// The rows.
        step: Step,
    },
    /// Empty these tables.
    Truncate {
        /// The tables.
        tables: Vec<Arc<Bound>>,
    },
}

/// What a batch has to do to one key of a table.
#[derive(Debug)]
enum Net {
    /// The batch has not met it.
    Untouched,
    /// Inserted and deleted again: nothing to do, and known to be absent.
    Gone,
    Insert(Row),
    Update(Row),
    Delete(Row),
    Replace {
        old: Row,
        new: Row,
    },
}

/// For each of the subscriber's tables that a foreign key concerns: a referenced table comes before those that refer to it.
pub type Ranks = HashMap<TableName, usize>;

/// Ranks from pairs of a referring table and the one it refers to. Tables that refer to each other in a circle get some order.
pub fn rank(references: &[(TableName, TableName)]) -> Ranks {
    let mut ranks = Ranks::new();
    for _ in 0..references.len() {
        let mut changed = false;
        for (child, parent) in references.iter().filter(|(child, parent)| child != parent) {
            let least = ranks.get(parent).map_or(1, |rank| rank + 1);
            let rank = ranks.entry(child.clone()).or_insert(0);
            if *rank < least && least <= references.len() {
                *rank = least;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    ranks
}

/// By which steps the last states are reached.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// All deletes before all updates, and these before all inserts, whatever the table: no trigger and no foreign key fires.
    Plain,
    /// The same, but rows are deleted and inserted again where that loses nothing: unique values that wander from row to row never meet.
    Rewritten,
    /// Inserts first, referenced tables before those that refer to them, then updates, then deletes the other way round. No row that
    /// something may refer to is deleted that is to stay.
    Referential(&'a Ranks),
}

/// The history does not add up by key (a row inserted twice, changed after it was deleted): only its order can tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Irregular;

struct TableNet {
    table: Arc<Bound>,
    by_key: HashMap<Box<[u8]>, usize>,
    /// The key that was looked for last, kept for its memory.
    key: Vec<u8>,
    nets: Vec<Net>,
    keyless_inserts: Vec<Row>,
    /// Of rows that are known only as a whole: how many more, or fewer, there are of each in the end.
    counts: HashMap<Row, i64>,
}

/// Rows that go to other partitions, by the same rules.
struct Moved {
    table: Arc<Bound>,
    /// Before and after: a row that comes to where another one was, or goes from there, has to wait for that.
    keys: HashSet<Box<[u8]>>,
    old: Vec<Row>,
    new: Vec<Row>,
}

struct Segment<'a> {
    shape: Shape<'a>,
    tables: Vec<TableNet>,
    index: HashMap<*const Bound, usize>,
    /// Nothing else is here of their rows.
    moved: Option<Moved>,
}

/// The fewest steps with the effect of `work`: the last state of each key, between barriers. One is between changes of a table and
/// of what is looked up in it.
pub fn coalesce<'a>(
    work: impl Iterator<Item = &'a Work>,
    shape: Shape<'_>,
) -> Result<Vec<Planned>, Irregular> {
    let mut plan = Vec::new();
    let fresh = || Segment { shape, tables: Vec::new(), index: HashMap::new(), moved: None };
    let mut segment = fresh();
    for item in work {
        match item {
            Work::Truncate { tables } => {
                std::mem::replace(&mut segment, fresh()).finish(&mut plan);
                plan.push(Planned::Truncate { tables: tables.clone() });
            }
            Work::Row { table, change } => {
                if segment.excludes(table) {
                    std::mem::replace(&mut segment, fresh()).finish(&mut plan);
                }
                if let Some(keys) = keys_of_move(table, change) {
                    if segment.moves_from_or_to(&keys) {
                        std::mem::replace(&mut segment, fresh()).finish(&mut plan);
                    }
                    segment.add_move(table, change, keys);
                    continue;
                }
                if let Some(alone) = segment.add(table, change)? {
                    std::mem::replace(&mut segment, fresh()).finish(&mut plan);
                    plan.push(Planned::Rows { table: Arc::clone(table), step: alone });
                }
            }
        }
    }
    segment.finish(&mut plan);
    Ok(plan)
}

/// `newer` with what it does not carry taken from `older`.
fn merge(older: &Row, newer: &Row) -> Row {
    if !newer.has_unchanged() {
        return newer.clone();
    }
    let pick = |(older, newer)| if newer == Value::Unchanged { older } else { newer };
    older.values().zip(newer.values()).map(pick).collect()
}

/// Whether rows of both are in one table of the subscriber.
fn share_rows(one: &Bound, other: &Bound) -> bool {
    let mut rules = one.rules.iter();
    rules.any(|own| other.rules.iter().any(|its| own.rule.place() == its.rule.place()))
}

/// The keys before and after of a row that goes to another partition, where that may be done together with others.
fn keys_of_move(table: &Bound, change: &RowChange) -> Option<[Box<[u8]>; 2]> {
    let RowChange::Update { old: Some(old), new } = change else { return None };
    if !table.is_one_of_several || new.has_unchanged() {
        return None;
    }
    Some([table.key_of(old)?, table.key_of(new)?])
}

impl Segment<'_> {
    /// Whether changes of `table` must not be mixed with those that it holds: one of both looks up what the other writes, or has its
    /// rows under another name or another description.
    fn excludes(&self, table: &Arc<Bound>) -> bool {
        let look_up = |one: &Bound, other: &Bound| one.looks_up(other) || other.looks_up(one);
        if self.index.contains_key(&Arc::as_ptr(table)) {
            return table.looks_up(table);
        }
        match &self.moved {
            Some(moved) if Arc::ptr_eq(&moved.table, table) => return table.looks_up(table),
            Some(moved) if table.is_one_of_several || share_rows(&moved.table, table) => return true,
            Some(moved) if look_up(&moved.table, table) => return true,
            _ => {}
        }
        let is_described_anew = |net: &TableNet| net.table.relation.is_same_table(&table.relation);
        let is_mixed = |net: &TableNet| table.is_one_of_several && share_rows(&net.table, table);
        self.tables.iter().any(|net| is_described_anew(net) || is_mixed(net) || look_up(table, &net.table))
    }

    fn moves_from_or_to(&self, keys: &[Box<[u8]>]) -> bool {
        self.moved.as_ref().is_some_and(|moved| keys.iter().any(|key| moved.keys.contains(key)))
    }

    /// Takes in a row that goes to another partition, with its [keys](keys_of_move).
    fn add_move(&mut self, table: &Arc<Bound>, change: &RowChange, keys: [Box<[u8]>; 2]) {
        let RowChange::Update { old: Some(old), new } = change else { return };
        let moved = self.moved.get_or_insert_with(|| Moved {
            table: Arc::clone(table),
            keys: HashSet::new(),
            old: Vec::new(),
            new: Vec::new(),
        });
        moved.keys.extend(keys);
        moved.old.push(old.clone());
        moved.new.push(new.clone());
    }

    fn table(&mut self, table: &Arc<Bound>) -> &mut TableNet {
        let at = *self.index.entry(Arc::as_ptr(table)).or_insert_with(|| {
            self.tables.push(TableNet {
                table: Arc::clone(table),
                by_key: HashMap::new(),
                key: Vec::new(),
                nets: Vec::new(),
                keyless_inserts: Vec::new(),
                counts: HashMap::new(),
            });
            self.tables.len() - 1
        });
        &mut self.tables[at]
    }

    /// Takes a change in; returns it as a step when it must stand alone behind all that came before.
    fn add(&mut self, table: &Arc<Bound>, change: &RowChange) -> Result<Option<Step>, Irregular> {
        if table.is_one_of_several {
            return Ok(Some(alone(change)));
        }
        let fires = matches!(self.shape, Shape::Referential(_));
        let net = self.table(table);
        if table.key.is_none() {
            if table.is_countable() && !fires && net.count(change) {
                return Ok(None);
            }
            return Ok(match change {
                RowChange::Insert { new } => {
                    net.keyless_inserts.push(new.clone());
                    None
                }
                other => Some(alone(other)),
            });
        }
        match change {
            RowChange::Insert { new } => net.put(new.clone(), fires)?,
            RowChange::Delete { old } => {
                let net = net.at(old)?;
                *net = match std::mem::replace(net, Net::Untouched) {
                    Net::Untouched | Net::Update(_) => Net::Delete(old.clone()),
                    Net::Insert(_) => Net::Gone,
                    Net::Replace { old, .. } => Net::Delete(old),
                    Net::Gone | Net::Delete(_) => return Err(Irregular),
                };
            }
            RowChange::Update { old: Some(old), new } if table.key_of(old) != table.key_of(new) => {
                return net.change_key(old, new, fires);
            }
            RowChange::Update { new, .. } => {
                let net = net.at(new)?;
                *net = match std::mem::replace(net, Net::Untouched) {
                    Net::Untouched => Net::Update(new.clone()),
                    Net::Insert(older) => Net::Insert(merge(&older, new)),
                    Net::Update(older) => Net::Update(merge(&older, new)),
                    Net::Replace { old, new: older } => Net::Replace { old, new: merge(&older, new) },
                    Net::Gone | Net::Delete(_) => return Err(Irregular),
                };
            }
        }
        Ok(None)
    }

    fn finish(self, plan: &mut Vec<Planned>) {
        let mut deletes = Vec::new();
        let mut updates = Vec::new();
        let mut inserts = Vec::new();
        let rank = |table: &Bound| match self.shape {
            Shape::Referential(ranks) => {
                table.rules.iter().filter_map(|rule| ranks.get(&rule.rule.to)).copied().max().unwrap_or(0)
            }
            Shape::Plain | Shape::Rewritten => 0,
        };
        let rewrites = matches!(self.shape, Shape::Rewritten);
        let mut tables = self.tables;
        // What fills columns of a row comes behind what makes the row.
        let fills = |table: &Bound| table.rules.iter().any(|rule| rule.rule.fills.is_some());
        tables.sort_by_key(|net| (rank(&net.table), fills(&net.table)));
        for mut net in tables {
            if net.table.order == Order::Any && matches!(self.shape, Shape::Plain) {
                net.sort();
            }
            let TableNet { table, nets, keyless_inserts, counts, .. } = net;
            let mut delete = Vec::new();
            let mut insert = keyless_inserts;
            for (row, count) in counts {
                let set = if count < 0 { &mut delete } else { &mut insert };
                set.extend(std::iter::repeat_n(row, count.unsigned_abs() as usize));
            }
            let mut update = Vec::new();
            let mut partial_update: HashMap<Vec<bool>, Vec<Row>> = HashMap::new();
            for net in nets {
                match net {
                    Net::Untouched | Net::Gone => {}
                    Net::Insert(new) => insert.push(new),
                    Net::Delete(old) => delete.push(old),
                    Net::Replace { old, new } => {
                        delete.push(old);
                        insert.push(new);
                    }
                    Net::Update(new) if rewrites && table.complete && !new.has_unchanged() => {
                        delete.push(new.clone());
                        insert.push(new);
                    }
                    Net::Update(new) if new.has_unchanged() => {
                        let present = new.values().map(|value| value != Value::Unchanged).collect();
                        partial_update.entry(present).or_default().push(new);
                    }
                    Net::Update(new) => update.push(new),
                }
            }
            let rows = |step| Planned::Rows { table: Arc::clone(&table), step };
            if !delete.is_empty() {
                deletes.push(rows(Step::Delete(delete)));
            }
            if !update.is_empty() {
                updates.push(rows(Step::Update(update)));
            }
            updates.extend(partial_update.into_values().map(|set| rows(Step::Update(set))));
            if !insert.is_empty() {
                inserts.push(rows(Step::Insert(insert)));
            }
        }
        if let Some(Moved { table, old, new, .. }) = self.moved {
            updates.push(Planned::Rows { table, step: Step::Move { old, new } });
        }
        if let Shape::Referential(_) = self.shape {
            plan.extend(inserts.into_iter().chain(updates).chain(deletes.into_iter().rev()));
        } else {
            plan.extend(deletes.into_iter().chain(updates).chain(inserts));
        }
    }
}

impl TableNet {
    /// The entry for the row's key.
    fn at(&mut self, row: &Row) -> Result<&mut Net, Irregular> {
        self.key.clear();
        if !self.table.put_key(row, &mut self.key) {
            return Err(Irregular);
        }
        let at = if let Some(known) = self.by_key.get(&self.key[..]) {
            *known
        } else {
            self.nets.push(Net::Untouched);
            self.by_key.insert(self.key[..].into(), self.nets.len() - 1);
            self.nets.len() - 1
        };
        Ok(&mut self.nets[at])
    }

    /// Puts rows in the order of their keys: what is near in an index, or on one page, is then written at once.
    fn sort(&mut self) {
        let mut places: Vec<(Box<[u8]>, usize)> = std::mem::take(&mut self.by_key).into_iter().collect();
        places.sort_unstable();
        let mut take = |(_, at): (_, usize)| std::mem::replace(&mut self.nets[at], Net::Untouched);
        self.nets = places.into_iter().map(&mut take).collect();
    }

    /// Takes a change of a row that is known only as a whole into the count; whether it could.
    fn count(&mut self, change: &RowChange) -> bool {
        let (old, new) = match change {
            RowChange::Insert { new } => (None, Some(new)),
            RowChange::Delete { old } => (Some(old), None),
            RowChange::Update { old: Some(old), new } => (Some(old), Some(new)),
            RowChange::Update { old: None, .. } => return false,
        };
        if old.into_iter().chain(new).any(Row::has_unchanged) {
            return false;
        }
        for (row, by) in [(old, -1), (new, 1)] {
            if let Some(row) = row {
                *self.counts.entry(row.clone()).or_default() += by;
            }
        }
        true
    }

    /// `fires`: a row that is deleted and inserted again would take others along.
    fn put(&mut self, new: Row, fires: bool) -> Result<(), Irregular> {
        let net = self.at(&new)?;
        *net = match std::mem::replace(net, Net::Untouched) {
            Net::Untouched | Net::Gone => Net::Insert(new),
            Net::Delete(old) if !fires => Net::Replace { old, new },
            Net::Delete(_) | Net::Insert(_) | Net::Update(_) | Net::Replace { .. } => return Err(Irregular),
        };
        Ok(())
    }

    /// A key change is a delete and an insert where nothing is lost by that, else a step of its own.
    fn change_key(&mut self, old: &Row, new: &Row, fires: bool) -> Result<Option<Step>, Irregular> {
        let complete = self.table.complete && !fires;
        let net = self.at(old)?;
        let (before, after) = match std::mem::replace(net, Net::Untouched) {
            Net::Insert(older) => (Net::Gone, merge(&older, new)),
            Net::Replace { old, new: older } => (Net::Delete(old), merge(&older, new)),
            Net::Untouched if complete && !new.has_unchanged() => (Net::Delete(old.clone()), new.clone()),
            Net::Update(older) if complete && !merge(&older, new).has_unchanged() => {
                (Net::Delete(old.clone()), merge(&older, new))
            }
            pending @ (Net::Untouched | Net::Update(_)) => {
                *net = pending;
                return Ok(Some(Step::Move { old: vec![old.clone()], new: vec![new.clone()] }));
            }
            Net::Gone | Net::Delete(_) => return Err(Irregular),
        };
        *net = before;
        self.put(after, fires)?;
        Ok(None)
    }
}

/// A change as a step of its own.
fn alone(change: &RowChange) -> Step {
    match change {
        RowChange::Insert { new } => Step::Insert(vec![new.clone()]),
        RowChange::Delete { old } => Step::Delete(vec![old.clone()]),
        RowChange::Update { old: Some(old), new } => {
            Step::Move { old: vec![old.clone()], new: vec![new.clone()] }
        }
        RowChange::Update { old: None, new } => Step::Update(vec![new.clone()]),
    }
}
