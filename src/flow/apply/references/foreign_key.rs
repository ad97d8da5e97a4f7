//! A foreign key, and the questions about rows that it is asked.

use crate::flow::apply::statement::{self, From, Statement};
use crate::flow::mapping::{MappedColumn, TableName, TableRule};
use crate::sql;

/// Which rows have to have a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Those with a value in each of its columns.
    Simple,
    /// Those with a value in any of them.
    Full,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The table's that rows are written to, or that of one above it.
    Table,
    /// That of one of its partitions alone.
    Partition,
}

/// One foreign key.
#[derive(Debug, Clone)]
pub(in crate::flow) struct ForeignKey {
    pub(in crate::flow) name: String,
    pub(in crate::flow) table: TableName,
    pub(in crate::flow) columns: Vec<String>,
    pub(in crate::flow) referenced: TableName,
    pub(in crate::flow) referenced_columns: Vec<String>,
    /// Types of these columns, as `format_type` writes them.
    pub(super) referenced_types: Vec<String>,
    pub(super) matching: Match,
    /// Its last column is a range that parents have to cover together (PostgreSQL 18).
    pub(super) is_of_periods: bool,
    /// A row may come before its parent, in the same transaction.
    pub(in crate::flow) deferrable: bool,
    /// All rows are known to fulfil it.
    pub(super) validated: bool,
    pub(super) owner: Owner,
}

impl ForeignKey {
    /// Whether a row is held to it.
    pub(in crate::flow) fn concerns(&self, alias: &str) -> String {
        let test = |column: &String| format!("{alias}.{} is not null", sql::quote_identifier(column));
        let together = match self.matching {
            Match::Simple => " and ",
            Match::Full => " or ",
        };
        format!("({})", self.columns.iter().map(test).collect::<Vec<_>>().join(together))
    }

    /// Its parent is not there.
    fn has_no_parent(&self, alias: &str) -> String {
        self.has_no_parent_in(&self.referenced, alias)
    }

    /// Its parent is not in this table.
    pub(in crate::flow) fn has_no_parent_in(&self, parent: &TableName, alias: &str) -> String {
        let pair = |(column, referenced): (&String, &String)| {
            let child = format!("{alias}.{}", sql::quote_identifier(column));
            (format!("p.{}", sql::quote_identifier(referenced)), child)
        };
        let mut pairs: Vec<(String, String)> =
            self.columns.iter().zip(&self.referenced_columns).map(pair).collect();
        let period = if self.is_of_periods { pairs.pop() } else { None };
        let mut conditions: Vec<String> =
            pairs.iter().map(|(parent, child)| format!("{parent} = {child}")).collect();
        let parent = parent.quoted();
        let Some((covering, covered)) = period else {
            return format!("not exists (select from {parent} as p where {})", conditions.join(" and "));
        };
        conditions.push(format!("{covering} operator(pg_catalog.&&) {covered}"));
        format!(
            "not coalesce({covered} operator(pg_catalog.<@) \
             (select pg_catalog.range_agg({covering}) from {parent} as p where {}), false)",
            conditions.join(" and ")
        )
    }

    /// A row `c` refers to these values of its parent.
    fn refers_to(&self, values: &[String]) -> String {
        let pair = |(at, (column, value)): (usize, (&String, &String))| {
            let is_period = self.is_of_periods && at + 1 == self.columns.len();
            let operator = if is_period { "operator(pg_catalog.&&)" } else { "=" };
            format!("c.{} {operator} {value}", sql::quote_identifier(column))
        };
        self.columns.iter().zip(values).enumerate().map(pair).collect::<Vec<_>>().join(" and ")
    }

