//! What a batch makes of changes: each pair of them by a table, and all short histories against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{Irregular, Planned, Shape, Step, Work, coalesce, in_order};
use super::test_pair::{Pair, rule};
use crate::flow::mapping::Order;
use crate::flow::mapping::bound::Bound;
use crate::flow::source::change::{Relation, RelationColumn, Row, RowChange, Value};

/// Key, a plain value, a value that may be absent from an update.
fn row(key: &str, plain: &str, large: &str) -> Row {
    let values = [key, plain, large].into_iter();
    values
        .map(|text| match text {
            "~" => Value::Unchanged,
            "-" => Value::Null,
            text => Value::Text(text.as_bytes()),
        })
        .collect()
}

fn relation(name: &str) -> Arc<Relation> {
    let column = |name: &str, key| RelationColumn { name: name.to_owned(), type_oid: 25, key };
    Arc::new(Relation {
        id: 0,
        schema: "public".to_owned(),
        name: name.to_owned(),
        full: false,
        columns: vec![column("id", true), column("plain", false), column("large", false)],
    })
}

fn table(key: Option<Vec<usize>>, complete: bool) -> Arc<Bound> {
    Arc::new(Bound {
        relation: relation("t"),
        rules: Vec::new(),
        key,
        complete,
        order: Order::AsTheyCame,
        is_one_of_several: false,
    })
}

fn insert(key: &str, plain: &str, large: &str) -> RowChange {
    RowChange::Insert { new: row(key, plain, large) }
}

fn update(key: &str, plain: &str, large: &str) -> RowChange {
    RowChange::Update { old: None, new: row(key, plain, large) }
}

fn rekey(old: &str, key: &str, plain: &str, large: &str) -> RowChange {
    RowChange::Update { old: Some(row(old, "-", "-")), new: row(key, plain, large) }
}

fn delete(key: &str) -> RowChange {
    RowChange::Delete { old: row(key, "-", "-") }
}

fn work(table: &Arc<Bound>, changes: &[RowChange]) -> Vec<Work> {
    changes.iter().map(|change| Work::Row { table: Arc::clone(table), change: change.clone() }).collect()
}

fn steps(plan: Vec<Planned>) -> Vec<Step> {
    let step = |planned| match planned {
        Planned::Rows { step, .. } => Some(step),
        Planned::Truncate { .. } => None,
    };
    plan.into_iter().filter_map(step).collect()
}

fn net(complete: bool, changes: &[RowChange]) -> Result<Vec<Step>, Irregular> {
    net_of(&table(Some(vec![0]), complete), changes)
}

fn net_of(table: &Arc<Bound>, changes: &[RowChange]) -> Result<Vec<Step>, Irregular> {
    coalesce(work(table, changes).iter(), Shape::Plain).map(steps)
}

/// A table whose rows come under other names, too, or not.
fn several(complete: bool, is_one_of_several: bool) -> Arc<Bound> {
    let bound = Arc::into_inner(table(Some(vec![0]), complete)).expect("nobody else has it");
    Arc::new(Bound { is_one_of_several, ..bound })
}

#[test]
fn rows_that_go_to_other_partitions_share_a_step_as_long_as_none_comes_to_where_another_one_was() {
    let (moving, log) = (several(false, true), table(Some(vec![0]), false));
    let changes = [
        rekey("1", "11", "a", "A"),
        rekey("2", "12", "b", "B"),
        rekey("12", "22", "c", "C"),
        rekey("3", "2", "d", "D"),
        rekey("4", "14", "e", "~"),
        rekey("5", "15", "f", "F"),
    ];
    let moved = |rows: &[(&str, Row)]| Step::Move {
        old: rows.iter().map(|(old, _)| row(old, "-", "-")).collect(),
        new: rows.iter().map(|(_, new)| new.clone()).collect(),
    };
    let expected = [
        moved(&[("1", row("11", "a", "A")), ("2", row("12", "b", "B"))]),
        moved(&[("12", row("22", "c", "C")), ("3", row("2", "d", "D"))]),
        moved(&[("4", row("14", "e", "~"))]),
        moved(&[("5", row("15", "f", "F"))]),
    ];
    assert_eq!(net_of(&moving, &changes).unwrap(), expected);
    assert_eq!(steps(in_order(work(&moving, &changes).iter(), 100)), expected);
    // What a trigger notes beside each of them does not keep them apart.
    let noted = |id: &str| insert(id, "noted", "A");
    let all: Vec<Work> = [
        work(&moving, &changes[..1]),
        work(&log, &[noted("1")]),
        work(&moving, &changes[1..2]),
        work(&log, &[noted("2")]),
    ]
    .into_iter()
    .flatten()
    .collect();
    let inserted = Step::Insert(vec![row("1", "noted", "A"), row("2", "noted", "A")]);
    let plan = steps(coalesce(all.iter(), Shape::Plain).unwrap());
    let [together, ..] = expected;
    assert_eq!(plan, [together, inserted]);
}

