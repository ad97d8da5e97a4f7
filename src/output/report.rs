//! A command's report as people read it: a sentence, then tables. The same report makes the JSON document.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};

use super::Outcome;
use crate::phase::{Command, Serving, Side};

/// The steps are told while they are done; the keys of rows that differ stand in the table of these rows.
const TOLD: [&str; 2] = ["steps", "tables.keys"];

/// What to print on standard output. A quiet run prints the sentence of what was asked for, and no tables.
pub fn text(outcome: &Outcome, failed: bool, quiet: bool) -> String {
    let empty = Map::new();
    let report = outcome.report.as_object().unwrap_or(&empty);
    let steps = report.get("steps").and_then(Value::as_array);
    if let Some(planned) = steps.filter(|steps| steps.iter().any(|step| step.get("actions").is_some())) {
        let expected = report.get("rehearsal").and_then(|rehearsal| rehearsal.get("pause_ms"));
        let expected = expected.map(|pause| {
            format!("A pause of {} is to be expected, as in the last rehearsal.\n", cell("pause_ms", pause))
        });
        // What differs is what the plan is about.
        let found = if outcome.command == Some(Command::Verify) {
            tables(report, &TOLD) + "\n"
        } else {
            String::new()
        };
        return found + &plan_text(planned) + &expected.unwrap_or_default();
    }
    // SQL for psql: nothing but it.
    if let Some(grants) = report.get("grants").and_then(Value::as_array) {
        let texts: Vec<&str> = grants.iter().filter_map(|grants| grants.get("sql")?.as_str()).collect();
        return texts.join("\n");
    }
    let mut told = TOLD.to_vec();
    let is_list = ["entries", "lint", "observed"].iter().any(|key| report.contains_key(*key));
    let asked_for =
        is_list || matches!(outcome.command, Some(Command::Status | Command::Check | Command::Verify));
    let mut text = String::new();
    // The state is the answer, also when it is a bad one.
    let is_answer = !failed || (outcome.command == Some(Command::Status) && !report.is_empty());
    if is_answer && (asked_for || !quiet) {
        text = sentence(outcome, report);
        text.push('\n');
        told.extend(told_by_sentence(outcome));
    }
    if !quiet || asked_for {
        text.push_str(&tables(report, &told));
    }
    text
}

