//! A random schema, what the maintenance makes of it, the mapping that says so, and queries that check it.

use std::fmt::{self, Write as _};

use super::dice::Dice;

/// The type of an old column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    /// Stored out of line, so that an update of something else leaves it out of the stream.
    Long,
    Numeric,
    Timestamp,
    Boolean,
    Date,
    Colour,
}

const KINDS: [Kind; 8] = [
    Kind::Int,
    Kind::Text,
    Kind::Long,
    Kind::Numeric,
    Kind::Timestamp,
    Kind::Boolean,
    Kind::Date,
    Kind::Colour,
];

impl Kind {
    fn type_name(self) -> &'static str {
        match self {
            Kind::Int => "integer",
            Kind::Text | Kind::Long => "text",
            Kind::Numeric => "numeric",
            Kind::Timestamp => "timestamp",
            Kind::Boolean => "boolean",
            Kind::Date => "date",
            Kind::Colour => "public.colour",
        }
    }

    /// A literal.
    pub fn value(self, dice: &mut Dice) -> String {
        if dice.one_in(8) {
            return "null".into();
        }
        let number = dice.between(0, 999);
        match self {
            Kind::Int => format!("{}", number as i64 - 500),
            Kind::Text => {
                let words = [
                    "",
                    "plain",
                    "it''s",
                    "tab\there",
                    "back\\slash",
                    "naïve ☃",
                    "NULL",
                    "{\"a\",b}",
                    "two\nlines",
                ];
                format!("'{} {number}'", dice.pick(&words))
            }
            Kind::Long => format!("repeat('{number} ', {})", dice.between(10, 1500)),
            Kind::Numeric => {
                (*dice.pick(&["'NaN'", "0.10", "-12345678901234567890.5", "1e-20", "7"])).to_owned()
            }
            Kind::Timestamp => format!("timestamp '2024-01-01 00:00' + interval '{number} hours 1.5 s'"),
            Kind::Boolean => (*dice.pick(&["true", "false"])).to_owned(),
            Kind::Date => format!("date '2024-01-01' + {number}"),
            Kind::Colour => format!("'{}'", dice.pick(&["red", "green", "blue"])),
        }
    }
}

/// An old table.
#[derive(Clone, Debug)]
pub struct Old {
    pub name: String,
    /// `id`, and a second part where the key has two.
    pub key: Vec<&'static str>,
    /// The table whose rows its own belong to, one to one.
    pub parent: Option<String>,
    pub columns: Vec<(String, Kind)>,
}

/// A column of a new table.
struct New {
    name: String,
    type_name: String,
    /// In the mapping; `None`: by name.
    mapped: Option<String>,
    /// The same value, by what the target has.
    checked: String,
    in_key: bool,
}

/// What the source has to hold of a table, and what it is the image of.
pub struct Check {
    pub table: String,
    pub found: String,
    pub wanted: String,
}

/// All of it.
pub struct Shape {
    pub source: String,
    pub maintenance: String,
    pub map: String,
    pub tables: Vec<Old>,
    pub checks: Vec<Check>,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-- source\n{}\n-- maintenance\n{}\n-- map\n{}", self.source, self.maintenance, self.map)
    }
}

/// Which rows of an old table are in a new one, as the mapping says it and as the target can be asked.
type Where = Option<(String, String)>;

/// A new table, one or more old ones, and how.
struct Part<'a> {
    name: String,
    from: Vec<(&'a Old, Vec<New>, Where)>,
    partitioned: bool,
}

impl Shape {
    /// One that the dice decide.
    pub fn random(dice: &mut Dice) -> Shape {
        let count = dice.between(3, 4) as usize;
        let mut tables: Vec<Old> = (0..count).map(|at| old_table(dice, at)).collect();
        let mut shape = Shape {
            source: "create type public.colour as enum ('red', 'green', 'blue');\n".into(),
            maintenance: "alter type public.colour rename value 'red' to 'crimson';\n\
                          create table public.words (code int primary key, word text not null);\n\
                          insert into public.words select n, 'word ' || n from generate_series(0, 9) as n;\n"
                .into(),
            map: String::new(),
            tables: Vec::new(),
            checks: Vec::new(),
        };
        // The first two become one table: by their rows, or by their columns.
        let (united, joined) = match dice.between(0, 3) {
            0 | 1 => (Some((0, 1)), false),
            2 => (None, true),
            _ => (None, false),
        };
        if joined {
            tables[0].key = vec!["id"];
            tables[1].key = vec!["id"];
            tables[1].parent = Some(tables[0].name.clone());
        }
        for (at, table) in tables.iter().enumerate() {
            shape.make(dice, table, !(joined && at < 2));
        }
        for old in &tables {
            let _ = writeln!(shape.maintenance, "alter table public.{0} rename to before_{0};", old.name);
        }
        if joined {
            shape.join(dice, &tables[0], &tables[1]);
        }
        for (at, old) in tables.iter().enumerate().skip(if joined { 2 } else { 0 }) {
            match united {
                Some((one, _)) if at == one => {
                    let other = &tables[at + 1];
                    shape.part(&unite(old, other));
                    continue;
                }
                Some((_, other)) if at == other => continue,
                _ => {}
            }
            for part in parts_of(dice, old) {
                shape.part(&part);
            }
        }
        for old in &tables {
            let _ = writeln!(shape.maintenance, "drop table public.before_{} cascade;", old.name);
        }
        shape.tables = tables;
        shape
    }

