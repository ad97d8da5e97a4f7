//! The rule of each pair of tables, as a `[[map]]` or the names say it, before the server has read its expressions.

use std::collections::{HashMap, HashSet};

use super::facts::{FIRST_USER_OID, Facts};
use super::joins;
use super::lint::{mentions, quoted_where_needed, toml_key, toml_table, toml_text};
use super::placeless::not_on_the_other_side;
use super::{
    Condition, MapRule, MappedColumn, OldColumn, Order, TableName, TableRule, finding, is_column_name,
};
use crate::error::Finding;
use crate::pg::catalog::{Column, Identity, Table};
use crate::sql;

/// The rules of all tables, with what explicit expressions read still to be found out, and what does not fit.
pub(super) fn draft(
    publisher: &[Table],
    subscriber: &[Table],
    rules: &[MapRule],
    facts: &Facts,
) -> (Vec<TableRule>, Vec<Finding>) {
    let targets: HashMap<String, &Table> = subscriber.iter().map(|table| (table.display(), table)).collect();
    let mut findings = Vec::new();
    let mut drafts = Vec::new();
    for table in publisher {
        let root = table.root.as_ref().map(|(schema, name)| format!("{schema}.{name}"));
        let mut own = rules_from(rules, &table.display());
        if own.is_empty() {
            own = root.as_deref().map_or_else(Vec::new, |root| rules_from(rules, root));
        }
        if own.is_empty() {
            let target =
                targets.get(&table.display()).or_else(|| root.as_deref().and_then(|root| targets.get(root)));
            match target {
                Some(target) => drafts.push(pair(table, target, None, facts, &mut findings)),
                None => findings.push(not_on_the_other_side(table)),
            }
        }
        for at in own {
            if let Some(target) = targets.get(&rules[at].to) {
                drafts.push(pair(table, target, Some((at, &rules[at])), facts, &mut findings));
            }
        }
    }
    (drafts, findings)
}

fn rules_from(rules: &[MapRule], table: &str) -> Vec<usize> {
    (0..rules.len()).filter(|at| rules[*at].from == table).collect()
}

/// Columns that the publisher generates and the subscriber does not, of which `map` says nothing: no change carries their values,
/// and nothing there makes them.
fn computed_apart<'a>(from: &'a Table, to: &'a Table, map: &'a MapRule) -> impl Iterator<Item = &'a Column> {
    let is_given = |name: &String| map.columns.iter().chain(&map.key).any(|(given, _)| given == name);
    from.columns.iter().filter(move |column| {
        let is_plain_there = to.column(&column.name).is_some_and(|new| !new.is_generated());
        column.is_generated() && is_plain_there && !is_given(&column.name) && !map.drop.contains(&column.name)
    })
}

fn not_recorded(object: &str, column: &Column, from: &Table, to: &Table) -> Finding {
    let name = &column.name;
    let expression = column.generation.as_deref().unwrap_or_default();
    finding(
        object,
        format!(
            "column \"{name}\" of \"{}\" is generated, so that its values are not recorded, and \"{}\" on the other side \
             does not generate it",
            from.display(),
            to.display()
        ),
        format!(
            "Have it generated there too, or say in a [[map]] from {} how to compute it: \
             columns = {{ {} = {} }}; drop = [{}] leaves it as it is there.",
            toml_table(object),
            toml_key(name),
            toml_text(expression),
            toml_text(name)
        ),
    )
}