/// What was done, in a sentence.
fn sentence(outcome: &Outcome, report: &Map<String, Value>) -> String {
    let number = |key: &str| count(report.get(key));
    let field = |key: &str| report.get(key).map(|value| cell(key, value)).unwrap_or_default();
    let Some(command) = outcome.command else { return String::new() };
    match command {
        Command::Check => "All preconditions hold.".into(),
        Command::Mirror if !outcome.changed => "The mirror is up to date; nothing was changed.".into(),
        Command::Mirror if report.contains_key("stopped") => {
            format!("The mirror was stopped: {}.", field("stopped"))
        }
        Command::Mirror if report.contains_key("transactions") => format!(
            "Applied {} with {}; the target is {} behind.",
            plural(number("transactions"), "transaction"),
            plural(number("changes"), "change"),
            field("lag_bytes")
        ),
        Command::Mirror => format!(
            "Mirrored {}: {}, {} in {}.",
            plural(number("tables"), "table"),
            plural(number("rows"), "row"),
            field("bytes"),
            field("seconds")
        ),
        Command::Restrict if report.contains_key("observed") => {
            let observed = report.get("observed").and_then(Value::as_array);
            let counts = observed.into_iter().flatten().map(|line| count(line.get("count")));
            format!("{} would have been refused on the {}.", plural(counts.sum(), "statement"), field("side"))
        }
        Command::Restrict if report.contains_key("observing") && number("observing") == 0 => {
            "Nothing is observed.".into()
        }
        Command::Restrict if report.contains_key("observing") => {
            format!("{} observed on the {}.", plural_is(number("observing"), "table"), field("side"))
        }
        Command::Restrict if !outcome.changed => {
            "The restrictions are as configured; nothing was changed.".into()
        }
        Command::Restrict if number("restricted") == 0 => "No table is restricted on the target.".into(),
        Command::Restrict => {
            format!("{} restricted on the target.", plural_is(number("restricted"), "table"))
        }
        Command::Capture => match field("start_lsn").as_str() {
            "" => "Changes on the target are recorded.".into(),
            start => {
                format!(
                    "Changes on the target are recorded from {start} on; {} retained.",
                    field("retained_bytes")
                )
            }
        },
        Command::Cutover | Command::Cutback if report.contains_key("rehearsal") => {
            format!("Rehearsed, and taken back: a pause of {} is to be expected.", field("pause_ms"))
        }
        Command::Cutover | Command::Cutback
            if !outcome.changed && report.get("moved_by").is_some_and(Value::is_null) =>
        {
            "The switch is done already; whether all clients were moved nobody has said.".into()
        }
        Command::Cutover if !outcome.changed => "General traffic is on the target already.".into(),
        Command::Cutback if !outcome.changed => "General traffic is home already.".into(),
        Command::Cutover | Command::Cutback => {
            let (to, from) =
                if command == Command::Cutover { ("target", "source") } else { ("source", "target") };
            let (pause, late) = (field("pause_ms"), plural(number("late_writes"), "late write"));
            match report.get("moved_by") {
                Some(Value::Null) => format!(
                    "The {to} lets clients in, and the {from} does not: those that nobody has pointed to the {to} yet are not \
                     served. The switch took {pause}; {late}."
                ),
                Some(moved_by) if moved_by == "clients" => format!(
                    "The {to} lets clients write, and the {from} does not: they move by themselves. The switch took {pause}; {late}."
                ),
                Some(_) => format!("General traffic is on the {to}. The switch took {pause}; {late}."),
                None => format!("General traffic is on the {to}. Clients were held for {pause}; {late}."),
            }
        }
        Command::Replay if report.contains_key("lint") => "This becomes of the captured columns.".into(),
        Command::Replay if report.contains_key("rehearsed") => {
            format!("All {} that were tried fit on the source.", plural(number("rows"), "row"))
        }
        Command::Replay if report.contains_key("skipped") && !report.contains_key("transactions") => {
            format!("Gave up {}; {} left.", plural(number("skipped"), "change"), number("quarantined"))
        }
        Command::Replay if report.contains_key("retried") => {
            format!(
                "Applied {} after all; {} left.",
                plural(number("applied"), "change"),
                number("quarantined")
            )
        }
        Command::Replay if report.contains_key("entries") => {
            format!("{} in quarantine.", plural(number("quarantined"), "change"))
        }
        Command::Replay => format!(
            "Replayed {} with {}; {}.",
            plural(number("transactions"), "transaction"),
            plural(number("changes"), "change"),
            match report.get("caught_up").and_then(Value::as_bool) {
                Some(true) => "the source has caught up".into(),
                _ => format!("the source is {} behind", field("lag_bytes")),
            }
        ),
        Command::Verify if report.contains_key("backup_in_place_of") => {
            let leader = if report["backup_in_place_of"] == "target" { Side::Source } else { Side::Target };
            format!("The backup is equal to the {leader} in {}.", plural(number("tables"), "table"))
        }
        Command::Verify => format!("Both sides are equal in {}.", plural(number("tables"), "table")),
        Command::Status => status(outcome, report),
        Command::Clean if !outcome.changed => "There is nothing to remove.".into(),
        Command::Clean => "Every object that pgdetour made is removed.".into(),
    }
}

/// The fields of the report that the sentence holds.
fn told_by_sentence(outcome: &Outcome) -> &'static [&'static str] {
    match outcome.command {
        Some(Command::Status) => &["phase", "serving", "next"],
        Some(Command::Check) => &["phase", "next"],
        Some(Command::Verify) => &["equal", "backup_in_place_of"],
        Some(Command::Restrict) => &["side"],
        Some(Command::Capture) => &["start_lsn", "retained_bytes"],
        Some(Command::Replay) => &["transactions", "changes", "caught_up"],
        Some(Command::Mirror) if outcome.changed => &["tables", "rows", "bytes", "seconds"],
        Some(Command::Cutover | Command::Cutback) if outcome.report.get("moved_by").is_some() => {
            &["pause_ms", "late_writes", "clients_held", "moved_by"]
        }
        Some(Command::Cutover | Command::Cutback) if outcome.changed => &["pause_ms", "late_writes"],
        _ => &[],
    }
}