#[test]
fn each_pair_of_changes_has_its_net_effect() {
    let inserted = |key: &str, plain: &str, large: &str| Step::Insert(vec![row(key, plain, large)]);
    let updated = |key: &str, plain: &str, large: &str| Step::Update(vec![row(key, plain, large)]);
    let deleted = |key: &str| Step::Delete(vec![row(key, "-", "-")]);
    let moved = |old: &str, key: &str, plain: &str, large: &str| Step::Move {
        old: vec![row(old, "-", "-")],
        new: vec![row(key, plain, large)],
    };
    for (first, second, expected) in [
        (insert("1", "a", "A"), insert("1", "b", "B"), Err(Irregular)),
        (insert("1", "a", "A"), update("1", "b", "~"), Ok(vec![inserted("1", "b", "A")])),
        (insert("1", "a", "A"), delete("1"), Ok(vec![])),
        (insert("1", "a", "A"), rekey("1", "2", "b", "~"), Ok(vec![inserted("2", "b", "A")])),
        (update("1", "a", "A"), insert("1", "b", "B"), Err(Irregular)),
        (update("1", "a", "A"), update("1", "b", "~"), Ok(vec![updated("1", "b", "A")])),
        (update("1", "a", "~"), update("1", "b", "~"), Ok(vec![updated("1", "b", "~")])),
        (update("1", "a", "~"), update("1", "b", "B"), Ok(vec![updated("1", "b", "B")])),
        (update("1", "a", "~"), delete("1"), Ok(vec![deleted("1")])),
        (update("1", "a", "A"), rekey("1", "2", "b", "~"), Ok(vec![deleted("1"), inserted("2", "b", "A")])),
        (
            update("1", "a", "~"),
            rekey("1", "2", "b", "~"),
            Ok(vec![updated("1", "a", "~"), moved("1", "2", "b", "~")]),
        ),
        (delete("1"), insert("1", "b", "B"), Ok(vec![deleted("1"), inserted("1", "b", "B")])),
        (delete("1"), update("1", "b", "B"), Err(Irregular)),
        (delete("1"), delete("1"), Err(Irregular)),
        (delete("1"), rekey("1", "2", "b", "B"), Err(Irregular)),
        (
            delete("2"),
            rekey("1", "2", "b", "B"),
            Ok(vec![Step::Delete(vec![row("2", "-", "-"), row("1", "-", "-")]), inserted("2", "b", "B")]),
        ),
        (
            rekey("1", "2", "a", "A"),
            insert("1", "b", "B"),
            Ok(vec![deleted("1"), Step::Insert(vec![row("1", "b", "B"), row("2", "a", "A")])]),
        ),
        (rekey("1", "2", "a", "A"), update("2", "b", "~"), Ok(vec![deleted("1"), inserted("2", "b", "A")])),
        (rekey("1", "2", "a", "A"), delete("2"), Ok(vec![deleted("1")])),
        (
            rekey("1", "2", "a", "A"),
            rekey("2", "3", "b", "~"),
            Ok(vec![deleted("1"), inserted("3", "b", "A")]),
        ),
        (rekey("1", "2", "a", "A"), insert("2", "b", "B"), Err(Irregular)),
    ] {
        assert_eq!(net(true, &[first.clone(), second.clone()]), expected, "{first:?}, then {second:?}");
    }
}

#[test]
fn a_key_change_is_kept_where_a_delete_would_lose_columns() {
    let step = Step::Move { old: vec![row("1", "-", "-")], new: vec![row("2", "a", "A")] };
    assert_eq!(net(false, &[rekey("1", "2", "a", "A")]), Ok(vec![step]));
    let inserted = Step::Insert(vec![row("2", "b", "B")]);
    assert_eq!(net(false, &[insert("1", "a", "A"), rekey("1", "2", "b", "B")]), Ok(vec![inserted]));
}

#[test]
fn rows_go_in_the_order_of_their_keys_where_that_cannot_matter() {
    let changes =
        [update("30", "a", "A"), update("4", "a", "A"), delete("20"), delete("3"), update("4", "b", "~")];
    let of = |order| {
        let table = Bound {
            relation: relation("t"),
            rules: Vec::new(),
            key: Some(vec![0]),
            complete: true,
            order,
            is_one_of_several: false,
        };
        steps(coalesce(work(&Arc::new(table), &changes).iter(), Shape::Plain).unwrap())
    };
    let deleted = |keys: [&str; 2]| Step::Delete(keys.map(|key| row(key, "-", "-")).to_vec());
    let (few, many) = (row("4", "b", "A"), row("30", "a", "A"));
    assert_eq!(of(Order::Any), [deleted(["3", "20"]), Step::Update(vec![few.clone(), many.clone()])]);
    assert_eq!(of(Order::AsTheyCame), [deleted(["20", "3"]), Step::Update(vec![many, few])]);
}