    fn make(&mut self, dice: &mut Dice, old: &Old, may_be_partitioned: bool) {
        let key_type = |part: &str| if part == "id" { "integer" } else { "text" };
        let mut columns: Vec<String> =
            old.key.iter().map(|part| format!("{part} {} not null", key_type(part))).collect();
        columns.extend(old.columns.iter().map(|(name, kind)| format!("{name} {}", kind.type_name())));
        let partitions = if may_be_partitioned && dice.one_in(4) { " partition by hash (id)" } else { "" };
        let name = &old.name;
        if let Some(parent) = &old.parent {
            columns.push(format!(
                "foreign key (id) references public.{parent} on update cascade on delete cascade"
            ));
        }
        let _ = writeln!(
            self.source,
            "create table public.{name} ({}, primary key ({})){partitions};",
            columns.join(", "),
            old.key.join(", ")
        );
        if !partitions.is_empty() {
            for part in 0..2 {
                let _ = writeln!(
                    self.source,
                    "create table public.{name}_{part} partition of public.{name} for values with (modulus 2, remainder {part});"
                );
            }
        }
        for (column, _) in old.columns.iter().filter(|(_, kind)| *kind == Kind::Long) {
            let _ = writeln!(self.source, "alter table public.{name} alter {column} set storage external;");
        }
        if partitions.is_empty() && dice.one_in(4) {
            let _ = writeln!(self.source, "alter table public.{name} replica identity full;");
        }
        let _ = writeln!(
            self.source,
            "grant select, insert, update, delete, truncate on public.{name} to shop_app;"
        );
        for id in 1..=40 {
            let values: Vec<String> = old.columns.iter().map(|(_, kind)| kind.value(dice)).collect();
            let key = if old.key.len() > 1 { format!("{id}, 'k'") } else { id.to_string() };
            let more = if values.is_empty() { String::new() } else { format!(", {}", values.join(", ")) };
            let _ = writeln!(self.source, "insert into public.{name} values ({key}{more});");
        }
    }

    /// Maintenance, mapping and check of a new table.
    fn part(&mut self, part: &Part<'_>) {
        let first = &part.from[0].1;
        let columns: Vec<String> =
            first.iter().map(|column| format!("{} {}", column.name, column.type_name)).collect();
        let key: Vec<&str> =
            first.iter().filter(|column| column.in_key).map(|column| column.name.as_str()).collect();
        let partitions =
            if part.partitioned { format!(" partition by hash ({})", key[0]) } else { String::new() };
        let name = &part.name;
        let _ = writeln!(
            self.maintenance,
            "create table {name} ({}, own text default 'own', primary key ({})){partitions};",
            columns.join(", "),
            key.join(", ")
        );
        if part.partitioned {
            for at in 0..3 {
                let _ = writeln!(
                    self.maintenance,
                    "create table {name}_p{at} partition of {name} for values with (modulus 3, remainder {at});"
                );
            }
        }
        let mut wanted = Vec::new();
        for (old, news, filter) in &part.from {
            let names: Vec<&str> = news.iter().map(|column| column.name.as_str()).collect();
            let values = |pick: &dyn Fn(&New) -> String| -> String {
                news.iter().map(pick).collect::<Vec<_>>().join(", ")
            };
            let of_new = |column: &New| {
                let expression = column.mapped.clone().unwrap_or_else(|| column.name.clone());
                format!("({expression})::{}", column.type_name)
            };
            let condition = |pick: &dyn Fn(&(String, String)) -> String| {
                filter.as_ref().map_or(String::new(), |both| format!(" where {}", pick(both)))
            };
            let _ = writeln!(
                self.maintenance,
                "insert into {name} ({}) select {} from public.before_{} as \"old\"{};",
                names.join(", "),
                values(&of_new),
                old.name,
                condition(&|both| both.0.clone()),
            );
            wanted.push(format!(
                "select row({})::text from public.{} as \"old\"{}",
                values(&|column: &New| format!("({})::text", column.checked)),
                old.name,
                condition(&|both| both.1.clone()),
            ));
            self.map_one(old, news, filter.as_ref(), name);
        }
        let found: Vec<String> = first.iter().map(|column| format!("{}::text", column.name)).collect();
        self.checks.push(Check {
            table: name.clone(),
            found: format!("select row({})::text from {name}", found.join(", ")),
            wanted: wanted.join(" union all "),
        });
    }