/// `Phase "mirrored"; the source serves. Next: restrict, capture, cutover, verify.`
fn status(outcome: &Outcome, report: &Map<String, Value>) -> String {
    let mut text = match outcome.phase {
        Some(phase) => format!("Phase \"{phase}\""),
        None => "Phase unknown".into(),
    };
    match outcome.serving {
        Some(Serving::Nobody) => text.push_str("; nobody serves: clients are held."),
        Some(serving) => {
            // Writing to a string cannot fail, here and below.
            let _ = write!(text, "; the {serving} serves.");
        }
        None if outcome.phase.is_some() => text.push_str("; nobody knows who serves."),
        None => text.push('.'),
    }
    if let Some(next) = report.get("next").filter(|next| !next.is_null()) {
        let _ = write!(text, " Next: {}.", cell("next", next));
    }
    text
}

/// The rest of the report: single values as one table, each list of objects and each object as one more.
fn tables(report: &Map<String, Value>, told: &[&str]) -> String {
    let shown = |key: &str| !told.contains(&key);
    let mut text = String::new();
    let mut values = plain_table();
    for (key, value) in report.iter().filter(|(key, _)| shown(key)) {
        if !is_nested(value) && !is_empty(value) {
            values.add_row([title(key), cell(key, value)]);
        }
    }
    append(&mut text, None, &values);
    for (key, value) in report.iter().filter(|(key, value)| shown(key) && is_nested(value)) {
        match value {
            Value::Array(items) => list(&mut text, key, items, told),
            _ => append(&mut text, Some(&title(key)), &fields_table(value)),
        }
    }
    text
}

/// One object, with a line for each of its fields.
fn fields_table(value: &Value) -> Table {
    let mut table = plain_table();
    for (key, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !is_empty(value)) {
        table.add_row([title(key), cell(key, value)]);
    }
    table
}

/// A list of objects as a table, and each list of objects that one of them holds as a table below it, headed by whose it is.
fn list(text: &mut String, key: &str, items: &[Value], told: &[&str]) {
    let is_told = |column: &str| told.contains(&format!("{key}.{column}").as_str());
    let holds_lists = |column: &str| {
        items.iter().filter_map(|item| item.get(column)).any(|value| value.is_array() && is_nested(value))
    };
    let (below, columns): (Vec<&str>, Vec<&str>) = columns_of(items)
        .into_iter()
        .filter(|column| !is_told(column))
        .partition(|column| holds_lists(column));
    let is_name = |column: &str| items.iter().all(|item| item.get(column).is_none_or(Value::is_string));
    // Names alone are the headings of what is below.
    if below.is_empty() || !columns.iter().all(|column| is_name(column)) {
        append(text, Some(&title(key)), &rows_table(&columns, items));
    }
    for item in items {
        let names = columns.iter().map_while(|column| item.get(column)?.as_str()).collect::<Vec<_>>();
        for column in &below {
            let Some(inner) = item.get(column).and_then(Value::as_array) else { continue };
            let heading = format!("{}, {}", names.join(" to "), title(column));
            append(text, Some(&heading), &rows_table(&columns_of(inner), inner));
        }
    }
}

/// The fields of these objects, each once, in the order in which they come up.
fn columns_of(items: &[Value]) -> Vec<&str> {
    let mut columns: Vec<&str> = Vec::new();
    for key in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    columns
}