/// The rule for one pair of tables.
fn pair(
    from: &Table,
    to: &Table,
    rule: Option<(usize, &MapRule)>,
    facts: &Facts,
    findings: &mut Vec<Finding>,
) -> TableRule {
    let empty = MapRule::default();
    let (at, map) = rule.map_or((None, &empty), |(at, rule)| (Some(at), rule));
    let object = rule.map_or_else(|| from.display(), |(_, rule)| rule.from.clone());
    let to_name = TableName::of(to);
    let old_columns: Vec<OldColumn> = from
        .columns
        .iter()
        .filter(|column| !column.is_generated())
        .map(|column| {
            // An enum that lacks a value here cannot hold the old row; its text can.
            let has_all = |labels: &Vec<String>| column.labels.iter().all(|label| labels.contains(label));
            let known = column.type_oid < FIRST_USER_OID
                || facts.known_types.get(&column.type_name).is_some_and(has_all);
            // The values of a domain that is gone here are those of the type that it is over.
            let stage_type = if known {
                column.type_name.clone()
            } else {
                let text = if column.is_array() { "text[]" } else { "text" };
                column.base_type.clone().unwrap_or_else(|| text.to_owned())
            };
            OldColumn {
                name: column.name.clone(),
                publisher_type: column.type_name.clone(),
                stage_type,
                enum_oid: (!column.labels.is_empty() && !column.is_array()).then_some(column.type_oid),
                equality: column.equality.clone(),
            }
        })
        .collect();
    let position = |name: &str| old_columns.iter().position(|column| column.name == name);

    for (name, _) in map.columns.iter().chain(&map.key) {
        match to.column(name) {
            None => findings.push(finding(
                &object,
                format!("column \"{name}\" does not exist in \"{to_name}\""),
                format!("Correct the name in the [[map]] from \"{}\".", map.from),
            )),
            Some(column) if column.is_generated() => findings.push(finding(
                &object,
                format!("column \"{name}\" of \"{to_name}\" is generated and cannot be written"),
                format!("Take it out of the [[map]] from \"{}\".", map.from),
            )),
            Some(_) => {}
        }
    }
    for name in &map.drop {
        if position(name).is_none() && from.column(name).is_none() {
            findings.push(finding(
                &object,
                format!("column \"{name}\", named in \"drop\", does not exist in \"{}\"", from.display()),
                format!("Correct the name in the [[map]] from \"{}\".", map.from),
            ));
        }
    }

    findings.extend(computed_apart(from, to, map).map(|column| not_recorded(&object, column, from, to)));

    let mut columns = Vec::new();
    let mut kept = Vec::new();
    for column in to.columns.iter().filter(|column| !column.is_generated()) {
        let explicit = map.columns.iter().chain(&map.key).find(|(name, _)| *name == column.name);
        let by_name = position(&column.name).filter(|_| !map.drop.contains(&column.name));
        let place = (to_name.clone(), column.name.clone());
        let (expression, reads) = match (explicit, by_name) {
            (Some((_, expression)), _) => (typed_literal(expression, &column.type_name), Vec::new()),
            (None, Some(at)) => (by_name_expression(&old_columns[at], &column.type_name), vec![at]),
            (None, None) => {
                kept.push(column.name.clone());
                if column.not_null && !map.joins && !facts.defaulted.contains(&place) {
                    findings.push(finding(
                        &object,
                        format!("column \"{}\" of \"{to_name}\" is NOT NULL, has no default, and nothing is mapped to it", column.name),
                        format!("Give it an expression in a [[map]], or run: ALTER TABLE {} ALTER COLUMN {} SET DEFAULT ...;",
                            to_name.quoted(), sql::quote_identifier(&column.name)),
                    ));
                }
                continue;
            }
        };
        let updatable = !facts.always_identity.contains(&place);
        let old_is_identity = by_name.is_some() && from.column(&column.name).is_some_and(|old| old.identity);
        let in_key = map.key.iter().any(|(name, _)| *name == column.name) || from.key.contains(&column.name);
        if !updatable && !old_is_identity && !in_key {
            findings.push(finding(
                &object,
                format!("column \"{}\" of \"{to_name}\" is GENERATED ALWAYS AS IDENTITY, so updates cannot be written to it", column.name),
                format!("Run: ALTER TABLE {} ALTER COLUMN {} SET GENERATED BY DEFAULT;",
                    to_name.quoted(), sql::quote_identifier(&column.name)),
            ));
        }
        columns.push(MappedColumn {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            expression,
            reads,
            portable: true,
            updatable,
            equality: column.equality.clone(),
        });
    }

    // A whole old row comes with every change under FULL, so a primary key serves as well as an identity.
    let identity_names = if from.identity == Identity::Full { &from.primary_key } else { &from.key };
    let identity: Option<Vec<usize>> = (!identity_names.is_empty())
        .then(|| identity_names.iter().filter_map(|name| position(name)).collect());
    let mut key = Vec::new();
    if map.key.is_empty() {
        for name in identity_names {
            let mapped = columns.iter().find(|column| {
                column.name == *name && !map.columns.iter().any(|(explicit, _)| explicit == name)
                    || is_column_name(&column.expression, name)
            });
            match mapped {
                Some(column) => key.push(column.clone()),
                None => findings.push(finding(
                    &object,
                    format!("column \"{name}\" of the key of \"{}\" is not mapped", from.display()),
                    format!(
                        "Say in the [[map]] how to find a row: key = {{ {} }}.",
                        key_entry(name, to, map)
                    ),
                )),
            }
        }
    } else {
        let named = |column: &&MappedColumn| map.key.iter().any(|(name, _)| *name == column.name);
        key = columns.iter().filter(named).cloned().collect();
        for column in &mut key {
            if let Some((_, expression)) = map.key.iter().find(|(name, _)| *name == column.name) {
                column.expression = typed_literal(expression, &column.type_name);
            }
        }
    }
    let fills = map.joins.then(|| joins::filled(&to_name, &columns, &key, facts));
    let order = if facts.with_one_key.contains(&to_name) { Order::Any } else { Order::AsTheyCame };
    let is_divided = |at: &usize| from.partition_key.contains(&old_columns[*at].name);
    let partition_key = identity.iter().flatten().copied().filter(is_divided).collect();
    let root_of = |table: &Table| {
        table.root.as_ref().map(|(schema, name)| TableName { schema: schema.clone(), name: name.clone() })
    };
    TableRule {
        from: TableName::of(from),
        order,
        to: to_name,
        fills,
        old_columns,
        key,
        columns,
        condition: map.condition.as_ref().map(|expression| Condition {
            expression: expression.clone(),
            reads: Vec::new(),
            portable: true,
        }),
        looks_up: HashSet::new(),
        unsteady: Vec::new(),
        // A row that is deleted and inserted again would lose what the other rule wrote.
        complete: kept.is_empty() && !map.joins,
        kept,
        identity,
        from_partitioned: from.partitioned,
        from_root: root_of(from),
        partition_key,
        to_partitioned: to.partitioned,
        to_root: root_of(to),
        rule: at,
    }
}