#[test]
fn tables_are_emptied_between_what_came_before_and_after() {
    let table = table(Some(vec![0]), true);
    let mut all = work(&table, &[insert("1", "a", "A")]);
    all.push(Work::Truncate { tables: vec![Arc::clone(&table)] });
    all.extend(work(&table, &[insert("1", "b", "B")]));
    let plan = coalesce(all.iter(), Shape::Plain).unwrap();
    assert!(matches!(
        plan.as_slice(),
        [Planned::Rows { .. }, Planned::Truncate { .. }, Planned::Rows { .. }]
    ));
}

#[test]
fn rows_that_are_not_told_apart_keep_their_order() {
    let table = table(None, true);
    let changes = [
        insert("1", "a", "A"),
        insert("1", "a", "A"),
        delete("1"),
        rekey("1", "1", "b", "B"),
        insert("1", "a", "A"),
    ];
    let expected = vec![
        Step::Insert(vec![row("1", "a", "A"), row("1", "a", "A")]),
        Step::Delete(vec![row("1", "-", "-")]),
        Step::Move { old: vec![row("1", "-", "-")], new: vec![row("1", "b", "B")] },
        Step::Insert(vec![row("1", "a", "A")]),
    ];
    assert_eq!(steps(coalesce(work(&table, &changes).iter(), Shape::Plain).unwrap()), expected);
    assert_eq!(steps(in_order(work(&table, &changes).iter(), 100)), expected);
}

#[test]
fn neighbours_in_order_share_a_step() {
    let table = table(Some(vec![0]), true);
    let changes = [
        update("1", "a", "~"),
        update("2", "a", "~"),
        update("1", "b", "~"),
        update("3", "b", "B"),
        delete("3"),
        delete("4"),
    ];
    let expected = vec![
        Step::Update(vec![row("1", "a", "~"), row("2", "a", "~")]),
        Step::Update(vec![row("1", "b", "~")]),
        Step::Update(vec![row("3", "b", "B")]),
        Step::Delete(vec![row("3", "-", "-"), row("4", "-", "-")]),
    ];
    assert_eq!(steps(in_order(work(&table, &changes).iter(), 100)), expected);
    assert_eq!(in_order(work(&table, &changes).iter(), 1).len(), 6);
}

#[test]
fn changes_of_a_table_do_not_pass_by_those_that_look_it_up() {
    let tables: String = ["country", "customer", "note", "tree"]
        .map(|name| format!("create table {name} (id text primary key, plain text, large text);"))
        .concat();
    let pair = Pair::new(&tables, &tables);
    let looks_up = |table: &str, other: &str| {
        let value = format!("(select o.plain from public.{other} as o where o.id = old.plain)");
        let name = format!("public.{table}");
        rule(&name, &name, &[], &[("plain", &value)], &[])
    };
    let mapping = pair.mapping(&[looks_up("customer", "country"), looks_up("tree", "tree")]).unwrap();
    let bound = |name| {
        Arc::new(
            Bound::new(relation(name), mapping.rules_for("public", name)).expect("its columns are known"),
        )
    };
    let (country, customer, note, tree) = (bound("country"), bound("customer"), bound("note"), bound("tree"));
    let told = |plan: Vec<Planned>| -> Vec<String> {
        let tell = |planned| {
            let Planned::Rows { table, step } = planned else { return "truncate".to_owned() };
            let (what, rows) = match step {
                Step::Delete(rows) => ("delete", rows),
                Step::Update(rows) => ("update", rows),
                Step::Insert(rows) => ("insert", rows),
                Step::Move { new, .. } => ("move", new),
            };
            let keys: Vec<String> = rows.iter().map(|row| table.describe_key(row)).collect();
            format!("{what} {} {}", table.relation.name, keys.join(" "))
        };
        plan.into_iter().map(tell).collect()
    };
    let planned = |changes: &[(&Arc<Bound>, RowChange)]| -> Vec<String> {
        let all = changes.iter().flat_map(|(table, change)| work(table, std::slice::from_ref(change)));
        let all: Vec<Work> = all.collect();
        told(coalesce(all.iter(), Shape::Plain).unwrap())
    };
    assert_eq!(
        planned(&[
            (&country, insert("FR", "33", "A")),
            (&country, insert("IT", "39", "A")),
            (&customer, update("1", "FR", "A")),
            (&note, update("1", "a", "A")),
            (&customer, insert("2", "IT", "A")),
            (&note, update("1", "b", "A")),
            (&country, update("FR", "34", "A")),
            (&note, update("1", "c", "A")),
            (&customer, update("1", "FR", "B")),
        ]),
        [
            "insert country (id)=(FR) (id)=(IT)",
            "update customer (id)=(1)",
            "update note (id)=(1)",
            "insert customer (id)=(2)",
            "update country (id)=(FR)",
            "update note (id)=(1)",
            "update customer (id)=(1)",
        ]
    );
    assert_eq!(
        planned(&[
            (&country, insert("FR", "33", "A")),
            (&note, update("1", "a", "A")),
            (&country, update("FR", "34", "A")),
        ]),
        ["update note (id)=(1)", "insert country (id)=(FR)"],
        "nothing in the batch looks it up"
    );
    let rows = [insert("1", "-", "A"), insert("2", "1", "A"), update("1", "2", "A")];
    let one_by_one = ["insert tree (id)=(1)", "insert tree (id)=(2)", "update tree (id)=(1)"];
    assert_eq!(told(coalesce(work(&tree, &rows).iter(), Shape::Plain).unwrap()), one_by_one);
    assert_eq!(told(in_order(work(&tree, &rows).iter(), 100)), one_by_one);
}