/// A line for each object, with these of its fields.
fn rows_table(columns: &[&str], items: &[Value]) -> Table {
    let mut table = plain_table();
    table.set_header(columns.iter().map(|column| title(column)));
    for (at, column) in columns.iter().enumerate() {
        let numeric = items.iter().filter_map(|item| item.get(column)).all(Value::is_number);
        if let Some(column) = table.column_mut(at).filter(|_| numeric) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for item in items {
        let cells =
            columns.iter().map(|column| item.get(column).map_or(String::new(), |value| cell(column, value)));
        table.add_row(cells);
    }
    table
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn append(text: &mut String, heading: Option<&str>, table: &Table) {
    if table.row_count() == 0 {
        return;
    }
    if let Some(heading) = heading {
        let _ = write!(text, "\n{heading}:\n");
    }
    for line in table.to_string().lines() {
        // Cells begin with a space of their own.
        let _ = writeln!(text, " {}", line.trim_end());
    }
}

/// A dry run: each step, each server, each action, in order.
fn plan_text(steps: &[Value]) -> String {
    let actions = |step: &Value| step.get("actions").and_then(Value::as_array).cloned().unwrap_or_default();
    let field = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().trim_end().to_owned()
    };
    let mut text = String::new();
    for step in steps.iter().filter(|step| !actions(step).is_empty()) {
        let _ = writeln!(text, "{}", field(step, "name"));
        let mut before = String::new();
        for action in actions(step) {
            let on = field(&action, "on");
            if on != before {
                let _ = writeln!(text, "  on {on}:");
                before = on;
            }
            let _ = writeln!(text, "    {}", field(&action, "action").replace('\n', "\n    "));
        }
    }
    if text.is_empty() { "Nothing would be changed.\n".into() } else { text }
}

/// Whether a value needs a table of its own.
fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// `rows_source` as people write it; units go to the value.
fn title(key: &str) -> String {
    match key {
        "ms" | "seconds" => return "time".into(),
        "bytes" => return "size".into(),
        _ => {}
    }
    let words = key.strip_suffix("_bytes").or(key.strip_suffix("_ms")).or(key.strip_suffix("_seconds"));
    words.unwrap_or(key).replace('_', " ").replace("lsn", "LSN")
}

/// A value in its unit, which the key names.
fn cell(key: &str, value: &Value) -> String {
    let seconds = |value: &Value| value.as_f64().and_then(|value| Duration::try_from_secs_f64(value).ok());
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let is = |unit: &str| key == unit || key.ends_with(&format!("_{unit}"));
            match (number.as_u64(), seconds(value)) {
                (Some(number), _) if is("bytes") => bytes(number),
                (_, Some(time)) if is("ms") => duration(time / 1000),
                (_, Some(time)) if is("seconds") => duration(time),
                (Some(number), _) => grouped(number),
                _ => number.to_string(),
            }
        }
        Value::Array(items) => items.iter().map(|item| cell(key, item)).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pairs = fields.iter().filter(|(_, value)| !is_empty(value));
            pairs
                .map(|(key, value)| format!("{} {}", title(key), cell(key, value)))
                .collect::<Vec<_>>()
                .join(", ")
        }
    }
}

/// A number as it is, a list by its length.
fn count(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::Array(items)) => items.len() as u64,
        Some(value) => value.as_u64().unwrap_or(0),
        None => 0,
    }
}

/// `1 change`, `2 changes`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// `1 change is`, `2 changes are`.
pub fn plural_is(number: u64, noun: &str) -> String {
    format!("{} {}", plural(number, noun), if number == 1 { "is" } else { "are" })
}

/// The same of what has happened: `1 change was`, `2 changes were`.
pub fn plural_was(number: u64, noun: &str) -> String {
    format!("{} {}", plural(number, noun), if number == 1 { "was" } else { "were" })
}

/// `3,400,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `17 B`, `1.5 GB`, in multiples of 1024 as PostgreSQL writes them.
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TB")
}

/// `16.2 ms`, `3.4 s`, `2 min 5 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0 => format!("{:.1} ms", seconds * 1000.0),
        1..120 => format!("{seconds:.1} s"),
        120..7200 => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
        _ => format!("{} h {} min", time.as_secs() / 3600, time.as_secs() / 60 % 60),
    }
}
