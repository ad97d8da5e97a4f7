//! The folders in tests/cases: a schema, its maintenance, the mapping, changes, and what must come of them.
//!
//! What a case's files hold is said in `tests/cases/README.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::detour::Detour;
use crate::support::postgres::Postgres;

struct Case {
    name: String,
    folder: PathBuf,
}

impl Case {
    /// All cases, by name: those whose changes fit, or the others.
    fn find(conflicts: bool) -> Vec<Case> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
        let folders =
            std::fs::read_dir(&all).expect("tests/cases is there").flatten().map(|entry| entry.path());
        let mut cases: Vec<Case> = folders
            .filter(|folder| folder.is_dir() && folder.join("mend.sql").exists() == conflicts)
            .map(|folder| {
                let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
                Case { name, folder }
            })
            .collect();
        cases.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(!cases.is_empty(), "there are no cases in {}", all.display());
        cases
    }

    fn read(&self, file: &str) -> String {
        let path = self.folder.join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs one of its files statement by statement, as psql does.
    fn run(&self, file: &str, server: &Postgres, conninfo: &str) {
        let path = self.folder.join(file);
        let output = Command::new(server.client_program("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", conninfo, "--file"])
            .arg(&path)
            .output()
            .expect("psql can be started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}:\n{said}", path.display());
    }

    /// Makes its tables before the detour, on the source: the mirror brings them to the target.
    fn make(&self, source: &Postgres) {
        source.exec(&format!("create schema {}", self.name));
        self.run("target.sql", source, &source.conninfo("dba"));
        self.grant(source);
    }

    /// Runs its maintenance, and gives what it has made anew its grants, as whoever does maintenance has to.
    fn maintain(&self, source: &Postgres) {
        self.run("source.sql", source, &source.conninfo("dba"));
        self.grant(source);
    }

    /// Lets the application do everything with what is in its schemas.
    fn grant(&self, server: &Postgres) {
        let schemas = server.client("dba").query("select nspname::text from pg_namespace", &[]);
        for row in schemas.expect("schemas can be listed") {
            let schema: &str = row.get(0);
            if self.owns(&format!("{schema}.")) {
                server.exec(&format!(
                    "grant usage on schema {schema} to shop_app; grant all on all tables in schema {schema} to shop_app;
                     grant all on all sequences in schema {schema} to shop_app"
                ));
            }
        }
    }

    /// Whether a table, as `schema.table`, is its own.
    fn owns(&self, table: &str) -> bool {
        let schema = table.split('.').next().unwrap_or_default();
        schema.strip_prefix(&self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }

    /// Its tables' rows, in order of their text.
    fn tables(&self, server: &Postgres) -> String {
        let mut client = server.client("dba");
        let tables = client
            .query(
                "select c.oid::regclass::text, n.nspname::text,
                        (select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum)
                           from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped)
                   from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                  where c.relkind in ('r', 'p') and not c.relispartition order by 1",
                &[],
            )
            .expect("tables can be listed");
        let mut text = String::new();
        for row in tables.iter().filter(|row| self.owns(&format!("{}.", row.get::<_, &str>(1)))) {
            let table: &str = row.get(0);
            let _ = writeln!(text, "\n{table} ({})", row.get::<_, &str>(2));
            let rows = format!("select t::text from {table} as t order by t::text collate \"C\"");
            for row in client.query(&rows, &[]).expect("rows can be read") {
                let _ = writeln!(text, "  {}", row.get::<_, &str>(0));
            }
        }
        text
    }

    /// What it came to is what its folder says; with `UPDATE` its folder says so from now on.
    fn settle(&self, found: &str, mistakes: &mut Vec<String>) {
        if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
            std::fs::write(self.folder.join("expected.out"), found).expect("the folder can be written");
            return;
        }
        let expected = self.read("expected.out");
        if expected != found {
            mistakes.push(format!("{}:\n--- expected\n{expected}\n--- found\n{found}", self.name));
        }
    }
}

/// Lines of a list in the latest answer that are about tables of a case.
fn lines_about(case: &Case, list: &Value, line: impl Fn(&Value) -> String) -> String {
    let own = list.as_array().expect("a list").iter().filter(|entry| {
        ["from", "table"].iter().any(|key| entry[key].as_str().is_some_and(|table| case.owns(table)))
    });
    own.map(line).collect()
}