    /// Whether a row lacks its parent. It is found by its key; one without a key is made again by its expressions.
    pub(in crate::flow::apply) fn find_orphan(&self, rule: &TableRule, from: From<'_>) -> Statement {
        if rule.key.is_empty() {
            return self.find_orphan_made(rule, from);
        }
        let columns = statement::columns_read(rule.key.iter());
        let text = format!(
            "select 1::int8 from ({}) as s, {} as t where {} and {} and {} limit 1",
            statement::evaluated(&[], &rule.key, &statement::stage_from(rule, &columns, 1, from)),
            match self.owner {
                Owner::Table => rule.target(),
                Owner::Partition => self.table.quoted(),
            },
            statement::key_condition(rule, "s"),
            self.concerns("t"),
            self.has_no_parent("t"),
        );
        Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
    }

    fn find_orphan_made(&self, rule: &TableRule, from: From<'_>) -> Statement {
        let Some(made) = mapped(rule, &self.columns) else {
            // A default has given it its parent, which nothing here tells of.
            let text = self.find_any_orphan();
            return Statement { text, takes_count: false, columns: Vec::new(), old_columns: Vec::new() };
        };
        let columns = statement::columns_read(made.iter().copied());
        let name = |(at, column): (usize, &&MappedColumn)| {
            format!("s.v{at}::{} as {}", column.type_name, sql::quote_identifier(&column.name))
        };
        let values: Vec<String> =
            self.columns.iter().map(|column| format!("t.{}", sql::quote_identifier(column))).collect();
        // Whether it is still there is asked of the few that lack their parent.
        let text = format!(
            "select 1::int8 from (select * from (select {} from ({}) as s) as t where {} and {} offset 0) as t \
             where exists (select from {} as c where {}) limit 1",
            made.iter().enumerate().map(name).collect::<Vec<_>>().join(", "),
            statement::evaluated(&made, &[], &statement::stage_from(rule, &columns, 1, from)),
            self.concerns("t"),
            self.has_no_parent("t"),
            self.table.quoted(),
            self.refers_to(&values),
        );
        Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() }
    }

    /// The old columns whose values its columns take as they are, where they take such of each; no expression has to be evaluated then.
    pub(in crate::flow::apply) fn plain_columns(&self, rule: &TableRule) -> Option<Vec<usize>> {
        if self.owner == Owner::Partition {
            // They don't tell into which one a row has gone.
            return None;
        }
        mapped(rule, &self.columns)?.iter().map(|column| statement::taken_as_it_is(rule, column)).collect()
    }

    /// Whether a row of this temporary table, which has the values of `columns` from [`ForeignKey::plain_columns`], lacks its parent.
    pub(in crate::flow::apply) fn find_orphan_in(
        &self,
        stage: &str,
        rule: &TableRule,
        columns: &[usize],
    ) -> String {
        let rename = |(name, at): (&String, &usize)| {
            let staged = sql::quote_identifier(&rule.old_columns[*at].name);
            format!("{staged} as {}", sql::quote_identifier(name))
        };
        let values: Vec<String> = self.columns.iter().zip(columns).map(rename).collect();
        format!(
            "select 1::int8 from (select {} from {stage}) as t where {} and {} limit 1",
            values.join(", "),
            self.concerns("t"),
            self.has_no_parent("t"),
        )
    }

    /// What rows, found by their key, hold in the columns that it refers to; `None` where the key holds these.
    pub(in crate::flow::apply) fn read_referenced(
        &self,
        rule: &TableRule,
        from: From<'_>,
    ) -> Option<Statement> {
        let is_in_key = |column: &String| rule.key.iter().any(|part| part.name == *column);
        if self.referenced_columns.iter().all(is_in_key) {
            return None;
        }
        let names: Vec<String> =
            self.referenced_columns.iter().map(|name| format!("t.{}", sql::quote_identifier(name))).collect();
        let value = |name: &String| match from {
            From::Parameters => format!("{name}::text"),
            From::Table(_) => name.clone(),
        };
        let values: Vec<String> = names.iter().map(value).collect();
        let present: Vec<String> = names.iter().map(|name| format!("{name} is not null")).collect();
        let columns = statement::columns_read(rule.key.iter());
        let text = format!(
            "select {} from ({}) as s, {} as t where {} and {}",
            values.join(", "),
            statement::evaluated(&[], &rule.key, &statement::stage_from(rule, &columns, 1, from)),
            rule.target(),
            statement::key_condition(rule, "s"),
            present.join(" and "),
        );
        Some(Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() })
    }

    /// Columns of a temporary table for what [`ForeignKey::read_referenced`] finds.
    pub(in crate::flow::apply) fn referenced_definition(&self) -> String {
        let column = |(at, type_name): (usize, &String)| format!("c{at} {type_name}");
        self.referenced_types.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
    }

    /// Whether a row still refers to one of these values, which no parent has any more.
    pub(in crate::flow::apply) fn find_left_behind(&self) -> String {
        let arrays: Vec<String> = (1..=self.columns.len()).map(statement::unnest).collect();
        let names: Vec<String> = (0..self.columns.len()).map(|at| format!("c{at}")).collect();
        let typed = |(name, type_name): (&String, &String)| {
            format!("{} as {name}", statement::read_text(&format!("u.{name}"), type_name))
        };
        let values: Vec<String> = names.iter().zip(&self.referenced_types).map(typed).collect();
        self.find_left_behind_in(&format!(
            "(select {} from rows from ({}) as u({}))",
            values.join(", "),
            arrays.join(", "),
            names.join(", "),
        ))
    }

    /// Whether a row still refers to one of the values of `from`, `c0`, …, which no parent has any more.
    pub(in crate::flow::apply) fn find_left_behind_in(&self, from: &str) -> String {
        let values: Vec<String> = (0..self.columns.len()).map(|at| format!("v.c{at}")).collect();
        format!(
            "select 1::int8 from {from} as v, {} as c where {} and {} limit 1",
            self.table.quoted(),
            self.refers_to(&values),
            self.has_no_parent("c"),
        )
    }

    /// Any row that lacks its parent.
    pub(in crate::flow::apply) fn find_any_orphan(&self) -> String {
        format!(
            "select 1::int8 from {} as t where {} and {} limit 1",
            self.table.quoted(),
            self.concerns("t"),
            self.has_no_parent("t")
        )
    }

    /// Whether a row still refers to one that was found by its key, or was known as a whole, and is gone; `None` where that does
    /// not tell.
    pub(in crate::flow::apply) fn find_bereft(&self, rule: &TableRule, from: From<'_>) -> Option<Statement> {
        let (made, values): (Vec<&MappedColumn>, Vec<String>) = if rule.key.is_empty() {
            let made = mapped(rule, &self.referenced_columns)?;
            let value = |(at, column): (usize, &&MappedColumn)| format!("s.v{at}::{}", column.type_name);
            let values = made.iter().enumerate().map(value).collect();
            (made, values)
        } else {
            let position = |name: &String| rule.key.iter().position(|column| column.name == *name);
            let value = |name: &String| position(name).map(|at| format!("s.k{at}"));
            (Vec::new(), self.referenced_columns.iter().map(value).collect::<Option<_>>()?)
        };
        let columns = statement::columns_read(made.iter().copied().chain(&rule.key));
        let text = format!(
            "select 1::int8 from ({}) as s, {} as c where {} and {} limit 1",
            statement::evaluated(&made, &rule.key, &statement::stage_from(rule, &columns, 1, from)),
            self.table.quoted(),
            self.refers_to(&values),
            self.has_no_parent("c"),
        );
        Some(Statement { text, takes_count: columns.is_empty(), columns, old_columns: Vec::new() })
    }
}

/// What these columns of the rule's table are made of; `None` where one of them is left to its default.
fn mapped<'r>(rule: &'r TableRule, names: &[String]) -> Option<Vec<&'r MappedColumn>> {
    names.iter().map(|name| rule.columns.iter().find(|column| column.name == *name)).collect()
}