/// What a subscriber's table holds: the mapped columns, and one that only it has.
type Model = BTreeMap<Vec<u8>, (Row, bool)>;

fn key(row: &Row) -> Vec<u8> {
    row.value(0).bytes().to_vec()
}

/// Executes a step as the server would; fails where a row is missing or in the way.
fn execute(model: &mut Model, step: &Step) -> Result<(), String> {
    let put = |model: &mut Model, new: &Row, own| match model.insert(key(new), (new.clone(), own)) {
        None => Ok(()),
        Some(old) => Err(format!("{new:?} meets {old:?}")),
    };
    let take = |model: &mut Model, old: &Row| model.remove(&key(old)).ok_or(format!("{old:?} is missing"));
    let merged = |old: &Row, new: &Row| -> Row {
        let pick = |(old, new)| if new == Value::Unchanged { old } else { new };
        old.values().zip(new.values()).map(pick).collect()
    };
    match step {
        Step::Delete(rows) => rows.iter().try_for_each(|old| take(model, old).map(|_| ())),
        Step::Insert(rows) => rows.iter().try_for_each(|new| put(model, new, false)),
        Step::Update(rows) => rows.iter().try_for_each(|new| {
            let (old, own) = take(model, new)?;
            put(model, &merged(&old, new), own)
        }),
        Step::Move { old, new } => {
            // A statement has no order: all leave before one comes.
            let before = old.iter().map(|old| take(model, old)).collect::<Result<Vec<_>, _>>()?;
            before.iter().zip(new).try_for_each(|((before, own), new)| put(model, &merged(before, new), *own))
        }
    }
}

fn after(model: &Model, steps: &[Step]) -> Result<Model, String> {
    let mut model = model.clone();
    steps.iter().try_for_each(|step| execute(&mut model, step)).map(|()| model)
}

#[test]
fn every_short_history_ends_as_it_does_in_order() {
    let mut menu = Vec::new();
    for key in ["1", "2", "3"] {
        menu.extend([insert(key, "i", "I"), update(key, "u", "~"), update(key, "u", "U"), delete(key)]);
        for other in ["1", "2", "3"].into_iter().filter(|other| *other != key) {
            menu.extend([rekey(key, other, "k", "~"), rekey(key, other, "k", "K")]);
        }
    }
    let start: Model =
        [row("1", "a", "A"), row("2", "b", "B")].into_iter().map(|row| (key(&row), (row, true))).collect();
    let mut histories: Vec<(Vec<RowChange>, Model)> = vec![(Vec::new(), start.clone())];
    let mut seen = 0;
    for _ in 0..4 {
        let mut longer = Vec::new();
        for (history, state) in &histories {
            for change in &menu {
                let table = table(Some(vec![0]), true);
                let step = steps(in_order(work(&table, std::slice::from_ref(change)).iter(), 1));
                let Ok(state) = after(state, &step) else { continue };
                let mut history = history.clone();
                history.push(change.clone());
                for (complete, is_one_of_several) in [(true, false), (false, false), (false, true)] {
                    let plan = net_of(&several(complete, is_one_of_several), &history);
                    let plan = plan.expect("a history that happened adds up");
                    let result = after(&start, &plan);
                    // Only a change of key by delete and insert, allowed where nothing is lost by it, may lose what is the table's own.
                    let seen_by = |model: &Model| -> Vec<(Row, bool)> {
                        model.values().map(|(row, own)| (row.clone(), *own && !complete)).collect()
                    };
                    assert_eq!(
                        result.as_ref().map(seen_by),
                        Ok(seen_by(&state)),
                        "complete: {complete}, {history:?} as {plan:?}"
                    );
                }
                seen += 1;
                longer.push((history, state));
            }
        }
        histories = longer;
    }
    assert!(seen > 5000, "{seen} histories");
}
