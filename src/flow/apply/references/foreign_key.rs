//! The questions about rows that a foreign key is asked.

use crate::flow::apply::statement::{self, From, Statement};
use crate::flow::mapping::foreign_key::{ForeignKey, Owner};
use crate::flow::mapping::{MappedColumn, TableRule};
use crate::sql;

impl ForeignKey {
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