/// `0/1A2B3C` and numbers of changes differ from run to run.
fn without_positions(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let is_position = word.split_once('/').is_some_and(|(high, low)| {
            !low.is_empty() && [high, low].iter().all(|part| part.chars().all(|c| c.is_ascii_hexdigit()))
        });
        if is_position { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// One line a column of each table: what becomes of it.
fn lint_lines(entry: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| "-".to_owned(), str::to_owned);
    let mut lines = format!("\nlint {} -> {}\n", text(&entry["from"]), text(&entry["to"]));
    for column in entry["columns"].as_array().into_iter().flatten() {
        let lossless = match column["lossless"].as_bool() {
            Some(true) => " lossless",
            Some(false) => " lossy",
            None => "",
        };
        let _ = writeln!(
            lines,
            "  {} {} -> {} {}: {}{lossless}",
            text(&column["column"]),
            text(&column["from_type"]),
            text(&column["to_column"]),
            text(&column["to_type"]),
            text(&column["fate"]),
        );
    }
    for doubt in entry["doubts"].as_array().into_iter().flatten() {
        let _ = writeln!(lines, "  {}: {}", text(&doubt["kind"]), text(&doubt["message"]));
    }
    lines
}

#[test]
fn what_the_case_folders_map_arrives_as_they_expect() {
    let cases = Case::find(false);
    let mut detour = Detour::new();
    for case in &cases {
        case.make(&detour.source);
    }
    detour = detour.detoured();
    for case in &cases {
        case.maintain(&detour.source);
        detour = detour.configured(&case.read("map.toml"));
    }
    detour = detour.run("replay").with(&["--lint"]).exits(0);
    let lint = detour.last().at("/report/lint").clone();
    for case in &cases {
        case.run("changes.sql", &detour.source, &detour.application_conninfo());
    }
    detour = detour.run("replay").with(&["--rehearse"]).exits(0).changed(false).reports("/failed", 0);
    assert!(detour.last().at("/report/rows").as_u64() > Some(50), "{}", detour.last().describe());
    detour = detour.run("replay").with(&["--rehearse", "--sample", "2"]).exits(0).reports("/failed", 0);
    detour = detour.run("replay").exits(0).reports("/caught_up", true);
    detour = detour.run("verify").exits(0).reports("/equal", true);
    let mut mistakes = Vec::new();
    for case in &cases {
        let compared = lines_about(case, detour.last().at("/report/tables"), |table| {
            format!("equal {}: {} rows\n", table["table"].as_str().unwrap_or_default(), table["rows_source"])
        });
        let found = format!(
            "{}{}\n{compared}",
            lines_about(case, &lint, lint_lines).trim_start(),
            case.tables(&detour.source)
        );
        case.settle(&found, &mut mistakes);
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n\n"));
    detour.run("cutback").exits(0);
}

/// A row that would not fit, in a line.
fn failure_line(failure: &Value) -> String {
    let text = |key: &str| failure[key].as_str().unwrap_or("-");
    format!(
        "  {} {}: {}, column {}, SQLSTATE {}, constraint {}\n",
        text("table"),
        text("key"),
        text("message"),
        text("column"),
        text("sqlstate"),
        text("constraint"),
    )
}

/// Its entries in the quarantine, one a line.
fn entry_line(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
    let json = |key: &str| if entry[key].is_null() { "-".to_owned() } else { entry[key].to_string() };
    format!(
        "  {} {} {}: {}, key {} -> {}, SQLSTATE {}, constraint {}, mapped {}\n",
        text("operation"),
        text("table"),
        text("kind"),
        text("message"),
        json("key"),
        json("key_after"),
        text("sqlstate"),
        text("constraint"),
        json("mapped"),
    )
}

#[test]
fn what_the_case_folders_make_conflict_stops_or_is_set_aside_and_fits_in_the_end() {
    let cases = Case::find(true);
    let mut detour = Detour::new().configured("[replay]\non_conflict = \"stop\"");
    for case in &cases {
        case.make(&detour.source);
    }
    detour = detour.detoured();
    for case in &cases {
        case.maintain(&detour.source);
        detour = detour.configured(&case.read("map.toml"));
    }
    let mut found: Vec<String> = Vec::new();
    for case in &cases {
        let before = case.tables(&detour.source);
        case.run("changes.sql", &detour.source, &detour.application_conninfo());
        detour = detour.run("replay").exits(8);
        let error = detour.last().at("/error").clone();
        let mut text = String::from("stop\n");
        for key in ["kind", "message", "detail", "hint"] {
            let _ = writeln!(text, "  {key}: {}", without_positions(error[key].as_str().unwrap_or("-")));
        }
        found.push(text);
        assert_eq!(
            case.tables(&detour.source),
            before,
            "{}: the transaction left something behind",
            case.name
        );
        detour = detour
            .reconfigured("\"stop\"", "\"quarantine\"")
            .run("replay")
            .exits(0)
            .reports("/caught_up", true)
            .reconfigured("\"quarantine\"", "\"stop\"");
    }
    detour = detour.run("replay").with(&["--quarantine", "list"]).exits(0);
    let entries = detour.last().at("/report/entries").clone();
    detour = detour.run("replay").with(&["--rehearse"]).exits(8).changed(false).kind("rehearsal");
    let failures = detour.last().at("/report/failures").clone();
    for (case, text) in cases.iter().zip(&mut found) {
        let _ = write!(
            text,
            "\nquarantine\n{}{}\nrehearse\n{}",
            lines_about(case, &entries, entry_line),
            case.tables(&detour.source),
            sorted(&lines_about(case, &failures, failure_line)),
        );
        case.run("mend.sql", &detour.source, &detour.source.conninfo("dba"));
    }
    detour = detour.run("replay").with(&["--quarantine", "retry"]).exits(0).reports("/quarantined", 0);
    detour = detour.run("verify").exits(0).reports("/equal", true);
    let mut mistakes = Vec::new();
    for (case, text) in cases.iter().zip(&mut found) {
        let _ = write!(text, "\nmended\n{}", case.tables(&detour.source));
        case.settle(text, &mut mistakes);
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n\n"));
    detour.run("cutback").exits(0);
}

/// Lines in order of their text: rows are tried as they are stored.
fn sorted(lines: &str) -> String {
    let mut lines: Vec<&str> = lines.split_inclusive('\n').collect();
    lines.sort_unstable();
    lines.concat()
}