    /// One table of the columns of two: each row of the first is one, and one of the second fills columns of it.
    fn join(&mut self, dice: &mut Dice, maker: &Old, filler: &Old) {
        let keys = [
            ("id", "integer", None),
            ("id", "bigint", None),
            ("number", "integer", Some("id")),
            ("id", "text", Some("'K' || id")),
        ];
        let (key, key_type, key_expression) = *dice.pick(&keys);
        let mut columns = |old: &Old| -> Vec<New> {
            let key = match key_expression {
                None => by_name(key, key_type, true),
                Some(expression) => by_expression(key, key_type, expression.to_owned(), true),
            };
            let columns = old.columns.iter().filter_map(|(name, kind)| new_column(dice, name, *kind));
            std::iter::once(key).chain(columns).collect()
        };
        let (first, second) = (columns(maker), columns(filler));
        let names = |of: &[New]| of.iter().map(|new| new.name.clone()).collect::<Vec<_>>();
        let list =
            |of: &[New], text: &dyn Fn(&New) -> String| of.iter().map(text).collect::<Vec<_>>().join(", ");
        let typed = |new: &New| format!("{} {}", new.name, new.type_name);
        let value = |new: &New| {
            let expression = new.mapped.clone().unwrap_or_else(|| new.name.clone());
            format!("({expression})::{} as {}", new.type_name, new.name)
        };
        let checked = |new: &New| format!("(({})::text)::text as {}", new.checked, new.name);
        let all: Vec<String> = first.iter().chain(&second[1..]).map(typed).collect();
        let set: Vec<String> = names(&second[1..]).iter().map(|name| format!("{name} = s.{name}")).collect();
        let _ = writeln!(
            self.maintenance,
            "create table public.joined ({}, own text default 'own', primary key ({key}));\n\
             insert into public.joined ({}) select {} from public.before_{} as \"old\";",
            all.join(", "),
            names(&first).join(", "),
            list(&first, &value),
            maker.name,
        );
        if !set.is_empty() {
            let _ = writeln!(
                self.maintenance,
                "update public.joined as j set {} from (select {} from public.before_{} as \"old\") as s \
                 where j.{key} = s.{key};",
                set.join(", "),
                list(&second, &value),
                filler.name,
            );
        }
        let columns = |alias: &str, of: &[New]| {
            names(of).iter().map(|name| format!("{alias}.{name}::text")).collect::<Vec<_>>()
        };
        let row = |first_in: &str, second_in: &str| {
            let mut texts = columns(first_in, &first);
            texts.extend(columns(second_in, &second[1..]));
            format!("row({})::text", texts.join(", "))
        };
        self.checks.push(Check {
            table: "public.joined".into(),
            found: format!("select {} from public.joined as j", row("j", "j")),
            wanted: format!(
                "select {} from (select {} from public.{} as \"old\") as m \
                 left join (select {} from public.{} as \"old\") as f on f.{key} = m.{key}",
                row("m", "f"),
                list(&first, &checked),
                maker.name,
                list(&second, &checked),
                filler.name,
            ),
        });
        self.map_one(maker, &first, None, "public.joined");
        self.map_one(filler, &second, None, "public.joined");
        self.map.push_str("joins = true\n");
    }

