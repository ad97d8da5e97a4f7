//! The tables that the configuration selects, and how they map.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::config::{MirrorPart, Restrict, SchemaMode};
use crate::error::{Error, Finding, Result};
use crate::flow::mapping::doubts::Keys;
use crate::flow::mapping::filter::{self, LeftOut};
use crate::flow::mapping::lint::{self, TableLint};
use crate::flow::mapping::placeless::{list_placeless, not_on_the_other_side, renamed};
use crate::flow::mapping::triggers::{self, list_always_triggers};
use crate::flow::mapping::{MapRule, Mapping, joins, list_defaulted};
use crate::flow::source::publication::Published;
use crate::flow::source::recorded::{self, Why, list_unrecorded};
use crate::flow::{TableName, copy, subscription};
use crate::pattern::Selection;
use crate::pg::Conventions;
use crate::pg::catalog::inventory::list_filter_columns;
use crate::pg::catalog::objects::Name;
use crate::pg::catalog::{self, Column, Part, Table};
use crate::phase::{Command, Place, Side};
use crate::steps::Run;
use crate::steps::mirror::stages::Stage;

impl Run {
    /// Tables of one database that `[mirror]` selects, each with the part that it selects; a partition goes with its root.
    /// UNLOGGED ones are left out: their changes are in no WAL.
    pub fn selected_tables(&mut self, place: impl Into<Place>) -> Result<Vec<Table>> {
        let place = place.into();
        let mut tables = self.matching_tables(place)?;
        tables.retain(|table| !table.unlogged);
        if place == Side::Source && self.config.mirror.schema == SchemaMode::Existing && self.target.is_some()
        {
            let there = self.list_tables(Side::Target)?;
            join_partitions(&mut tables, &there);
        }
        for part in &self.config.mirror.parts {
            let named =
                |table: &&mut Table| table.schema == part.table.schema && table.name == part.table.name;
            for table in tables.iter_mut().filter(named) {
                table.part.filter.clone_from(&part.filter);
                table.part.columns.clone_from(&part.columns);
                if let Some(columns) = &part.columns {
                    // What the target computes goes with them: it is in no list, and is there.
                    table.columns.retain(|column| column.is_generated() || columns.contains(&column.name));
                }
            }
        }
        Ok(tables)
    }

    /// `[[mirror.table]]` by table, for the record.
    pub fn parts(&self) -> BTreeMap<String, Part> {
        let part = |part: &MirrorPart| {
            let (filter, columns) = (part.filter.clone(), part.columns.clone());
            (part.table.to_string(), Part { filter, columns, ..Part::default() })
        };
        self.config.mirror.parts.iter().map(part).collect()
    }

    /// Whether row-level security of a mirrored table binds its owner on a subscriber.
    pub fn binds_owners(&mut self, place: Place) -> Result<bool> {
        let oids: Vec<u32> = self.selected_tables(place)?.iter().map(|table| table.oid).collect();
        subscription::has_bound_owners(self.session(place), &oids)
    }

    /// UNLOGGED tables of the source that `[mirror]` selects: made on the target, and left empty.
    pub fn unlogged_tables(&mut self) -> Result<Vec<Table>> {
        let mut tables = self.matching_tables(Side::Source)?;
        tables.retain(|table| table.unlogged);
        Ok(tables)
    }

    /// Tables of one database whose names `[mirror]` selects.
    pub fn matching_tables(&mut self, place: impl Into<Place>) -> Result<Vec<Table>> {
        let place = place.into();
        let selection = self.config.mirror.selection()?;
        let all = self.list_tables(place)?;
        let mut tables = all.clone();
        tables.retain(|table| match &table.root {
            Some((schema, name)) => selection.matches(schema, name),
            None => selection.matches(&table.schema, &table.name),
        });
        if all.is_empty() && place != Side::Source {
            // Nothing was made there yet.
            return Ok(tables);
        }
        let names: Vec<(&str, &str)> =
            all.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
        for pattern in selection.idle(&names) {
            let message = format!("no table matches \"{pattern}\" of [mirror]");
            if !self.warnings.contains(&message) {
                self.warn(message);
            }
        }
        Ok(tables)
    }

    /// Tables of the target whose changes go home: those that `[mirror]` selects and no `scratch = true` designates.
    pub fn replayed_tables(&mut self) -> Result<Vec<Table>> {
        let scratch = self.scratch_selections()?;
        let mut tables = self.selected_tables(Side::Target)?;
        tables.retain(|table| !scratch.iter().any(|selection| is_designated(selection, table)));
        Ok(tables)
    }