/// What finds a row: the new column of the key's name where there is one, as its type.
fn key_entry(name: &str, to: &Table, map: &MapRule) -> String {
    let Some(new) = to.column(name).filter(|new| !new.is_generated()) else {
        return format!("new_column = {}", toml_text(name));
    };
    let explicit =
        map.columns.iter().find(|(column, expression)| column == name && mentions(expression, name));
    let expression = match explicit {
        Some((_, expression)) => expression.clone(),
        None => format!("{}::{}", quoted_where_needed(name), new.type_name),
    };
    format!("{} = {}", toml_key(name), toml_text(&expression))
}

/// A literal alone has the column's type, as it has in an INSERT; other expressions are left as they are.
fn typed_literal(expression: &str, type_name: &str) -> String {
    let text = expression.trim();
    let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let is_literal = text.eq_ignore_ascii_case("null")
        || inner.is_some_and(|inner| !inner.replace("''", "").contains(['\'', '\\']));
    if is_literal { format!("{text}::{type_name}") } else { expression.to_owned() }
}

/// A column by its name; a value of a type of the same name whose old text was kept is read as the new type reads it.
fn by_name_expression(old: &OldColumn, new_type: &str) -> String {
    let name = sql::quote_identifier(&old.name);
    let is_text = old.stage_type != old.publisher_type;
    if is_text && old.publisher_type == new_type { format!("{name}::{new_type}") } else { name }
}