    fn map_one(&mut self, old: &Old, news: &[New], filter: Option<&(String, String)>, to: &str) {
        let is_used = |name: &str| {
            news.iter().any(|new| match &new.mapped {
                Some(expression) => expression.contains(name),
                None => new.name == name,
            })
        };
        let names = old.key.iter().map(|part| (*part).to_owned());
        let all: Vec<String> = names.chain(old.columns.iter().map(|(name, _)| name.clone())).collect();
        let drop: Vec<String> =
            all.iter().filter(|name| !is_used(name)).map(|name| format!("\"{name}\"")).collect();
        let pairs = |in_key: bool| -> String {
            let of = news.iter().filter(|new| new.in_key == in_key);
            let pairs = of.filter_map(|new| {
                Some(format!("{} = \"{}\"", new.name, new.mapped.as_ref()?.replace('"', "\\\"")))
            });
            pairs.collect::<Vec<_>>().join(", ")
        };
        let from = format!("public.{}", old.name);
        // Rows of a table that keeps its name and its columns map themselves.
        if pairs(true).is_empty()
            && pairs(false).is_empty()
            && drop.is_empty()
            && filter.is_none()
            && from == to
        {
            return;
        }
        let _ = writeln!(self.map, "[[map]]\nfrom = \"{from}\"\nto = \"{to}\"");
        if !pairs(true).is_empty() {
            // A part of the key that keeps its name has to be said beside one that does not.
            let key: Vec<String> = news
                .iter()
                .filter(|new| new.in_key)
                .map(|new| format!("{} = \"{}\"", new.name, new.mapped.as_deref().unwrap_or(&new.name)))
                .collect();
            let _ = writeln!(self.map, "key = {{ {} }}", key.join(", "));
        }
        if !pairs(false).is_empty() {
            let _ = writeln!(self.map, "columns = {{ {} }}", pairs(false));
        }
        if !drop.is_empty() {
            let _ = writeln!(self.map, "drop = [{}]", drop.join(", "));
        }
        if let Some((condition, _)) = filter {
            let _ = writeln!(self.map, "where = \"{condition}\"");
        }
    }
}

fn old_table(dice: &mut Dice, at: usize) -> Old {
    let key = if dice.one_in(3) { vec!["id", "part"] } else { vec!["id"] };
    let columns = (0..dice.between(1, 5)).map(|n| (format!("c{at}{n}"), *dice.pick(&KINDS))).collect();
    Old { name: format!("r{at}"), key, parent: None, columns }
}

fn by_name(name: &str, type_name: &str, in_key: bool) -> New {
    New {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        mapped: None,
        checked: name.to_owned(),
        in_key,
    }
}

fn by_expression(name: &str, type_name: &str, expression: String, in_key: bool) -> New {
    New {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        checked: expression.clone(),
        mapped: Some(expression),
        in_key,
    }
}

/// The key's columns in the new table: as they are, renamed, retyped, or with one more.
fn new_key(dice: &mut Dice, old: &Old) -> Vec<New> {
    let mut key: Vec<New> = old
        .key
        .iter()
        .map(|part| match (*part, dice.between(0, 4)) {
            ("id", 0) => by_name("id", "bigint", true),
            ("id", 1) => by_expression("number", "integer", "id".into(), true),
            ("id", 2) => by_expression("id", "text", "'K' || id".into(), true),
            ("id", _) => by_name("id", "integer", true),
            (part, 0) => by_expression("portion", "text", part.into(), true),
            (part, _) => by_name(part, "text", true),
        })
        .collect();
    if dice.one_in(5) {
        key.push(by_expression("tenant", "integer", "abs(id) % 3".into(), true));
    }
    key
}

/// One old column in the new table, if it is there.
fn new_column(dice: &mut Dice, name: &str, kind: Kind) -> Option<New> {
    let type_name = kind.type_name();
    let renamed = format!("n_{name}");
    if kind == Kind::Colour {
        let expression = format!("(case {name}::text when 'red' then 'crimson' else {name}::text end)");
        return Some(New {
            name: if dice.one_in(2) { name.to_owned() } else { renamed },
            type_name: type_name.to_owned(),
            mapped: Some(format!("{expression}::public.colour")),
            checked: expression,
            in_key: false,
        });
    }
    Some(match dice.between(0, 5) {
        0 => return None,
        1 => by_expression(&renamed, type_name, name.to_owned(), false),
        2 => match kind {
            Kind::Int if dice.one_in(2) => New {
                name: renamed,
                type_name: "text".into(),
                mapped: Some(format!(
                    "(select w.word from public.words as w where w.code = abs(old.{name}) % 10)"
                )),
                checked: format!("'word ' || (abs({name}) % 10)"),
                in_key: false,
            },
            Kind::Int => by_expression(name, "bigint", format!("{name} * 2::bigint"), false),
            Kind::Text => by_expression(name, "text", format!("upper({name})"), false),
            Kind::Long => by_expression(&renamed, "text", format!("md5({name} || id)"), false),
            Kind::Numeric => by_expression(name, "text", format!("{name}::text || '!'"), false),
            Kind::Timestamp => {
                by_expression(name, "timestamptz", format!("{name} at time zone 'UTC'"), false)
            }
            Kind::Boolean => {
                by_expression(name, "integer", format!("case when {name} then 1 else 0 end"), false)
            }
            Kind::Date => by_expression(name, "integer", format!("extract(year from {name})::int"), false),
            Kind::Colour => unreachable!("colours are dealt with above"),
        },
        3 if kind == Kind::Int => by_name(name, "bigint", false),
        4 if kind == Kind::Int => by_name(name, "text", false),
        _ => by_name(name, type_name, false),
    })
}