    /// Tables that were copied and are on `source` alone by now, of those that are replayed: no rule of a mapping has them,
    /// since that goes by what `target` has. Partitions go with their root.
    pub fn missing_tables(&mut self, source: Place, target: Place) -> Result<Vec<Table>> {
        let there: HashSet<Name> = self.list_tables(target)?.iter().map(Table::full_name).collect();
        let noted = copy::list_table_copies(self.session(target))?;
        let copied: HashSet<Name> = noted.into_iter().map(|table| table.name).collect();
        if copied.is_subset(&there) {
            return Ok(Vec::new());
        }
        let scratch = self.scratch_selections()?;
        let mut tables = self.selected_tables(source)?;
        tables.retain(|table| {
            let name = table.full_name();
            copied.contains(&name)
                && !there.contains(&name)
                && !table.root.as_ref().is_some_and(|root| copied.contains(root))
                && !scratch.iter().any(|selection| is_designated(selection, table))
        });
        Ok(tables)
    }

    /// What the `[[restrict]]` with `scratch = true` designate.
    pub fn scratch_selections(&self) -> Result<Vec<Selection>> {
        let scratch = self.config.restrict.iter().filter(|restrict| restrict.scratch);
        scratch.map(Restrict::selection).collect()
    }

    /// How the target's tables map to the source's as they are now, through `[[map]]`.
    pub fn replay_mapping(&mut self) -> Result<Mapping> {
        let tables = self.replayed_tables()?;
        self.mapping_home(&tables)
    }

    /// The same without tables that were made since recording began: nothing that is replayed is of them, and they need no place.
    pub fn mapping_of_recorded(&mut self) -> Result<Mapping> {
        let mut tables = self.replayed_tables()?;
        let unrecorded = list_unrecorded(self.target(), None)?;
        let is_new = |table: &Table| {
            let (schema, name) = table.root.clone().unwrap_or_else(|| table.full_name());
            unrecorded.contains(&(TableName { schema, name }, Why::New))
        };
        tables.retain(|table| !is_new(table));
        self.mapping_home(&tables)
    }

    fn mapping_home(&mut self, tables: &[Table]) -> Result<Mapping> {
        let rules = self.map_rules();
        let mapping = self.target_mapping(tables, &rules)?;
        let left_out = self.left_out(&mapping)?;
        let mapping = mapping.beside(left_out);
        if mapping.depends_on_conventions() {
            self.keep_to_the_conventions_of_the_source()?;
        }
        Ok(mapping)
    }

    /// What the mirror's filters have left out, as far as the source's tables as they are now tell.
    fn left_out(&mut self, mapping: &Mapping) -> Result<LeftOut> {
        let mut left_out = LeftOut::default();
        let parts = self.config.mirror.parts.clone();
        let filters: Vec<_> =
            parts.into_iter().filter_map(|part| part.filter.zip(Some(part.table))).collect();
        if filters.is_empty() {
            return Ok(left_out);
        }
        let (old_tables, new_tables) =
            (self.selected_tables(Side::Target)?, catalog::list_tables(self.source())?);
        for (text, table) in filters {
            let from = TableName { schema: table.schema, name: table.name };
            let mut mirrored = HashMap::new();
            for rule in mapping.rules_for(&from.schema, &from.name) {
                let is_alone = mapping.pairs().filter(|other| other.to == rule.to).count() == 1;
                let tables = (filter::named(&old_tables, &rule.from), filter::named(&new_tables, &rule.to));
                let ((Some(old), Some(new)), true, None) = (tables, is_alone, &rule.fills) else { continue };
                if let Ok(reads) = list_filter_columns(self.target(), old)?
                    && let Some(there) = filter::over_new(rule, &text, &reads, old, new)
                {
                    mirrored.insert(rule.to.clone(), there);
                }
            }
            left_out.add(from, mirrored);
        }
        Ok(left_out)
    }

    /// From now on, sessions on both servers write and read values as others on the source do: a value gets its zone, or another type,
    /// as it did when somebody altered the column there.
    fn keep_to_the_conventions_of_the_source(&mut self) -> Result<()> {
        let conventions = Conventions::of_database(self.source())?;
        for session in [&mut self.source, &mut self.target].into_iter().flatten() {
            conventions.adopt(session)?;
        }
        self.source_server.conventions = conventions.clone();
        self.target_server.conventions = conventions;
        Ok(())
    }

    fn map_rules(&self) -> Vec<MapRule> {
        self.config
            .map
            .iter()
            .map(|map| MapRule {
                from: map.from.to_string(),
                to: map.to.to_string(),
                key: map.key.clone(),
                columns: map.columns.clone(),
                drop: map.drop.clone(),
                condition: map.condition.clone(),
                joins: map.joins,
            })
            .collect()
    }

    /// What becomes of each captured column on the source as it is now; `findings` are those of the check of the mapping.
    pub fn lint(&mut self, findings: &[Finding]) -> Result<Vec<TableLint>> {
        let publisher = self.selected_tables(Side::Target)?;
        let rules = self.map_rules();
        let subscriber = self.list_tables(Side::Source)?;
        let defaulted = list_defaulted(self.source())?;
        let has_default =
            |table: &Table, column: &Column| defaulted.contains(&(TableName::of(table), column.name.clone()));
        let mut found = lint::lint(&publisher, &subscriber, &rules, &has_default);
        let (old, new) = (Keys::read(self.target())?, Keys::read(self.source())?);
        lint::add_doubts(&mut found, (&publisher, &subscriber), &rules, (&old, &new));
        triggers::add_doubts(&mut found, &list_always_triggers(self.source())?);
        if let Some(mapping) = &self.checked_mapping {
            lint::add_unsteady(&mut found, mapping);
            lint::add_lost_by_moves(&mut found, mapping);
        }
        lint::add_refusals(&mut found, &publisher, findings);
        Ok(found)
    }