/// One or two new tables for an old one.
fn parts_of<'a>(dice: &mut Dice, old: &'a Old) -> Vec<Part<'a>> {
    let way = dice.between(0, 5);
    let columns = |dice: &mut Dice, names: &[(String, Kind)]| -> Vec<New> {
        let mut news: Vec<New> =
            names.iter().filter_map(|(name, kind)| new_column(dice, name, *kind)).collect();
        if dice.one_in(3) {
            news.push(by_expression("constant", "text", "'same'".into(), false));
        }
        let texts: Vec<&String> = names
            .iter()
            .filter(|(_, kind)| matches!(kind, Kind::Text | Kind::Long))
            .map(|(name, _)| name)
            .collect();
        if let [one, other, ..] = texts.as_slice()
            && dice.one_in(2)
        {
            let merged = format!("coalesce({one}, '') || '/' || coalesce({other}, '')");
            news.push(by_expression("merged", "text", merged, false));
        }
        news
    };
    let table = |dice: &mut Dice, suffix: &str, key: Vec<New>, columns: Vec<New>, filter: Where| {
        let name = match dice.between(0, 2) {
            0 if suffix.is_empty() => format!("public.{}", old.name),
            _ => format!("public.n_{}{suffix}", old.name),
        };
        let news: Vec<New> = key.into_iter().chain(columns).collect();
        Part { name, from: vec![(old, news, filter)], partitioned: dice.one_in(4) }
    };
    let number = old.columns.iter().find(|(_, kind)| *kind == Kind::Int);
    match (way, number) {
        (0, Some((column, _))) => {
            // By a column outside of the key: an update moves a row from one table to the other, or to neither.
            let (even, odd) = (format!("{column} % 2 = 0"), format!("{column} % 2 <> 0"));
            [(even, "_even"), (odd, "_odd")]
                .into_iter()
                .map(|(condition, suffix)| {
                    let (key, rest) = (new_key(dice, old), columns(dice, &old.columns));
                    table(dice, suffix, key, rest, Some((condition.clone(), condition)))
                })
                .collect()
        }
        (1, _) => {
            let conditions = ["id % 2 = 0", "id % 2 <> 0"];
            conditions
                .into_iter()
                .zip(["_even", "_odd"])
                .map(|(condition, suffix)| {
                    let (key, rest) = (new_key(dice, old), columns(dice, &old.columns));
                    table(dice, suffix, key, rest, Some((condition.to_owned(), condition.to_owned())))
                })
                .collect()
        }
        (2, _) if old.columns.len() > 1 => {
            let (left, right) = old.columns.split_at(old.columns.len() / 2);
            [(left, "_left"), (right, "_right")]
                .into_iter()
                .map(|(half, suffix)| {
                    let (key, rest) = (new_key(dice, old), columns(dice, half));
                    table(dice, suffix, key, rest, None)
                })
                .collect()
        }
        _ => {
            let (key, rest) = (new_key(dice, old), columns(dice, &old.columns));
            vec![table(dice, "", key, rest, None)]
        }
    }
}

/// Two old tables in one, told apart by the key.
fn unite<'a>(one: &'a Old, other: &'a Old) -> Part<'a> {
    let rows = |old: &'a Old| {
        let key = if old.key.len() > 1 { "id || '/' || part" } else { "id::text" };
        let all: Vec<String> = old
            .columns
            .iter()
            .map(|(name, _)| format!("coalesce(replace({name}::text, 'red', 'crimson'), '?')"))
            .collect();
        let digest = format!("md5({})", all.join(" || '/' || "));
        let news = vec![
            by_expression("origin", "text", format!("'{}'", old.name), true),
            by_expression("id", "text", key.into(), true),
            by_expression("digest", "text", digest, false),
        ];
        (old, news, None)
    };
    Part { name: "public.united".into(), from: vec![rows(one), rows(other)], partitioned: false }
}