    /// What replay would have no place for on the source as it is now, of which no `[[map]]` says what becomes of it.
    pub fn list_placeless(&mut self) -> Result<Vec<Finding>> {
        let publisher = self.replayed_tables()?;
        let mut placeless = list_placeless(&publisher, &self.list_tables(Side::Source)?, &self.map_rules());
        self.name_as_recorded(&mut placeless, &publisher)?;
        Ok(placeless)
    }

    /// How the target's tables map to the source's by name: the same schema on both sides.
    pub fn identity_mapping(&mut self) -> Result<Mapping> {
        let tables = self.replayed_tables()?;
        self.target_mapping(&tables, &[])
    }

    /// How the tables of a stage's publisher map to its subscriber's by name, for the mirror.
    pub fn mirror_mapping(&mut self, stage: Stage) -> Result<Mapping> {
        let tables = self.selected_tables(stage.publisher())?;
        Mapping::build(&tables, &[], self.session(stage.subscriber()))
    }

    fn target_mapping(&mut self, tables: &[Table], rules: &[MapRule]) -> Result<Mapping> {
        // What is only told of needs not be as new as what changes are to go through.
        let built = if self.command == Command::Check {
            let there = self.list_tables(Side::Source)?;
            Mapping::build_to(tables, &there, rules, self.source())
        } else {
            Mapping::build(tables, rules, self.source())
        };
        let mapping = match built {
            Err(Error::ChecksFailed { mut findings }) => {
                self.name_as_recorded(&mut findings, tables)?;
                return Err(Error::ChecksFailed { findings });
            }
            built => built?,
        };
        joins::require_parents(&mapping, self.target())?;
        Ok(mapping)
    }

    /// Tells of a table without a place that it had one by the name under which it was recorded.
    fn name_as_recorded(&mut self, findings: &mut [Finding], tables: &[Table]) -> Result<()> {
        if findings.is_empty() {
            return Ok(());
        }
        let there = self.list_tables(Side::Source)?;
        let has = |name: &TableName| there.iter().any(|table| TableName::of(table) == *name);
        for table in tables {
            let placeless = not_on_the_other_side(table);
            let Some(finding) = findings.iter_mut().find(|finding| **finding == placeless) else { continue };
            let before = recorded::find_name(self.target(), table.oid)?;
            if let Some(before) = before.filter(|before| *before != TableName::of(table) && has(before)) {
                *finding = renamed(table, &before);
            }
        }
        Ok(())
    }
}

/// Where a partition of the source has no image, all partitioned tables go over as one each, under the root's name: a
/// publication streams all of them by their roots, or none.
fn join_partitions(tables: &mut Vec<Table>, there: &[Table]) {
    let names: HashSet<(&str, &str)> =
        there.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
    let has_image = |table: &Table| names.contains(&(table.schema.as_str(), table.name.as_str()));
    if tables.iter().filter(|table| table.root.is_some()).all(has_image) {
        return;
    }
    let mut sizes: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for table in tables.iter() {
        if let Some(root) = &table.root {
            let (bytes, data_bytes) = sizes.entry(root.clone()).or_default();
            *bytes += table.bytes;
            *data_bytes += table.data_bytes;
        }
    }
    tables.retain(|table| table.root.is_none());
    for table in tables.iter_mut().filter(|table| table.partitioned) {
        table.partitioned = false;
        table.part.through_root = true;
        let size = sizes.get(&table.full_name()).copied();
        (table.bytes, table.data_bytes) = size.unwrap_or_default();
    }
}

/// What a publication of the mirror names. Roots stand for their partitions, later ones included.
pub fn published(tables: &[Table]) -> Vec<Published> {
    let roots = tables.iter().filter(|table| table.root.is_none());
    roots.map(|table| Published { table: TableName::of(table), part: table.part.clone() }).collect()
}

/// What the recording of changes on the target names: every row of the mirrored tables, also one that the mirror's
/// filter would leave out, since it may have been inside before; of their columns those that are mirrored.
pub fn captured(tables: &[Table]) -> Vec<Published> {
    let mut published = published(tables);
    for published in &mut published {
        published.part.filter = None;
    }
    published
}

/// Whether `[[restrict]]` designates the table, by its own name or as a partition of one that it names.
pub fn is_designated(selection: &Selection, table: &Table) -> bool {
    let root = table.root.as_ref().is_some_and(|(schema, name)| selection.matches(schema, name));
    root || selection.matches(&table.schema, &table.name)
}
